"""The tool on a real model, SmolLM2-135M: what a person waits for, beside one pass over the same tokens."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.compare import random_edit
from benchmarks.fit import run_floor
from benchmarks.side_by_side import Figure, median_ratio, time_sides
from detox_engine.data.bundled import bundled_pairs, bundled_prompts
from detox_engine.data.pairs import collect_pairs
from detox_engine.data.stream import open_pairs
from detox_engine.data.texts import read_prompts
from detox_engine.errors import InputError
from detox_engine.forward.compare import compare_prompts, generate
from detox_engine.plans.evaluation import SWEEP_EVALUATION, SweepPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import BUNDLED, SMOLLM2, ModelSpec, PairSpec
from detox_engine.reading.causal import read_causally, run_clean
from detox_engine.scoring.sweep import run_sweep
from detox_engine.study.fit import fit_pairs
from detox_engine.study.study import Study
from detox_engine.study.suggestion.search import suggest_edit
from detox_engine.workbench import Workbench

FEW = 60
"""Pairs of a quick look."""


def benchmark_fit(bench: Workbench, spec: PairSpec, rounds: int) -> list[Figure]:
    """All of a fit after loading, from the file to the study, beside a bare pass over the real tokens."""
    file = bundled_pairs(bench.model.spec.name)
    prepared = bench.model, collect_pairs(open_pairs(spec, file)).pairs
    sides = {
        "floor": partial(run_floor, prepared),
        "ours": lambda: fit_pairs(bench.model, FitPlan(spec), open_pairs(spec, file)),
    }
    seconds = time_sides(sides, rounds, warm=False)
    name = f"fit, SmolLM2-135M, {len(prepared[1])} pairs / floor"
    return [Figure(name, median_ratio(seconds, "ours", "floor"), "×", 1.15, 1.05, seconds)]


def clock(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def benchmark_suggestion(bench: Workbench, study: Study) -> tuple[list[Figure], Study]:
    """Finding an edit to suggest, and confirming or refuting it."""
    taken, suggested = clock(lambda: suggest_edit(bench.model, study))
    figures = [Figure("suggestion, SmolLM2-135M", taken, "s", 60, 40)]
    if suggested.suggestion.edit is not None:
        taken, _ = clock(lambda: bench.check(suggested))
        figures.append(Figure("check of the suggestion, SmolLM2-135M", taken, "s", 300, 120))
    return figures, suggested


def benchmark_causal(bench: Workbench, study: Study, rounds: int) -> list[Figure]:
    """One direction two thirds of the way up, with nothing kept from before."""
    layer = round(2 / 3 * study.layers)
    basis, off = study.subspaces[layer].basis[:1], study.sinks.dimensions

    def read() -> None:
        read_causally(bench.model, run_clean(bench.model, [layer]), layer, basis, off=off)

    seconds = time_sides({"ours": read}, rounds)
    return [Figure("causal reading of a direction, SmolLM2-135M", statistics.median(seconds["ours"]), "s", 3, 2)]


def benchmark_comparison(bench: Workbench, prompts: int, rounds: int) -> list[Figure]:
    """Before and after together beside before alone, 20 new tokens after each of a few prompts."""
    texts = read_prompts(BUNDLED, bundled_prompts(bench.model.spec.name))[:prompts]
    edit, plan = random_edit(bench.model.anatomy, 1, round(0.4 * bench.model.anatomy.layers)), SamplingPlan()
    sides = {
        "before alone": lambda: generate(bench.model, texts, [None], plan),
        "both": lambda: compare_prompts(bench.model, texts, edit, plan, probabilities=False),
    }
    seconds = time_sides(sides, rounds)
    ratio = median_ratio(seconds, "both", "before alone")
    return [Figure(f"before+after / before alone, SmolLM2-135M, {prompts} prompts", ratio, "×", 1.35, 1.2, seconds)]


def benchmark_sweep(bench: Workbench, study: Study) -> list[Figure]:
    """Nine settings: three ranks from each of three first layers."""
    plan = SweepPlan((1, 2, 4), (12, 16, 20), evaluation=SWEEP_EVALUATION)
    taken, found = clock(lambda: run_sweep(bench.model, study, plan))
    return [Figure(f"sweep of {len(found.points)} settings, SmolLM2-135M", taken, "s", 570, 180)]


def measure(quick: bool) -> list[Figure]:
    try:
        bench = Workbench.load(ModelSpec(SMOLLM2))
    except InputError as error:
        print(f"Nothing is timed on a real model. {error}")
        return []
    spec, rounds = PairSpec(limit=FEW if quick else None), 1 if quick else 3
    figures = benchmark_fit(bench, spec, 1 if quick else 2)
    study = bench.fit(FitPlan(spec))
    found, study = benchmark_suggestion(bench, study)
    figures += found + benchmark_causal(bench, study, rounds) + benchmark_comparison(bench, 4, rounds)
    return figures if quick else figures + benchmark_sweep(bench, study)
