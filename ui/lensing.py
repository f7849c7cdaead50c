"""The worker behind the token lens: texts read by the model before and after the edit, and what colours mean."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.specs import EditPlan
from ui import cache, jobs, text
from ui.cache import StudyKey
from ui.mapping import Kept

if TYPE_CHECKING:
    from detox_engine.lens import TokenScore
    from detox_engine.token_lens import ProjectionScale, TokenProjections

LENS = "token lens"
"""The kind of job."""
TOP = 5
MOST_PREDICTED = 256
"""Tokens of a text whose next tokens are read; beyond, the unembedding would take longer than all else."""
PATIENCE = 0.8
"""Seconds that a page waits for a short text before it draws a progress bar."""


@dataclass(frozen=True)
class Asked:
    """Which texts, read by which model under which edit; without an edit only before."""

    study: StudyKey
    made: str
    """Tells a study from an earlier one with the same specs."""
    edit: EditPlan | None
    texts: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Looked:
    """One text, token by token."""

    projections: TokenProjections
    next_before: tuple[tuple[tuple[TokenScore, ...], ...], ...]
    """`[layers][tokens]` the most probable next tokens there; as many tokens as were read."""
    next_after: tuple[tuple[tuple[TokenScore, ...], ...], ...] | None


@dataclass(frozen=True, eq=False)
class Found:
    texts: tuple[Looked, ...]
    scale: ProjectionScale


@st.cache_resource(max_entries=1, show_spinner=False)
def scales() -> Kept:
    """Where colours end, by study."""
    return Kept(8)


@st.cache_resource(max_entries=1, show_spinner=False)
def found_texts() -> Kept:
    return Kept(24)


def look(asked: Asked) -> Found | None:
    """What came of `asked`; begins it in a worker where nothing has, and then is None for the moment."""
    kept = found_texts()
    found = kept.find(asked)
    if found is not None:
        return found
    job = jobs.find_job(LENS)
    if job is None or job.key != asked or job.snapshot.state == "done":
        # Done and yet not found: other sessions' texts have pushed it out.
        job = _begin(asked)
    end = time.monotonic() + PATIENCE
    while job.running and time.monotonic() < end:
        time.sleep(0.02)
    return kept.find(asked)


def _begin(asked: Asked) -> jobs.Job:
    shelf, kept, known = cache.shelf(), found_texts(), scales()

    def work(progress):
        study = shelf.fit(asked.study, progress)
        bench = shelf.workbench(asked.study.model, progress)
        from detox_engine.token_lens import find_scale

        bases = {layer: subspace.basis[: study.kept] for layer, subspace in enumerate(study.subspaces)}
        edit = None if asked.edit is None else bench.edit(study, asked.edit)
        looked = []
        for one in asked.texts:
            progress("Reading the text", len(looked), len(asked.texts))
            looked.append(_look_at(bench, one, bases, edit))
        scale = known.find((asked.study, asked.made))
        if scale is None:
            scale = find_scale(bench.loaded, bench.anatomy, study.pairs, bases, progress=progress)
            known.keep((asked.study, asked.made), scale)
        progress("Finding words to blur", 0, 0)
        # In one go here: the pages ask word by word.
        text.find_rude_words(_words(looked))
        kept.keep(asked, Found(tuple(looked), scale))

    return jobs.start_job(LENS, asked, work)


def _look_at(bench, text: str, bases: Mapping, edit) -> Looked:
    from detox_engine.predictions import read_predictions
    from detox_engine.token_lens import project_text

    found = project_text(bench.loaded, bench.anatomy, text, bases, edit)
    places = range(min(len(found.text.ids), MOST_PREDICTED))

    def read(edit):
        return read_predictions(bench.loaded, bench.anatomy, found.text, found.layers, edit, TOP, places)

    return Looked(found, read(None), None if edit is None else read(edit))


def _words(looked: list[Looked]) -> list[str]:
    words = []
    for one in looked:
        words += [*one.projections.text.tokens, "".join(one.projections.text.pieces)]
        for rows in (one.next_before, one.next_after or ()):
            words += {score.token for row in rows for scores in row for score in scores}
    return words
