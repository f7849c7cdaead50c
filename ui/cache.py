"""The only place where Streamlit's caches meet the engine.

Models and studies live on one shelf for the whole process, keyed by the whole frozen specs that made them.
Workers get the shelf as a value, so that no thread but the script's own ever calls Streamlit.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.specs import BUNDLED, FitPlan, ModelSpec, PairSpec, Progress, ignore_progress
from ui import kept_study
from ui.text import hover_label

if TYPE_CHECKING:
    # Torch and transformers take seconds to import; the first paint must not wait for them.
    import numpy as np

    from detox_engine.cards import ValueVectors
    from detox_engine.lens import Reading
    from detox_engine.pairs import Preview
    from detox_engine.separation import Separation
    from detox_engine.study import Study
    from detox_engine.workbench import DirectionReading, Workbench

STUDIES_KEPT = 8


@dataclass(frozen=True)
class StudyKey:
    """What a study answers: this model, fitted by this plan."""

    model: ModelSpec = ModelSpec()
    fit: FitPlan = FitPlan()


class Shelf:
    """Loaded models and fitted studies, shared by all sessions and never changed once they are here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[ModelSpec | StudyKey, threading.Lock] = {}
        self._workbenches: dict[ModelSpec, Workbench] = {}
        self._studies: OrderedDict[StudyKey, Study] = OrderedDict()

    def find_study(self, key: StudyKey) -> Study | None:
        with self._lock:
            if key in self._studies:
                self._studies.move_to_end(key)
            return self._studies.get(key)

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

    def fit(self, key: StudyKey, progress: Progress = ignore_progress, afresh: bool = False) -> Study:
        """The study of `key`, fitted if it is not here yet.

        Args:
            afresh: fit again, from the files as they are now, even if the study is here.
        """
        if afresh and key.model.name != BUNDLED and Path(key.model.name).expanduser().is_dir():
            with self._lock:
                self._workbenches.pop(key.model, None)
        first_visit = key == StudyKey()
        with self._turn(key, progress):
            study = None if afresh else self.find_study(key)
            if study is None:
                study = kept_study.read_study(key.fit) if first_visit and not afresh else None
                if study is None:
                    # Only the command line adds pairs to a study; the moments for it can be gigabytes.
                    study = self.workbench(key.model, progress).fit(key.fit, progress, keep_moments=False)
                    if first_visit:
                        kept_study.keep_study(study)
                with self._lock:
                    self._studies[key] = study
                    self._studies.move_to_end(key)
                    while len(self._studies) > STUDIES_KEPT:
                        self._studies.popitem(last=False)
        return study

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


@st.cache_resource(max_entries=16, show_spinner=False)
def preview(spec: PairSpec) -> Preview:
    """The columns and first rows of an upload; its name holds the hash of its content, so it never changes."""
    from detox_engine.pairs import EVERYDAY, read_columns

    return read_columns(spec, EVERYDAY / "pairs.jsonl")


@st.cache_resource(max_entries=256, show_spinner=False)
def readings(
    key: StudyKey, made: str, layer: int, measure: str, through_norm: bool, top: int = 10
) -> tuple[DirectionReading, ...]:
    """Every kept direction of one layer in tokens. `made` tells a study from an earlier one with the same specs."""
    study = shelf().find_study(key)
    workbench = shelf().workbench(key.model)
    return workbench.read(study, [layer], study.subspaces[layer].kept, top, measure, through_norm)


@st.cache_resource(max_entries=256, show_spinner=False)
def mean_reading(key: StudyKey, made: str, layer: int, measure: str, through_norm: bool, top: int = 10) -> Reading:
    """The mean direction of one layer in tokens."""
    from detox_engine.lens import read_tokens

    study, workbench = shelf().find_study(key), shelf().workbench(key.model)
    direction = study.subspaces[layer].mean_direction[None]
    return read_tokens(direction, workbench.anatomy, workbench.loaded.tokenizer, top, measure, through_norm)[0]


@st.cache_resource(max_entries=8, show_spinner=False)
def hover_labels(key: StudyKey, made: str, shown: bool) -> tuple[list[str], list[str]]:
    """What a dot says on hover, of the toxic and of the civil text of every pair of a study."""
    pairs = shelf().find_study(key).pairs
    toxic, civil = (
        [f"Pair {number:,}<br>{hover_label(text, shown)}" for number, text in enumerate(texts, start=1)]
        for texts in ([pair.toxic_text for pair in pairs], [pair.civil_text for pair in pairs])
    )
    return toxic, civil


@st.cache_resource(max_entries=64, show_spinner=False)
def separation(key: StudyKey, made: str, layer: int) -> Separation:
    """How far every direction of one layer sets each pair apart, from the study's embeddings."""
    from detox_engine.separation import separate_pairs

    study = shelf().find_study(key)
    return separate_pairs(study.embeddings, layer, study.subspaces[layer])


@st.cache_resource(max_entries=256, show_spinner=False)
def value_vectors(key: StudyKey, made: str, layer: int, direction: int) -> ValueVectors:
    """The neurons of a layer that write most along one of its directions."""
    from detox_engine.cards import find_value_vectors

    study, workbench = shelf().find_study(key), shelf().workbench(key.model)
    along = study.subspaces[layer].basis[direction]
    return find_value_vectors(workbench.anatomy, workbench.loaded.tokenizer, layer, along)


@st.cache_resource(max_entries=256, show_spinner=False)
def cosines(key: StudyKey, made: str, layer: int, direction: int) -> np.ndarray:
    """`[layers, directions]` of one direction with every direction that all layers kept."""
    from detox_engine.cards import measure_cosines

    subspaces = shelf().find_study(key).subspaces
    return measure_cosines(subspaces, subspaces[layer].basis[direction]).numpy()


@st.cache_resource(max_entries=64, show_spinner=False)
def angles(key: StudyKey, made: str, rank: int) -> np.ndarray:
    """`[layers, layers, rank]` principal angles between the first directions of every two layers, in degrees."""
    from detox_engine.cards import measure_angles

    return measure_angles(shelf().find_study(key).subspaces, rank).numpy()


@st.cache_resource(max_entries=8, show_spinner=False)
def flaws(key: StudyKey, made: str) -> tuple[tuple[str, ...], ...]:
    """What is odd about each pair of a study, in words; mostly nothing."""
    from detox_engine.pairs import find_flaws

    study = shelf().find_study(key)
    cut = set(study.embeddings.cut) if study.embeddings else set()
    return tuple(
        tuple(sorted(found | {"cut off"} if index in cut else found))
        for index, found in enumerate(find_flaws(study.pairs))
    )
