"""The trade-off grid: many settings at once, beside each of them alone."""

import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.side_by_side import Figure, time_sides
from detox_engine.plans.evaluation import SWEEP_EVALUATION, SweepPlan
from detox_engine.scoring.sweep import make_grid, run_sweep
from detox_engine.study.study import Study
from detox_engine.workbench import Workbench

RANKS = (1, 4)
"""With every first layer of the bundled model's eight: 16 settings, half of what the Trade-offs page offers."""


def benchmark_grid(plan: SweepPlan, rounds: int) -> Figure:
    """Seconds for the whole grid over the seconds of its settings one by one, the model loaded and fitted before.

    Alone as in the grid, a setting is a sweep: it writes and reads before the edit, after it and under its random
    control, and comes with intervals. So what the grid saves is what its settings share.
    """
    bench = Workbench.load()
    with tempfile.TemporaryDirectory() as folder:
        # As on the command line, in a process of its own.
        command = (sys.executable, "-m", "detox_engine", "fit", "--out", f"{folder}/study", "--json")
        subprocess.run(command, check=True, capture_output=True)
        study = Study.load(Path(folder) / "study")
    settings = make_grid(plan, study.layers)
    sides = {"grid": partial(run_sweep, bench.model, study, plan)}
    for setting in settings:
        alone = SweepPlan((setting.rank,), (setting.layers[0],), evaluation=plan.evaluation)
        sides[f"rank {setting.rank} from layer {setting.layers[0]}"] = partial(run_sweep, bench.model, study, alone)
    run_sweep(bench.model, study, alone)
    seconds = time_sides(sides, rounds, warm=False)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    together = medians["grid"] / (sum(medians.values()) - medians["grid"])
    prompts = plan.evaluation.limit_prompts
    name = f"{len(settings)} settings × {prompts} prompts / {len(settings)} × one alone, bundled model"
    return Figure(name, together, "×", 0.6, 0.35, medians)


def measure(quick: bool) -> list[Figure]:
    if quick:
        few = replace(SWEEP_EVALUATION, limit_prompts=4, neutral=replace(SWEEP_EVALUATION.neutral, limit=4))
        return [benchmark_grid(SweepPlan((1,), (0, 4), evaluation=few), 1)]
    return [benchmark_grid(SweepPlan(RANKS), 2)]
