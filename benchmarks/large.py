"""Mixtures of experts beside a dense model of the same active size, and a split model beside a whole one."""

import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.compare import random_edit
from benchmarks.fit import run_floor
from benchmarks.inputs import make_model, make_pairs, make_tokenizer
from benchmarks.side_by_side import Figure, median_ratio, time_sides
from detox_engine.data.columns import Pair
from detox_engine.forward.embed import embed_pairs
from detox_engine.model.load import OpenModel, load_model
from detox_engine.plans.sources import ModelSpec


def benchmark_mixture(pairs: tuple[Pair, ...], rounds: int) -> list[Figure]:
    """Embedding under no edit and under one of all layers, beside plain passes over the same tokens."""
    models = {shape: make_model(shape) for shape in ("dense", "mixture")}
    sides = {f"{shape}, plain pass": partial(run_floor, (model, pairs)) for shape, model in models.items()}
    sides |= {f"{shape}, embedded": partial(embed_pairs, model, pairs) for shape, model in models.items()}
    mixture = models["mixture"]
    edit = random_edit(mixture.anatomy, 2, 0)
    sides["mixture, edited"] = partial(embed_pairs, mixture, pairs, edit=edit)
    seconds = time_sides(sides, rounds)
    medians = {side: statistics.median(taken) for side, taken in seconds.items()}
    told = f"{len(pairs)} pairs"
    return [
        Figure(
            f"mixture / dense of the same active size, {name}, {told}",
            median_ratio(seconds, f"mixture, {side}", f"dense, {side}"),
            "×",
            details=medians,
        )
        for name, side in (("plain passes", "plain pass"), ("embedding", "embedded"))
    ] + [
        Figure(
            f"embedding a mixture under an edit of all layers / without, {told}",
            median_ratio(seconds, "mixture, edited", "mixture, embedded"),
            "×",
            1.15,
            1.05,
        )
    ]


def benchmark_split(pairs: tuple[Pair, ...], rounds: int) -> list[Figure]:
    """Embedding with some of the weights on disk, which the system keeps in its cache here."""
    with TemporaryDirectory(prefix="detox-benchmark-") as place:
        model = make_model("dense")
        model.network.save_pretrained(place)
        make_tokenizer().save_pretrained(place)
        whole = load_model(ModelSpec(str(Path(place)), device="cpu", dtype="float32"))
        size = sum(weight.nbytes for weight in whole.network.parameters())
        split = load_model(replace(whole.spec, device_map=f"cpu={3 * size // 4096}KiB"))
        away = sum(weight.nbytes for weight in split.network.parameters() if weight.device.type == "meta")
        sides = {"split": partial(embed_pairs, split, pairs), "whole": partial(embed_pairs, whole, pairs)}
        seconds = time_sides(sides, rounds)
        error = _largest_error(whole, split, pairs)
    told = f"{away / size:.0%} of the weights on disk, {len(pairs)} pairs"
    return [
        Figure(f"split / whole, embedding, {told}", median_ratio(seconds, "split", "whole"), "×", details=seconds),
        Figure("split against whole, largest difference of an embedding, relative", error, "", 1e-5),
    ]


def _largest_error(whole: OpenModel, split: OpenModel, pairs: tuple[Pair, ...]) -> float:
    expected, found = (embed_pairs(model, pairs[:10]).toxic for model in (whole, split))
    return float(torch.linalg.vector_norm(expected - found, dim=-1).max() / expected.norm(dim=-1).max())


def measure(quick: bool) -> list[Figure]:
    rounds, pairs = (1, make_pairs(10)) if quick else (5, make_pairs(40))
    return benchmark_mixture(pairs, rounds) + benchmark_split(pairs, rounds)
