"""Work that outlasts a rerun: one thread for each session and kind, with progress and a stop button.

The thread never calls Streamlit. It replaces the job's frozen snapshot, which the pages read.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event, Thread
from typing import Any, Literal

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from detox_engine.errors import Cancelled, InputError, Progress

POLL_SECONDS = 0.4
"""How often a page looks at a running job."""

FORSAKEN_SECONDS = 600
"""How long work goes on after its session has gone."""

_JOBS = "jobs"


@dataclass(frozen=True)
class Stage:
    """One named part of a job, as its progress callback reported it."""

    name: str
    done: int
    total: int
    started: float
    """`time.monotonic()` of its first report."""
    seconds: float | None = None
    """How long it took; None while it runs."""

    @property
    def share(self) -> float:
        """Share that is done, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total > 0 else 0.0


@dataclass(frozen=True)
class Snapshot:
    """A job at one moment."""

    state: Literal["running", "done", "stopped", "failed"] = "running"
    stages: tuple[Stage, ...] = ()
    result: Any = None
    error: str = ""
    """One sentence for the person, where the state is “failed”."""

    @property
    def stage(self) -> Stage | None:
        """The stage that runs now, or ran last."""
        return self.stages[-1] if self.stages else None


@dataclass(eq=False)
class Job:
    """A piece of work and the thread that does it."""

    kind: str
    key: Any
    """The frozen specs that the work answers; tells a page whether the result is for what it shows."""
    work: Callable[[Progress], Any]
    title: str = ""
    """What it is called where it is one of several."""
    snapshot: Snapshot = Snapshot()
    is_watched: Callable[[], bool] = lambda: True
    """Whether somebody is there who asked for it."""
    _begun: float = field(default_factory=time.monotonic)
    _stop: Event = field(default_factory=Event)
    _left: float | None = None
    """When that was first seen to be not so."""

    def start(self) -> None:
        Thread(target=self._run, name=f"{self.kind} job", daemon=True).start()

    def stop(self) -> None:
        """Ask the work to end; it does at its next progress report."""
        self._stop.set()

    @property
    def running(self) -> bool:
        return self.snapshot.state == "running"

    @property
    def is_short(self) -> bool:
        """Whether it has hardly begun, so that it may be over before anybody wants to stop it."""
        return time.monotonic() - self._begun < LONG

    @property
    def stopping(self) -> bool:
        return self.running and self._stop.is_set()

    def _report(self, name: str, done: int, total: int) -> None:
        if self._stop.is_set() or self._is_forsaken():
            raise Cancelled
        now, stages = time.monotonic(), self.snapshot.stages
        if stages and stages[-1].name == name:
            stages = (*stages[:-1], replace(stages[-1], done=done, total=total))
        else:
            stages = (*_closed(stages, now), Stage(name, done, total, now))
        self.snapshot = replace(self.snapshot, stages=stages)

    def _is_forsaken(self) -> bool:
        """Whether the session that asked has been gone for a while, longer than a reload or a lost network takes."""
        if self.is_watched():
            self._left = None
        elif self._left is None:
            self._left = time.monotonic()
        return self._left is not None and time.monotonic() - self._left > FORSAKEN_SECONDS

    def _run(self) -> None:
        outcome: dict[str, Any]
        try:
            outcome = {"state": "done", "result": self.work(self._report)}
        except Cancelled:
            outcome = {"state": "stopped"}
        except InputError as error:
            outcome = {"state": "failed", "error": str(error)}
        except OSError as error:
            logging.getLogger(__name__).exception("The %s job could not read or write", self.kind)
            outcome = {
                "state": "failed",
                "error": f"A file could not be read or written ({error.strerror or 'no reason is known'}): make room "
                "on the machine that runs this, and try again.",
            }
        except Exception:
            logging.getLogger(__name__).exception("The %s job failed", self.kind)
            outcome = {
                "state": "failed",
                "error": "Something went wrong inside the app; the terminal that runs it shows the details.",
            }
        stages = _closed(self.snapshot.stages, time.monotonic())
        self.snapshot = replace(self.snapshot, stages=stages, **outcome)


def _closed(stages: tuple[Stage, ...], now: float) -> tuple[Stage, ...]:
    if not stages or stages[-1].seconds is not None:
        return stages
    return (*stages[:-1], replace(stages[-1], seconds=now - stages[-1].started))


def start_job(kind: str, key: Any, work: Callable[[Progress], Any], title: str = "") -> Job:
    """Start `work` as this session's job of `kind`; an earlier one of that kind is told to stop."""
    jobs = st.session_state.setdefault(_JOBS, {})
    if kind in jobs:
        jobs[kind].stop()
    jobs[kind] = Job(kind, key, work, title or kind.capitalize(), is_watched=_watch_session())
    jobs[kind].start()
    return jobs[kind]


def _watch_session() -> Callable[[], bool]:
    """Tells, from any thread, whether the browser of the session that calls is still there."""
    context = get_script_run_ctx()
    if context is None or not runtime.exists():
        return lambda: True
    server, session = runtime.get_instance(), context.session_id
    return lambda: server.is_active_session(session)


def find_job(kind: str) -> Job | None:
    """This session's latest job of `kind`."""
    return st.session_state.get(_JOBS, {}).get(kind)


def list_running() -> list[Job]:
    """This session's jobs that run."""
    return [job for job in st.session_state.get(_JOBS, {}).values() if job.running]


def forget_job(kind: str) -> None:
    """Drop a job whose outcome has been used."""
    st.session_state.get(_JOBS, {}).pop(kind, None)


@st.fragment(run_every=POLL_SECONDS)
def watch_job(job: Job, draw: Callable[[Snapshot], None], stop_label: str = "Stop") -> None:
    """Draw a running job every moment, with its stop button; the whole page runs again once it has ended."""
    if not job.running:
        st.rerun()
    draw(job.snapshot)
    st.button(
        "Stopping…" if job.stopping else stop_label,
        key=f"stop_{job.kind}",
        on_click=job.stop,
        disabled=job.stopping,
        icon=":material/stop_circle:",
    )


def draw_progress(snapshot: Snapshot) -> None:
    """A bar for the stage that runs now: how far it is, how long the work has taken, and how long the stage may."""
    stage = snapshot.stage
    if stage is None:
        st.progress(0.0, "Getting ready…")
        return
    words = [f"{stage.name[:1].upper()}{stage.name[1:]}"]
    if stage.total > 1:
        words.append(f"{stage.done:,} of {stage.total:,}")
    words += describe_time(snapshot, time.monotonic())
    st.progress(stage.share, " · ".join(words))


LONG = 3.0
"""Seconds from which on a person wants to know how long it takes."""


def describe_time(snapshot: Snapshot, now: float) -> list[str]:
    """How long the work has taken, and how long its stage may still take; nothing of what is short."""
    words, stage = describe_taken(snapshot, now), snapshot.stage
    spent = now - stage.started
    if spent >= LONG and 0 < stage.share < 1:
        left = spent / stage.share * (1 - stage.share)
        if left >= LONG:
            words.append(f"about {describe_seconds(left)} left of this step")
    return words


def describe_taken(snapshot: Snapshot, now: float) -> list[str]:
    """How long the work has taken; nothing while that is short."""
    taken = now - snapshot.stages[0].started
    return [f"{describe_seconds(taken)} so far"] if taken >= LONG else []


def describe_seconds(seconds: float) -> str:
    """A time in a few words."""
    if seconds < 90:
        return f"{round(seconds)} s" if seconds < 10 else f"{round(seconds / 5) * 5} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
