"""Before and after together, beside before alone and beside a plain batch of as many rows; what a switch costs."""

import statistics
import time

import torch

from benchmarks.inputs import make_prompts, place_model
from benchmarks.side_by_side import Figure, median_ratio, time_sides
from detox_engine.edit.in_pass import edited
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.forward.compare import compare_prompts, generate
from detox_engine.model.anatomy import Anatomy
from detox_engine.model.load import OpenModel
from detox_engine.plans.sampling import SamplingPlan


def random_edit(anatomy: Anatomy, rank: int, first: int, seed: int = 0) -> LowRankEdit:
    generator = torch.Generator().manual_seed(seed)
    bases = {
        layer: torch.linalg.qr(torch.randn(anatomy.hidden, rank, generator=generator)).Q.T
        for layer in range(first, anatomy.layers)
    }
    return LowRankEdit(bases)


def benchmark_comparison(model: OpenModel, prompts: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of both sides, of one alone, and of twice the prompts without an edit.

    All of 20 new tokens; the upper 60% of the layers are edited.
    """
    texts, plan = make_prompts(2 * prompts), SamplingPlan()
    few = texts[:prompts]
    edit = random_edit(model.anatomy, 2, round(0.4 * model.anatomy.layers))
    return time_sides(
        {
            "before alone": lambda: generate(model, few, [None], plan),
            "both": lambda: compare_prompts(model, few, edit, plan, probabilities=False),
            "twice the prompts": lambda: generate(model, texts, [None], plan),
        },
        rounds,
    )


def benchmark_switch(anatomy: Anatomy, rounds: int) -> float:
    """Median milliseconds to leave one edit of all layers and carry another, made anew each time."""
    taken = []
    for round_number in range(rounds * 10):
        edit = random_edit(anatomy, 2, 0, round_number)
        start = time.perf_counter()
        with edited(anatomy, [None, edit]):
            taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken)


def measure(quick: bool) -> list[Figure]:
    rounds = 2 if quick else 7
    figures = []
    for shape, prompts, must, aim in (("gpt2", 1, 1.15, 1.0), ("gpt2", 4, 1.35, 1.2), ("gpt2-medium", 4, 1.35, 1.2)):
        if quick and shape != "gpt2":
            continue
        model = place_model(shape)
        seconds = benchmark_comparison(model, prompts, rounds)
        count = "one prompt" if prompts == 1 else f"{prompts} prompts"
        name, medians = f"before and after for {count}", {side: statistics.median(seconds[side]) for side in seconds}
        alone, plain = (median_ratio(seconds, "both", side) for side in ("before alone", "twice the prompts"))
        figures += [
            Figure(f"{name} / before alone, {shape}", alone, "×", must, aim, medians),
            # At least 0.9 of its speed.
            Figure(f"{name} / one plain batch of twice the size, {shape}", plain, "×", 1 / 0.9, 1.0, medians),
        ]
    anatomy = place_model("gpt2").anatomy
    size = sum(basis.nbytes for basis in random_edit(anatomy, 2, 0).bases.values())
    return [
        *figures,
        Figure("switching the edit, rank 2, all layers", benchmark_switch(anatomy, rounds), "ms", 5, 1),
        Figure("memory of an edit, rank 2, all layers", size / 2**20, "MB", 1),
    ]
