"""The worker behind the token lens: texts read by the model before and after the edit, and what colours mean."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.plans.edit import EditPlan
from ui.session import shelf as cache
from ui.session.view import StudyKey
from ui.words import rude_words
from ui.work import jobs
from ui.work.tasks import Kept

if TYPE_CHECKING:
    from torch import Tensor

    from detox_engine.errors import Progress
    from detox_engine.forward.tokens import LensText
    from detox_engine.reading.lens import TokenScore
    from detox_engine.reading.token_lens import ProjectionScale, TokenProjections
    from detox_engine.workbench import Workbench

    States = list[list[Tensor]]
    """`[sides][layers]` of `[tokens, hidden]`."""

LENS = "token lens"
"""The kind of job."""
TOP = 5
MOST_PREDICTED = 256
"""Tokens of a text after which it is read what comes next; more of them would take longer than all else."""
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
    next: tuple[tuple[tuple[tuple[TokenScore, ...], ...], ...], ...] = ()
    """`[sides][layers][tokens]` the most probable next tokens there, before the edit and, where there is one, after;
    as many tokens as were read, and empty until they are."""


@dataclass(frozen=True, eq=False)
class Found:
    texts: tuple[Looked, ...]
    scale: ProjectionScale

    @property
    def complete(self) -> bool:
        """Whether it has been read, too, what comes next at each token."""
        return all(looked.next for looked in self.texts)


@st.cache_resource(max_entries=1, show_spinner=False)
def scales() -> Kept:
    """Where colours end, by study."""
    return Kept(8)


@st.cache_resource(max_entries=1, show_spinner=False)
def found_texts() -> Kept:
    return Kept(24)


def look(asked: Asked) -> Found | None:
    """What came of `asked`, at first without what comes next; begins it in a worker where nothing has been begun."""
    kept = found_texts()
    found, job = kept.find(asked), jobs.find_job(LENS)
    mine = job is not None and job.key == asked
    if found is not None and (found.complete or mine):
        return found
    if not mine or job.snapshot.state == "done":
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
        from detox_engine.reading.token_lens import find_scale

        bases = {layer: subspace.basis[: study.kept] for layer, subspace in enumerate(study.subspaces)}
        edit = None if asked.edit is None else bench.edit(study, asked.edit)
        looked, states = [], []
        for one in asked.texts:
            progress("Reading the text", len(looked), len(asked.texts))
            projections, passed = _project(bench, one, bases, edit)
            looked.append(Looked(projections))
            states.append(passed)
        scale = known.find((asked.study, asked.made))
        if scale is None:
            scale = find_scale(bench.model, study.pairs, bases, progress=progress)
            known.keep((asked.study, asked.made), scale)
        progress("Finding words to blur", 0, 0)
        # In one go here: the pages ask word by word.
        rude_words.find_rude_words(words for one in looked for words in _words_of(one.projections.text))
        kept.keep(asked, Found(tuple(looked), scale))
        _read_next(bench, asked, looked, states, scale, kept, progress)

    return jobs.start_job(LENS, asked, work)


def _project(bench: Workbench, text: str, bases: Mapping[int, Tensor], edit) -> tuple[TokenProjections, States]:
    from detox_engine.reading.token_lens import project_text

    passed: dict[tuple[bool, int], Tensor] = {}

    def keep(after: bool, layer: int, states: Tensor) -> None:
        passed[after, layer] = states[:MOST_PREDICTED].clone()

    found = project_text(bench.model, text, bases, edit, read=keep)
    sides = (False,) if edit is None else (False, True)
    return found, [[passed[after, layer] for layer in found.layers] for after in sides]


def _read_next(
    bench: Workbench,
    asked: Asked,
    looked: Sequence[Looked],
    states: Sequence[States],
    scale: ProjectionScale,
    kept: Kept,
    progress: Progress,
) -> None:
    """Complete what was found of `asked` by what comes next at each token."""
    from detox_engine.reading.lens import read_predictions

    total, done = sum(len(layers) for sides in states for layers in sides), count()

    def read(found: Tensor) -> tuple[tuple[TokenScore, ...], ...]:
        progress("Reading what comes next", next(done), total)
        return read_predictions(bench.model, found, TOP)

    whole = tuple(
        replace(one, next=tuple(tuple(read(found) for found in layers) for layers in sides))
        for one, sides in zip(looked, states, strict=True)
    )
    progress("Finding words to blur", 0, 0)
    rude_words.find_rude_words(
        score.token for one in whole for side in one.next for layer in side for scores in layer for score in scores
    )
    kept.keep(asked, Found(whole, scale))


def _words_of(read: LensText) -> tuple[str, ...]:
    return (*read.tokens, "".join(read.pieces))
