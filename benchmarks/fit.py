"""The fit: beside a bare pass over the real tokens (the floor), and beside the published procedure."""

import json
import statistics
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.inputs import make_model, make_pairs
from benchmarks.published import fit_as_published
from benchmarks.side_by_side import Figure, measure_peak, median_ratio, time_sides
from detox_engine.data.columns import Pair
from detox_engine.data.stream import open_pairs
from detox_engine.forward.embedded_pairs import Embeddings
from detox_engine.model.load import OpenModel
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import PairSpec
from detox_engine.study.fit import fit_pairs
from detox_engine.study.methods import fit_subspaces
from detox_engine.study.noise.null_spectra import draw_null_spectra
from detox_engine.study.noise.threshold import find_noise_thresholds
from detox_engine.study.subspace import decompose, principal_angles

PACKED = 1024
"""Tokens of one row of the floor: texts end to end, cut into rows, nothing padded."""

SHORT = 5
"""Tokens of a text where only its number counts."""

Prepared = tuple[OpenModel, tuple[Pair, ...]]
PreparedFile = tuple[OpenModel, TemporaryDirectory]
PAIRS_FILE = "pairs.jsonl"


def prepare(shape: str, pairs: int) -> Prepared:
    model = make_model(shape)
    return model, make_pairs(pairs)


@torch.inference_mode()
def run_floor(prepared: Prepared) -> None:
    """The trunk over the same real tokens, packed without padding, in short rows; no hooks, no head."""
    model, pairs = prepared
    ids = [
        token
        for pair in pairs
        for text in (pair.toxic_text, pair.civil_text)
        for token in model.tokenizer(text)["input_ids"]
    ]
    # Rows of 32 tokens, about the texts' mean length: attention over longer rows would be work that no text asks for.
    rows = torch.tensor(ids[: len(ids) // 32 * 32], device=model.device).view(-1, 32)
    for batch in rows.split(PACKED // 32):
        model.anatomy.trunk(input_ids=batch, use_cache=False)


def run_published(prepared: Prepared) -> None:
    fit_as_published(*prepared)


def benchmark_shape(shape: str, pairs: int, rounds: int, against_published: bool) -> list[Figure]:
    """All of a fit after loading, from the file to the study."""
    model, folder = prepare_file(shape, pairs)
    prepared = model, make_pairs(pairs)
    sides = {"floor": partial(run_floor, prepared), "ours": partial(run_fit, (model, folder))}
    seconds = time_sides(sides, rounds)
    if against_published:
        # It takes several times as long as the rest together: one round, beside one more of ours.
        slow = time_sides({"ours": sides["ours"], "published": partial(run_published, prepared)}, 1, warm=False)
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    name = f"fit, {shape}, {pairs} pairs"
    figures = [Figure(f"{name} / floor", median_ratio(seconds, "ours", "floor"), "×", 1.15, 1.05, medians)]
    if against_published:
        figures.append(
            Figure(f"{name} / published procedure", median_ratio(slow, "ours", "published"), "×", 0.25, 0.18, slow)
        )
    return figures


def benchmark_memory(shape: str, pairs: int) -> list[Figure]:
    sides = {"floor": (prepare, run_floor), "ours": (prepare_file, run_fit), "published": (prepare, run_published)}
    peaks = {name: measure_peak(partial(make, shape, pairs), side) for name, (make, side) in sides.items()}
    return [Figure(f"memory above the model, fit, {shape}, {pairs} pairs", peaks["ours"], "MB", 300, 150, peaks)]


def prepare_file(shape: str, pairs: int, text: int | None = None, dtype: torch.dtype = torch.float32) -> PreparedFile:
    """A model and a file of pairs, all texts `text` tokens long or with the usual mix of lengths."""
    model = make_model(shape, dtype)
    folder = TemporaryDirectory(prefix="detox-benchmark-")
    with Path(folder.name, PAIRS_FILE).open("w", encoding="utf-8") as lines:
        for pair in make_pairs(pairs):
            sides = (" ".join(side.split()[:text]) for side in (pair.toxic, pair.civil))
            lines.write(json.dumps(dict(zip(("toxic", "civil"), sides, strict=True))) + "\n")
    return model, folder


def run_fit(prepared: PreparedFile) -> None:
    """All of a fit, from the file to the study."""
    model, folder = prepared
    file = Path(folder.name, PAIRS_FILE)
    spec = PairSpec(str(file))
    fit_pairs(model, FitPlan(spec), open_pairs(spec, file))


def benchmark_growth(shape: str, pairs: int) -> list[Figure]:
    """Ten times the pairs, timed side by side: all of the fit, from the file."""
    sides = {"few": prepare_file(shape, pairs), "many": prepare_file(shape, 10 * pairs)}
    seconds = time_sides({name: partial(run_fit, side) for name, side in sides.items()}, 1)
    ratio = median_ratio(seconds, "many", "few")
    return [Figure(f"10× the pairs: time, {shape}, {pairs} pairs", ratio, "×", 10.5, 10, seconds)]


def benchmark_streaming_memory(shape: str, pairs: int) -> list[Figure]:
    """Ten times the pairs, more than are kept: peaks in fresh processes, of short texts, whose number alone counts."""
    peaks = {
        f"{count} pairs": measure_peak(partial(prepare_file, shape, count, SHORT), run_fit)
        for count in (pairs, 10 * pairs)
    }
    few, many = peaks.values()
    name = f"10× the pairs once streaming: memory, {shape}, {pairs} pairs"
    return [Figure(name, many / few, "×", 1.1, 1.0, peaks)]


def benchmark_subspaces(rounds: int) -> list[Figure]:
    """All layers' subspaces from 500 pairs, 24 layers of width 1024, beside a float64 SVD of each."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.logspace(0, -4, 1024)
    toxic, civil = (torch.randn(24, 500, 1024, generator=generator) * scale for _ in range(2))
    civil[..., 0] += 5
    seconds = time_sides({"ours": lambda: fit_subspaces(toxic, civil, 32)}, rounds)
    matrix = toxic[0].double() - civil[0].double()
    values, basis = decompose(matrix, 32)
    exact = torch.linalg.svd(matrix, full_matrices=False)
    error = ((values - exact.S) / exact.S).abs().max().item()
    angle = principal_angles(basis, exact.Vh[:32]).max().item()
    return [
        Figure("subspaces, 500 pairs, 24 layers × 1024", statistics.median(seconds["ours"]), "s", 2, 0.5),
        Figure("singular values against a float64 SVD, relative", error, "", 1e-4),
        Figure("subspace against a float64 SVD", angle, "°", 0.1),
    ]


def benchmark_noise(rounds: int, layers: int) -> list[Figure]:
    """What a fit says of noise, and what it says on request, of spectra that fall and fall as those of text do."""
    pairs, hidden = 560, 576
    generator = torch.Generator().manual_seed(0)
    scale = torch.arange(1, hidden + 1).pow(-0.5)
    toxic, civil = (torch.randn(layers, pairs, hidden, generator=generator) * scale for _ in range(2))
    subspaces = fit_subspaces(toxic, civil, 32)
    seconds = time_sides({"band": lambda: find_noise_thresholds(subspaces, pairs, hidden)}, rounds)
    embeddings = Embeddings(toxic, civil, 0, ())
    asked = time_sides({"analysis": lambda: draw_null_spectra(embeddings, subspaces)}, 1, warm=False)
    case = f"{pairs} pairs, {layers} layers × {hidden}"
    return [
        Figure(f"noise band, {case}", statistics.median(seconds["band"]), "s", 1, 0.3, seconds),
        Figure(f"parallel analysis on request, {case}", statistics.median(asked["analysis"]), "s"),
    ]


def measure(quick: bool) -> list[Figure]:
    rounds = 2 if quick else 5
    figures = benchmark_shape("gpt2", 40 if quick else 200, rounds, against_published=True)
    if not quick:
        figures += benchmark_shape("small-llama", 60, 3, against_published=False)
    figures += benchmark_memory("gpt2", 40 if quick else 200)
    figures += benchmark_growth("gpt2", 10 if quick else 40)
    if not quick:
        figures += benchmark_streaming_memory("gpt2", 800)
    return figures + benchmark_subspaces(rounds) + benchmark_noise(rounds, 2 if quick else 30)
