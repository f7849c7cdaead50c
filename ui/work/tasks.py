"""A run that a page offers: the button that starts it, what becomes of it, and the offer to run it again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import streamlit as st

from ui.show import notes
from ui.work import jobs


def draw_run(
    kind: str,
    key: str,
    label: str,
    begin: Callable[[Any], None],
    asked: Any,
    note: str,
    stopped: str,
    *,
    again: bool = False,
    draw: Callable[[jobs.Snapshot], None] = jobs.draw_progress,
    stop_label: str = "Stop",
) -> None:
    """The button that begins the job `kind`, and its progress, or why it ended without a result.

    Args:
        key: of the button.
        asked: what the button calls `begin` with; None where something is missing, and there is nothing to begin.
        note: beside the button, as Markdown; what is missing, or what the run is about.
        stopped: what a run that was stopped leaves.
        again: whether there is a result already, so that the button stands back.
        draw: draws the progress.
    """
    job = jobs.find_job(kind)
    running = job is not None and job.running
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            label,
            key=key,
            type="secondary" if again else "primary",
            icon=":material/play_arrow:",
            disabled=asked is None or running,
            on_click=begin,
            args=(asked,),
        )
        if note:
            st.caption(note)
    if running:
        jobs.watch_job(job, draw, stop_label)
    elif job is not None and job.snapshot.state == "failed":
        notes.draw_error(job.snapshot.error)
    elif job is not None and job.snapshot.state == "stopped":
        st.info(stopped, icon=":material/info:")


def draw_stale(
    kind: str, key: str, what: str, label: str, begin: Callable[[Any], None], asked: Any, help: str | None = None
) -> None:
    """Say that `what` has changed since the result on the page, and offer the run as things are now."""
    job = jobs.find_job(kind)
    with st.container(border=True, horizontal=True, vertical_alignment="center", key=f"{kind}_stale"):
        st.markdown(f":material/history: {what} since.", width="stretch")
        st.button(
            label,
            key=key,
            icon=":material/refresh:",
            disabled=job is not None and job.running,
            on_click=begin,
            args=(asked,),
            help=help,
        )


class Kept:
    """The latest few results under their keys, for all sessions."""

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self._most = most
        self._results: OrderedDict[Any, Any] = OrderedDict()

    def find(self, key: Any) -> Any | None:
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
            return self._results.get(key)

    def keep(self, key: Any, result: Any) -> Any:
        with self._lock:
            self._results[key] = result
            while len(self._results) > self._most:
                self._results.popitem(last=False)
        return result
