"""Zero-shot tasks of EleutherAI's lm-evaluation-harness, on the edited model in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detox_engine.errors import Cancelled, InputError
from detox_engine.estimates import Tally
from detox_engine.plans.option import option
from detox_engine.plans.sources import is_path
from detox_engine.scoring.scorer import DOES_TASKS, ScorerKind

if TYPE_CHECKING:
    from detox_engine.scoring.trial import Trial

HARNESS = "lm_eval"
WAY_IN = "install it with: pip install 'detox-explorer[capability]'"
TASKS = ("boolq", "rte", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa")
"""The paper's seven zero-shot tasks, by their names in lm-evaluation-harness."""
METRICS = ("acc", "exact_match", "f1")
"""Preferred measures of a document; else the first that is a number for each."""


@dataclass(frozen=True)
class CapabilityOptions:
    """Which tasks, and how much of each."""

    tasks: tuple[str, ...] = option(
        TASKS,
        "Tasks for the capability scorer: names in lm-evaluation-harness, or task files.",
        "--tasks",
        link="tasks",
        offers=TASKS,
        title="Tasks",
        may_be_file=True,
    )
    limit_tasks: int | None = option(
        None,
        "Take only the first documents of each task, this many.",
        "--limit-tasks",
        link="limit_tasks",
        low=1,
        step=50,
        title="At most this many questions of each",
    )

    task_files: bool = option(
        False,
        "Let task files in, which can run Python of whoever wrote them.",
        "--task-files/--no-task-files",
        title="Let task files in, which can run Python of whoever wrote them",
    )

    def __post_init__(self) -> None:
        if self.limit_tasks is not None and self.limit_tasks < 1:
            raise InputError(f"Take 1 document of each task or more, not {self.limit_tasks}.")


def check_tasks(options: CapabilityOptions) -> None:
    """Raise an InputError where a task is a file and nobody has let files in."""
    own = next((task for task in options.tasks if is_path(task)), None)
    if own is not None and not options.task_files:
        raise InputError(
            f"{own} is a task file, which can run Python of whoever wrote it: read it, and let it in with "
            "--task-files, or name a task of lm-evaluation-harness."
        )


@dataclass(frozen=True)
class Capability:
    """Accuracy in one zero-shot task."""

    task: str
    """A name in lm-evaluation-harness, or the path of a task file."""
    limit: int | None = None

    @property
    def label(self) -> str:
        return Path(self.task).stem if self.task.endswith((".yaml", ".yml")) else self.task

    @property
    def name(self) -> str:
        return f"capability_{self.label}"

    @property
    def title(self) -> str:
        return f"Task {self.label}"

    @property
    def sentence(self) -> str:
        return (
            f"Accuracy in the task {self.label} of lm-evaluation-harness without examples: whether the edited model "
            "can still do what the unedited one could."
        )

    def measure(self, trial: Trial) -> Tally:
        """Raises an InputError if the harness is not installed, or the task is not known or has no accuracy."""
        require_harness()
        from detox_engine.scoring.harness import load_task, run_task

        task = load_task(self.task)
        rows = []
        try:
            for scores in run_task(task, trial, self.limit):
                rows.append([_pick_metric(sample, self.task) for sample in scores])
        except (InputError, Cancelled):
            raise
        except (NotImplementedError, ValueError, KeyError, OSError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(f"The task “{self.task}” cannot be run ({reason}): choose another task.") from error
        totals = np.array(rows, dtype=float)
        return Tally(totals, np.ones_like(totals))


def require_harness() -> None:
    if find_spec(HARNESS) is None:
        raise InputError(f"The capability scorer needs lm-evaluation-harness, which is not installed: {WAY_IN}.")


def _pick_metric(sample: dict, task: str) -> float:
    """The measure of one document that stands for getting it right."""
    names = [name for name in METRICS if name in sample["metrics"]] + sample["metrics"]
    for name in names:
        value = sample.get(name)
        if isinstance(value, int | float | np.number) and math.isfinite(value):
            return float(value)
    raise InputError(f"The task “{task}” gives no number for each document: choose a task with an accuracy.")


def make(options, context):
    check_tasks(options)
    require_harness()
    return [Capability(task, options.limit_tasks) for task in options.tasks]


SCORER = ScorerKind(
    name="capability",
    title="Zero-shot tasks",
    sentence="zero-shot tasks of lm-evaluation-harness",
    question=DOES_TASKS,
    unit="share of questions answered right",
    items="questions",
    lower_is_better=False,
    range=(0.0, 1.0),
    options=CapabilityOptions,
    place=7,
    make=make,
)
