"""What a direction card asks of the model, in workers: the pairs it sets apart, and what removing it changes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.specs import Progress
from ui import cache, jobs, text
from ui.cache import StudyKey
from ui.carried_pairs import CarriedPair, Telling
from ui.mapping import Kept

if TYPE_CHECKING:
    from detox_engine.evaluation import Score
    from detox_engine.study import Study
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
    from detox_engine.cards import carry_pairs
    from detox_engine.separation import separate_pairs

    subspace = study.subspaces[asked.layer]
    picked = separate_pairs(study.embeddings, asked.layer, subspace).pick_pairs(asked.direction)
    pairs = [study.pairs[index] for index, _ in picked.most + picked.least + picked.against]
    basis = subspace.basis[asked.direction]
    carried = carry_pairs(bench.loaded, bench.anatomy, pairs, asked.layer, basis, study.plan, progress)
    progress("Finding words to blur", 0, 0)
    # In one go here: the page asks word by word.
    texts = [side.text for sides in carried for side in sides]
    text.find_rude_words(words for one in texts for words in (*one.tokens, "".join(one.pieces)))
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
        from detox_engine.ablation import ablate

        found = ablate(bench, study, asked.layer, asked.direction, progress=progress)
        kept.keep(asked, Effect(found.scores, len(found.prompts), found.seconds))

    jobs.start_job(effect_job(asked), asked, work)


def find_effect(asked: Asked) -> Effect | None:
    """What was measured of the direction, by whomever."""
    return found_effects().find(asked)
