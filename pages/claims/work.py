"""A lab that is run from the page: what is asked, how long it takes, how it is going, and where its record is kept."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from detox_engine.errors import InputError
from detox_engine.lab.kept import ROOM, keep_record
from detox_engine.plans.lab.experiments import BenchPlan, CurvePlan, LinkPlan
from ui.session.folders import folder_of
from ui.session.view import Fitted
from ui.work import jobs, sweep
from ui.work.tasks import Task, Tell

if TYPE_CHECKING:
    from detox_engine.errors import Progress
    from detox_engine.lab.curves import Point
    from detox_engine.study.study import Study
    from detox_engine.workbench import Workbench

RESULTS = "lab.jsonl"
"""Keeps each fit of a curve, so that a run that was stopped goes on."""
_turns: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)


@dataclass(frozen=True)
class Asked:
    """Which lab of which study, by which plan."""

    fitted: Fitted
    lab: str
    plan: BenchPlan | CurvePlan | LinkPlan


def find_folder(fitted: Fitted, study: Study) -> Path:
    """Where what labs find on a study is kept: the same for the same weights, pairs and fit, whoever fitted it.

    It is no folder within that of a kept study, which is cleared when the study is fitted anew; hours of training
    would be lost.
    """
    return folder_of("labs", study.model.weights_hash, study.pairs_hash, fitted.study.fit)


def answer(bench: Workbench, study: Study, asked: Asked, progress: Progress, tell: Tell) -> dict[str, Any]:
    """The record of a lab, kept; of a curve it is told as it grows."""
    folder = find_folder(asked.fitted, study)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"What a lab finds cannot be kept here ({error.strerror}): make room.") from None
    turn = _turns[folder]
    while not turn.acquire(timeout=0.5):
        progress("Waiting for another run on this study", 0, 0)
    try:
        record = run(bench, study, asked.plan, folder, progress, tell)
        tell(record)
        keep_record(folder, asked.lab, record)
        return record
    finally:
        turn.release()


def run(
    bench: Workbench, study: Study, plan: BenchPlan | CurvePlan | LinkPlan, folder: Path, progress: Progress, tell: Tell
) -> dict[str, Any]:
    match plan:
        case BenchPlan():
            from detox_engine.lab.bench import record_bench, run_bench

            return record_bench(run_bench(bench.model, study, plan, folder / ROOM, progress))
        case LinkPlan():
            from detox_engine.lab.dpo_link import measure_link, record_link

            return record_link(measure_link(bench.model, study, plan, progress), bench.model, study, plan)
    from detox_engine.lab.curves import list_settings, measure_curve, record_curve

    def show(points: Sequence[Point]) -> None:
        if points:
            tell(record_curve(points, bench.model, study, plan))

    settings = list_settings(study, plan)
    points = measure_curve(bench.model, study, plan, settings, folder / RESULTS, progress, show)
    return record_curve(points, bench.model, study, plan)


LAB = Task("lab", answer, keep=10, each=lambda asked: asked.lab, title="A lab")


def estimate(study: Study, plan: BenchPlan | CurvePlan | LinkPlan) -> float:
    """Seconds that a run may take; 0 where nobody knows.

    Raises:
        InputError: the lab cannot be run on this study.
    """
    from detox_engine.lab import effort
    from detox_engine.lab.curves import list_settings, require_pairs

    match plan:
        case BenchPlan():
            return effort.estimate_bench(study, plan)
        case LinkPlan():
            require_pairs(study)
            return effort.estimate_link(study, plan)
    return effort.estimate_curve(study, plan, list_settings(study, plan))


def find_missing() -> str:
    """Why DPO cannot be trained here, in the engine's sentence; empty where it can."""
    from detox_engine.lab.contestants import can_be_made

    if can_be_made("dpo"):
        return ""
    from detox_engine.lab.dpo import require_trl

    try:
        require_trl()
    except InputError as error:
        return str(error)
    return ""


def tell_time(seconds: float) -> str:
    """How long a run may take, for a note beside its button; empty where nobody knows."""
    from detox_engine.lab.effort import describe_time

    return f"It takes about {describe_time(seconds)}, going by how fast the pairs were read." if seconds else ""


def draw_progress(seconds: float, snapshot: jobs.Snapshot) -> None:
    """How far a run is, and how long it may still take, where it does not count what is left itself.

    Args:
        seconds: that the run was told to take; 0 where nobody knows.
    """
    now = time.monotonic()
    sweep.draw_progress(snapshot, now)
    ran = now - snapshot.stages[0].started if snapshot.stages else 0.0
    counted = any(stage.name == sweep.COUNTED for stage in snapshot.stages)
    if not counted and seconds > ran:
        left = jobs.describe_seconds(seconds - ran)
        st.caption(f"About {left} left of the whole, going by how fast the pairs were read.")
