"""What the Directions page works out: kept for all sessions, or in a worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.errors import Progress
from pages.directions.pairs import CarriedPair, Telling
from ui.session import shelf as cache
from ui.session.shelf import shelf
from ui.session.view import StudyKey
from ui.words import rude_words
from ui.work import jobs
from ui.work.tasks import Kept

if TYPE_CHECKING:
    import numpy as np

    from detox_engine.reading.directions import DirectionReading
    from detox_engine.reading.lens import Reading
    from detox_engine.reading.neurons import ValueVectors
    from detox_engine.reading.pairs import Separation
    from detox_engine.scoring.evaluation import Score
    from detox_engine.study.study import Study
    from detox_engine.workbench import Workbench

PATIENCE = 0.8
"""Seconds that a page waits for a few pairs before it draws a progress bar."""


@dataclass(frozen=True)
class Asked:
    """Which direction of which study."""

    study: StudyKey
    made: str
    """Tells a study from an earlier one with the same specs."""
    layer: int
    direction: int


@dataclass(frozen=True, eq=False)
class Effect:
    """What removing a direction changes."""

    scores: tuple[Score, ...]
    prompts: int
    seconds: float


@st.cache_resource(max_entries=1, show_spinner=False)
def found_pairs() -> Kept:
    return Kept(64)


@st.cache_resource(max_entries=1, show_spinner=False)
def found_effects() -> Kept:
    return Kept(512)


def look_at_pairs(asked: Asked) -> tuple[Telling | None, jobs.Job | None]:
    """The pairs that `asked` sets apart; begins the work where nothing has, and then gives the job that does it.

    Each direction has a job of its own, so that cards beside each other do not stop each other.
    """
    kept, kind = found_pairs(), f"pairs of {asked.layer}.{asked.direction}"
    found, job = kept.find(asked), jobs.find_job(kind)
    if found is None and (job is None or job.key != asked or job.snapshot.state == "done"):
        # Done and yet not found: other directions' pairs have pushed it out.
        job = _begin_pairs(kind, asked)
    end = time.monotonic() + PATIENCE
    while found is None and job.running and time.monotonic() < end:
        time.sleep(0.02)
        found = kept.find(asked)
    return kept.find(asked), job


def _begin_pairs(kind: str, asked: Asked) -> jobs.Job:
    shelf, kept = cache.shelf(), found_pairs()

    def work(progress):
        study = shelf.fit(asked.study, progress)
        bench = shelf.workbench(asked.study.model, progress)
        kept.keep(asked, _carry(bench, study, asked, progress))

    return jobs.start_job(kind, asked, work)


def _carry(bench: Workbench, study: Study, asked: Asked, progress: Progress) -> Telling:
    from detox_engine.reading.pairs import carry_pairs, separate_pairs

    subspace = study.subspaces[asked.layer]
    picked = separate_pairs(study.embeddings, asked.layer, subspace).pick_pairs(asked.direction)
    pairs = [study.pairs[index] for index, _ in picked.most + picked.least + picked.against]
    basis = subspace.basis[asked.direction]
    carried = carry_pairs(bench.model, pairs, asked.layer, basis, study.plan, progress)
    progress("Finding words to blur", 0, 0)
    # In one go here: the page asks word by word.
    texts = [side.text for sides in carried for side in sides]
    rude_words.find_rude_words(words for one in texts for words in (*one.tokens, "".join(one.pieces)))
    waiting = iter(carried)

    def describe(group: Sequence[tuple[int, float]]) -> tuple[CarriedPair, ...]:
        return tuple(CarriedPair(index, study.pairs[index], times, *next(waiting)) for index, times in group)

    return Telling(describe(picked.most), describe(picked.least), describe(picked.against))


def effect_job(asked: Asked) -> str:
    """The kind of job that measures this direction's effect; several may run at a time."""
    return f"effect of {asked.layer}.{asked.direction} {asked.made}"


def begin_effect(asked: Asked) -> None:
    """Measure in a worker what removing the direction changes."""
    shelf, kept = cache.shelf(), found_effects()

    def work(progress):
        study = shelf.fit(asked.study, progress)
        bench = shelf.workbench(asked.study.model, progress)
        progress("Reading prompts and texts", 0, 0)
        from detox_engine.scoring.ablation import ablate

        found = ablate(bench.model, study, asked.layer, asked.direction, progress=progress)
        kept.keep(asked, Effect(found.scores, len(found.prompts), found.seconds))

    jobs.start_job(effect_job(asked), asked, work)


def find_effect(asked: Asked) -> Effect | None:
    """What was measured of the direction, by whomever."""
    return found_effects().find(asked)


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
    from detox_engine.reading.lens import read_tokens

    study, workbench = shelf().find_study(key), shelf().workbench(key.model)
    direction = study.subspaces[layer].mean_direction[None]
    return read_tokens(direction, workbench.model, top, measure, through_norm)[0]


@st.cache_resource(max_entries=64, show_spinner=False)
def separation(key: StudyKey, made: str, layer: int) -> Separation:
    """How far every direction of one layer sets each pair apart, from the study's embeddings."""
    from detox_engine.reading.pairs import separate_pairs

    study = shelf().find_study(key)
    return separate_pairs(study.embeddings, layer, study.subspaces[layer])


@st.cache_resource(max_entries=256, show_spinner=False)
def value_vectors(key: StudyKey, made: str, layer: int, direction: int) -> ValueVectors:
    """The neurons of a layer that write most along one of its directions."""
    from detox_engine.reading.neurons import find_value_vectors

    study, workbench = shelf().find_study(key), shelf().workbench(key.model)
    along = study.subspaces[layer].basis[direction]
    return find_value_vectors(workbench.model, layer, along)


@st.cache_resource(max_entries=256, show_spinner=False)
def cosines(key: StudyKey, made: str, layer: int, direction: int) -> np.ndarray:
    """`[layers, directions]` of one direction with every direction that all layers kept."""
    from detox_engine.reading.across_layers import measure_cosines

    subspaces = shelf().find_study(key).subspaces
    return measure_cosines(subspaces, subspaces[layer].basis[direction]).numpy()


@st.cache_resource(max_entries=64, show_spinner=False)
def angles(key: StudyKey, made: str, rank: int) -> np.ndarray:
    """`[layers, layers, rank]` principal angles between the first directions of every two layers, in degrees."""
    from detox_engine.reading.across_layers import measure_angles

    return measure_angles(shelf().find_study(key).subspaces, rank).numpy()
