"""The only place where Streamlit's caches meet the engine.

Models and studies live on one shelf for the whole process, keyed by the whole frozen specs that made them.
Workers get the shelf as a value, so that no thread but the script's own ever calls Streamlit.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.plans.sources import BUNDLED, ModelSpec, find_place
from ui.session import kept_study
from ui.session.kept import Kept
from ui.session.places import check_opened
from ui.session.view import StudyKey

if TYPE_CHECKING:
    from pathlib import Path

    from detox_engine.study.study import Study
    from detox_engine.workbench import Workbench

STUDIES_KEPT = 8


class Shelf:
    """Loaded models and fitted studies, shared by all sessions and never changed once they are here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[ModelSpec | StudyKey, threading.Lock] = {}
        self._workbenches: dict[ModelSpec, Workbench] = {}
        self._studies: Kept[StudyKey, Study] = Kept(STUDIES_KEPT)

    def find_study(self, key: StudyKey) -> Study | None:
        return self._studies.find(key)

    def find_workbench(self, spec: ModelSpec) -> Workbench | None:
        with self._lock:
            return self._workbenches.get(spec)

    def workbench(self, spec: ModelSpec, progress: Progress = ignore_progress) -> Workbench:
        """The loaded model of `spec`. The bundled one stays; of all others only the latest does."""
        found = self.find_workbench(spec)
        if found is not None:
            return found
        progress("Loading the model", 0, 0)
        from detox_engine.workbench import Workbench

        with self._turn(spec, progress):
            found = self.find_workbench(spec)
            if found is None:
                with self._lock:
                    if spec.name != BUNDLED:
                        self._workbenches = {s: w for s, w in self._workbenches.items() if s.name == BUNDLED}
                found = Workbench.load(spec, progress)
                with self._lock:
                    self._workbenches[spec] = found
        return found

    def fit(
        self,
        key: StudyKey,
        progress: Progress = ignore_progress,
        afresh: bool = False,
        folder: Path | None = None,
    ) -> Study:
        """The study of `key`, fitted if it is not here yet.

        Args:
            afresh: fit again, from the files as they are now, even if the study is here.
            folder: of a kept study that is to stand in the place of what is here.

        Raises:
            InputError: it cannot be fitted, or the folder cannot be read.
        """
        if afresh and find_place(key.model) is not None:
            with self._lock:
                self._workbenches.pop(key.model, None)
        check_opened((key.model.name, key.fit.pairs.source))
        to_be_kept = kept_study.is_to_be_kept(key)
        with self._turn(key, progress):
            if folder is not None:
                study = kept_study.read_study(key, folder)
                if study is None:
                    raise InputError("This study can be read no more: delete it, and fit it again.")
                return self._studies.keep(key, study)
            study = None if afresh else self.find_study(key)
            if study is None:
                study = kept_study.read_study(key) if to_be_kept and not afresh else None
                if study is None:
                    # Only the command line adds pairs to a study; the moments for it can be gigabytes.
                    bench = self.workbench(key.model, progress)
                    study = bench.fit_and_suggest(key.fit, progress, keep_moments=False)
                    if to_be_kept:
                        kept_study.keep_study(key, study)
                self._studies.keep(key, study)
        return study

    def check(self, key: StudyKey, progress: Progress = ignore_progress) -> Study:
        """The study of `key` with its suggestion confirmed or refuted; it stands in the place of what was here."""
        study = self.fit(key, progress)
        checked = self.workbench(key.model, progress).check(study, progress)
        with self._turn(key, progress):
            # Of a study that was fitted anew meanwhile this says nothing.
            if self.find_study(key) is study:
                self._studies.keep(key, checked)
                kept_study.keep_suggestion(key, checked)
        return checked

    @contextmanager
    def _turn(self, key: ModelSpec | StudyKey, progress: Progress) -> Iterator[None]:
        """One at a time for the same `key`; waiting reports progress, so that it can be stopped like any work."""
        with self._lock:
            turn = self._turns.setdefault(key, threading.Lock())
        while not turn.acquire(timeout=0.5):
            progress("Waiting for another session", 0, 0)
        try:
            yield
        finally:
            turn.release()


@st.cache_resource(max_entries=1, show_spinner=False)
def shelf() -> Shelf:
    return Shelf()
