"""The worker that tries a grid of edits, and the grid of this session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.errors import Cancelled
from detox_engine.plans import SweepPlan
from ui import cache, jobs
from ui.cache import StudyKey
from ui.jobs import Snapshot, Stage
from ui.uploads import cache_folder

if TYPE_CHECKING:
    from detox_engine.sweep import Sweep

KIND = "sweep"
COUNTED = "Trying settings"
"""The stage under which the engine counts settings."""


@dataclass(frozen=True)
class Asked:
    """What a sweep answers."""

    study: StudyKey
    made: str
    """Tells a study from an earlier one with the same specs."""
    plan: SweepPlan


@dataclass(frozen=True, eq=False)
class Tried:
    """A grid and what was measured of it; less than the whole where it was stopped."""

    asked: Asked
    sweep: Sweep


def find_results_file(weights_hash: str) -> Path:
    """Where measured settings of a model are kept for later runs, each with all that its numbers depend on."""
    return cache_folder() / "sweeps" / f"{weights_hash.removeprefix('sha256:')[:16]}.jsonl"


def begin_sweep(asked: Asked) -> None:
    """Try the grid in a worker; `settle_sweep` takes over what comes of it, also where it was stopped."""
    shelf = cache.shelf()

    def work(progress):
        study = shelf.fit(asked.study, progress)
        bench = shelf.workbench(asked.study.model, progress)
        from detox_engine.sweep import read_kept, run_sweep

        results = find_results_file(study.model.weights_hash)
        try:
            sweep = run_sweep(bench, study, asked.plan, results, progress)
        except Cancelled:
            sweep = read_kept(bench, study, asked.plan, results)
        return Tried(asked, sweep)

    jobs.start_job(KIND, asked, work)


def settle_sweep() -> Tried | None:
    """The latest grid of this session; one that failed, or was stopped before its first setting, leaves it in place."""
    job = jobs.find_job(KIND)
    if job is not None and job.snapshot.state == "done":
        if job.snapshot.result.sweep.points:
            st.session_state.tried = job.snapshot.result
        jobs.forget_job(KIND)
    return st.session_state.get("tried")


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
    if seconds < 10:
        return "a few seconds left"
    if seconds < 90:
        return f"about {round(seconds / 10) * 10} s left"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"


def draw_progress(snapshot: Snapshot, now: float) -> None:
    """How many settings are measured, how long the rest will take, and what is done at the moment."""
    counted = [stage for stage in snapshot.stages if stage.name == COUNTED]
    if not counted:
        jobs.draw_progress(snapshot)
        return
    last, stage = counted[-1], snapshot.stage
    remaining = estimate_remaining(snapshot.stages, now)
    words = [f"{last.done:,} of {last.total:,} settings"]
    if remaining is not None:
        words.append(describe_seconds(remaining))
    if stage.name != COUNTED:
        words.append(f"{stage.name[:1].lower()}{stage.name[1:]}, {stage.share:.0%}")
    st.progress(last.share, " · ".join(words))
