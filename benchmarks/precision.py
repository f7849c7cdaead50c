"""What a number format saves and costs: bfloat16 beside float32, and float32 beside float64."""

from functools import partial

import torch

from benchmarks.fit import prepare_file, run_fit
from benchmarks.side_by_side import Figure, median_ratio, time_sides
from detox_engine.data.bundled import DEMO
from detox_engine.data.pairs import read_pairs
from detox_engine.forward.embed import embed_pairs
from detox_engine.plans.sources import ModelSpec, PairSpec
from detox_engine.study.methods import fit_subspaces
from detox_engine.study.subspace import ToxicSubspace, principal_angles
from detox_engine.workbench import Workbench

LEADING = 8
"""Singular values whose error is reported: those that a spectrum is read by."""


def benchmark_bfloat16(pairs: int, rounds: int) -> Figure:
    sides = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        sides[name] = partial(run_fit, prepare_file("gpt2", pairs, dtype=dtype))
    seconds = time_sides(sides, rounds)
    ratio = median_ratio(seconds, "bfloat16", "float32")
    return Figure(f"fit in bfloat16 / in float32, gpt2, {pairs} pairs", ratio, "×")


def fit_bundled(limit: int, dtype: str) -> tuple[ToxicSubspace, ...]:
    """Subspaces of the bundled model in a number format; float64 is the reference."""
    bench = Workbench.load(ModelSpec(dtype="float32" if dtype == "float64" else dtype))
    if dtype == "float64":
        bench.model.network.double()
    pairs = read_pairs(PairSpec(limit=limit), DEMO / "pairs.jsonl").pairs
    embeddings = embed_pairs(bench.model, pairs)
    return fit_subspaces(embeddings.toxic, embeddings.civil, 32)


def compare_fits(found: tuple[ToxicSubspace, ...], exact: tuple[ToxicSubspace, ...]) -> tuple[float, float]:
    """The largest relative error of a leading singular value, and the largest angle of a first direction in degrees."""
    errors = [
        ((one.singular_values - other.singular_values) / other.singular_values)[:LEADING].abs().max().item()
        for one, other in zip(found, exact, strict=True)
    ]
    angles = [principal_angles(one.basis[:1], other.basis[:1]).item() for one, other in zip(found, exact, strict=True)]
    return max(errors), max(angles)


def measure(quick: bool) -> list[Figure]:
    limit = 40 if quick else 400
    exact = fit_bundled(limit, "float64")
    plain_error, plain_angle = compare_fits(fit_bundled(limit, "float32"), exact)
    short_error, short_angle = compare_fits(fit_bundled(limit, "bfloat16"), exact)
    return [
        benchmark_bfloat16(4 if quick else 40, 2 if quick else 3),
        Figure("float32 fit against float64, singular values, relative", plain_error, "", 1e-4),
        Figure("float32 fit against float64, first direction", plain_angle, "°", 0.1),
        Figure("bfloat16 fit against float64, singular values, relative", short_error, ""),
        Figure("bfloat16 fit against float64, first direction", short_angle, "°"),
    ]
