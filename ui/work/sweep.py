"""The grid of edits that is tried, the button that begins it, and how a run of it is going."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.errors import InputError
from detox_engine.plans.evaluation import SweepPlan
from ui.session.folders import cache_folder
from ui.session.kept_results import Shape
from ui.session.places import check_opened
from ui.session.view import Fitted
from ui.show import notes
from ui.work import jobs
from ui.work.durations import estimate_measuring, tell_estimate
from ui.work.jobs import Snapshot, Stage
from ui.work.tasks import Task, Tell, draw_task

if TYPE_CHECKING:
    from detox_engine.errors import Progress
    from detox_engine.scoring.sweep import Sweep
    from detox_engine.study.study import Study
    from detox_engine.workbench import Workbench
    from ui.session.kept_results import KeptResult

COUNTED = "Trying settings"
"""The stage under which the engine counts settings."""


@dataclass(frozen=True)
class Asked:
    """Which grid of edits of which study, measured with what."""

    fitted: Fitted
    plan: SweepPlan


def answer(bench: Workbench, study: Study, asked: Asked, progress: Progress, tell: Tell) -> Sweep:
    """The grid, told as it grows; a part without a setting is no answer yet."""
    from detox_engine.scoring.sweep import run_sweep

    check_opened((asked.plan.evaluation.prompts, asked.plan.evaluation.neutral.source))

    def grow(sweep: Sweep) -> None:
        if sweep.points:
            tell(sweep)

    return run_sweep(bench.model, study, asked.plan, find_results_file(study.model.weights_hash), progress, grow)


def find_shape() -> type[Sweep]:
    from detox_engine.scoring.sweep import Sweep

    return Sweep


SWEEP = Task("sweep", answer, keep=4, shape=Shape("sweeps", Asked, find_shape))


def find_results_file(weights_hash: str) -> Path:
    """Where measured settings of a model are kept for later runs, each with all that its numbers depend on."""
    return cache_folder() / "sweeps" / f"{weights_hash.removeprefix('sha256:')[:16]}.jsonl"


def draw_sweep(
    study: Study,
    asked: Asked | None,
    results: Sequence[KeptResult[Asked, Sweep]],
    key: str,
    label: str,
    *,
    lead: str = "",
    again: bool = False,
) -> None:
    """The button with the size of the grid and how long it takes, and what becomes of a run.

    Args:
        asked: None where something is missing, and there is nothing to begin.
        results: what is kept of the study.
        key: of the button.
        label: of the button; braces in it are how many settings.
        lead: stands before the note beside the button.
        again: whether the button stands back where nothing is known yet, too.
    """
    size = count_settings(study, asked.plan) if asked is not None else 0
    known = next((each.found for each in results if each.asked == asked), None)
    left = known.total - len(known.points) if known is not None else 0
    job = SWEEP.job()
    stopped = left > 0 and not (job is not None and job.running)
    if asked is None:
        note = "Choose what to try first."
    elif stopped:
        note = f"{lead}Stopped: {left:,} of {known.total:,} settings are still to be measured."
    elif size and known is None:
        takes = tell_estimate(estimate_measuring(study, asked.plan.evaluation, size))
        note = f"{lead}{takes[:1].upper()}{takes[1:]} at most. " if takes else lead
        note += "Settings that were measured before are kept, and only what is missing is computed."
    else:
        note = lead
    measured = job is not None and any(each.asked == job.key for each in results)
    draw_task(
        SWEEP,
        asked if size else None,
        key,
        "Go on with the rest" if stopped else label.format(f"{size:,} setting{'s' if size != 1 else ''}"),
        note,
        "" if measured else "The run was stopped before its first settings were measured.",
        again=again or (known is not None and not left),
        draw=lambda snapshot: draw_progress(snapshot, time.monotonic()),
        stop_label="Stop and keep what is done",
    )


def count_settings(study: Study, plan: SweepPlan) -> int:
    """Settings in the grid; 0 with a sentence where it cannot be made."""
    from detox_engine.scoring.sweep import check_grid

    try:
        return len(check_grid(study, plan))
    except InputError as error:
        notes.draw_error(str(error))
        return 0


def estimate_remaining(stages: Sequence[Stage], now: float) -> float | None:
    """Seconds until all settings are measured, from those that were since the start; None before the first."""
    counted = [stage for stage in stages if stage.name == COUNTED]
    if not counted or counted[-1].done == counted[0].done:
        return None
    first, last = counted[0], counted[-1]
    each = (last.started - first.started) / (last.done - first.done)
    return max(0.0, each * (last.total - last.done) - (now - last.started))


def describe_seconds(seconds: float) -> str:
    """A time that is left, in a few words."""
    return "a few seconds left" if seconds < 10 else f"about {jobs.describe_seconds(seconds)} left"


def draw_progress(snapshot: Snapshot, now: float) -> None:
    """How many settings are measured, how long the rest will take, and what is done at the moment."""
    counted = [stage for stage in snapshot.stages if stage.name == COUNTED]
    if not counted:
        jobs.draw_progress(snapshot)
        return
    last, stage = counted[-1], snapshot.stage
    remaining = estimate_remaining(snapshot.stages, now)
    words = [f"{last.done:,} of {last.total:,} settings", *jobs.describe_taken(snapshot, now)]
    if remaining is not None:
        words.append(describe_seconds(remaining))
    if stage.name != COUNTED:
        words.append(f"{stage.name[:1].lower()}{stage.name[1:]}, {stage.share:.0%}")
    st.progress(last.share, " · ".join(words))
