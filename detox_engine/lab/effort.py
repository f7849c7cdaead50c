"""What a lab takes: how long, told before it begins, and what something took, in time and memory.

The estimate goes by the study's own pass over its pairs, whose tokens and time it knows. The factors were measured on
the bundled model and on SmolLM2-135M on two cores; another machine, or another load, than the one that fitted the study
is told wrong by as much as it differs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from time import perf_counter
from typing import TYPE_CHECKING

import psutil

from detox_engine.lab.baselines import baselines
from detox_engine.lab.equal_cost import ROUNDS, TOKENS
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.lab.experiments import BenchPlan, CurvePlan, LinkPlan
from detox_engine.plans.lab.training import TrainingPlan
from detox_engine.study.study import Study

if TYPE_CHECKING:
    from detox_engine.lab.curves import Setting

READ = 1.3
"""What a token read with its head costs, where one that is embedded costs 1."""
WRITTEN = 6.0
"""What one written token of one row costs: rows are written together, but token by token."""
TRAINED = 5.0
"""What a token of a pair costs in a step of DPO: forward with the adapter and without, and back."""
STRENGTHS = 1 + ROUNDS / 2
"""Strengths at which a contestant is read to match its cost."""
PROMPT = 40
"""Tokens of a prompt with what is written after it."""
LOOK_EVERY = 0.02
"""Seconds between two looks at the memory."""


def find_seconds_a_token(study: Study) -> float:
    """What one token of the study's pairs took; 0 where it does not know."""
    return study.seconds.get("embed", 0.0) / max(1, study.tokens)


def estimate_curve(study: Study, plan: CurvePlan, settings: "Sequence[Setting]") -> float:
    """Seconds of a curve with these settings."""
    tokens = len(settings) * (STRENGTHS * TOKENS * READ + _measure(plan.evaluation))
    trained = [setting for setting in settings if baselines().get(setting.method) and _trains(setting.method)]
    first = len(plan.training.learning_rates) if trained else 0
    tokens += (len(trained) + first) * _train(study, plan.training, plan.training.steps)
    return tokens * find_seconds_a_token(study)


def estimate_bench(study: Study, plan: BenchPlan) -> float:
    """Seconds of a bench."""
    names = [choice.name for choice in plan.methods] or [*study.offered, *baselines()]
    rows = len(names) + plan.evaluation.controls
    tokens = len(plan.costs) * rows * (STRENGTHS * TOKENS * READ + _measure(plan.evaluation))
    trained = sum(map(_trains, names))
    tokens += trained * len(plan.training.learning_rates) * _train(study, plan.training, plan.training.steps)
    return tokens * find_seconds_a_token(study)


def estimate_link(study: Study, plan: LinkPlan) -> float:
    """Seconds of the link to DPO."""
    few = sum(count for count in plan.few if count <= len(study.pairs) // 2) * plan.draws
    tokens = (len(study.pairs) + few) * 2 * _text(study) * 3.0
    if plan.trained_steps:
        tokens += _train(study, plan.training, plan.trained_steps[-1])
    return tokens * find_seconds_a_token(study)


def describe_time(seconds: float) -> str:
    """A time in words, no more exact than it is known."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _trains(name: str) -> bool:
    return name in baselines() and bool(baselines()[name].packages)


def _text(study: Study) -> float:
    """Tokens of one side of a pair."""
    return study.tokens / max(1, 2 * study.pair_count)


def _train(study: Study, plan: TrainingPlan, steps: int) -> float:
    return steps * plan.batch * 2 * _text(study) * TRAINED


def _measure(plan: EvaluationPlan) -> float:
    prompts = 300 if plan.limit_prompts is None else plan.limit_prompts
    written = prompts * plan.sampling.samples * plan.sampling.max_new_tokens
    return written * WRITTEN + prompts * PROMPT * READ


@dataclass
class Spent:
    """Seconds, and bytes at most beside what was held before."""

    seconds: float = 0.0
    memory: float = 0.0


@contextmanager
def measured() -> Iterator[Spent]:
    """How long what happens inside takes, and how much memory the process holds beside what it held before, at most."""
    process, spent, over = psutil.Process(), Spent(), Event()
    before = process.memory_info().rss

    def look() -> None:
        while not over.wait(LOOK_EVERY):
            spent.memory = max(spent.memory, process.memory_info().rss - before)

    watcher, start = Thread(target=look, daemon=True), perf_counter()
    watcher.start()
    try:
        yield spent
    finally:
        over.set()
        watcher.join()
        spent.seconds = perf_counter() - start
        spent.memory = max(spent.memory, process.memory_info().rss - before)
