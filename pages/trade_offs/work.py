"""The worker that tries a grid of edits, and the grid of this session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.plans.measure import SweepPlan
from ui.session import shelf as cache
from ui.session.shelf import find_results_file
from ui.session.view import StudyKey
from ui.work import jobs
from ui.work.jobs import Snapshot, Stage

if TYPE_CHECKING:
    from detox_engine.scoring.sweep import Sweep

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


def begin_sweep(asked: Asked) -> None:
    """Try the grid in a worker; `settle_sweep` takes over what comes of it, while it runs and where it is stopped."""
    shelf = cache.shelf()
    found: list[Tried] = []

    def work(progress):
        study = shelf.fit(asked.study, progress)
        bench = shelf.workbench(asked.study.model, progress)
        from detox_engine.scoring.sweep import run_sweep

        results = find_results_file(study.model.weights_hash)
        run_sweep(bench, study, asked.plan, results, progress, lambda sweep: found.append(Tried(asked, sweep)))

    st.session_state.found_by_sweep = found
    jobs.start_job(KIND, asked, work)


def settle_sweep() -> Tried | None:
    """The latest grid of this session, as far as it is measured; a run without a setting leaves the last in place."""
    job = jobs.find_job(KIND)
    # Before what was found, which a worker still adds to until it has ended.
    ended = job.snapshot.state if job is not None else ""
    measured = count_found() > 0
    if measured:
        st.session_state.tried = st.session_state.found_by_sweep[-1]
    if ended == "done" or (ended == "stopped" and measured):
        jobs.forget_job(KIND)
    return st.session_state.get("tried")


def count_found() -> int:
    """Settings of the latest run that are there."""
    found = st.session_state.get("found_by_sweep")
    return len(found[-1].sweep.points) if found else 0


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
