"""What the Map works out: kept for all sessions, or in a worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.errors import InputError, ignore_progress
from detox_engine.plans.read import MapPlan
from ui.session.shared_models import Kept, shelf
from ui.session.view import Fitted
from ui.words.text import hover_label
from ui.work import parting
from ui.work.parting import AFTER, BEFORE, PAPER, RUN, AskedOfEdit, Probed
from ui.work.tasks import Task, Tell

if TYPE_CHECKING:
    import numpy as np

    from detox_engine.errors import Progress
    from detox_engine.forward.embedded_pairs import Embeddings
    from detox_engine.reading.map import LayerMap
    from detox_engine.study.study import Study
    from pages.map.picks import Settings
    from ui.show.downloads import Table

TITLES = {BEFORE: "Before", AFTER: "After, by the edited model", PAPER: "After, computed alone"}
PAPERS = Kept(3)
"""Embeddings with an edit taken out on paper; they are large, so few of them stay."""
MAPS = Kept(400)
"""One layer each."""


@dataclass(frozen=True)
class Layout:
    """Which maps: of what, how, in which states, at which layers."""

    asked: AskedOfEdit
    plan: MapPlan
    states: tuple[str, ...]
    layers: tuple[int, ...]

    @property
    def fitted(self) -> Fitted:
        return self.asked.fitted


@dataclass(frozen=True, eq=False)
class Scene:
    """What the page draws of a study's texts."""

    layer: int
    states: Mapping[str, Embeddings]
    """All that are there, shown or not: a layout may be fitted on all of them."""
    shown: tuple[str, ...]
    """Which of them are shown."""
    sample: np.ndarray
    """Indices of the pairs that are drawn."""
    settings: Settings
    """How they are drawn."""


def find_states(asked: AskedOfEdit, study: Study) -> dict[str, Embeddings]:
    """The embeddings that are there without waiting: those of the study and those of a finished run."""
    ended = RUN.find(asked)
    before = study.embeddings or (ended.before if ended else None)
    states = {} if before is None else {BEFORE: before}
    if ended is not None:
        states[AFTER] = ended.after
    return states


def find_paper(asked: AskedOfEdit, study: Study, before: Embeddings) -> Embeddings:
    """The study's embeddings with the edit's directions taken out and no model run.

    Raises:
        InputError: the edit removes nothing.
    """
    from detox_engine.edit.low_rank import make_edit
    from detox_engine.reading.map import project_on_paper

    directions = study.of(asked.edit.method)
    return PAPERS.find_or_make(asked, lambda: project_on_paper(before, make_edit(directions, asked.edit)))


def find_probes(asked: AskedOfEdit, study: Study) -> Mapping[str, tuple[Probed, ...]] | None:
    """The probes of a finished run; those before the edit alone where there was none; None before any are there."""
    ended = RUN.find(asked)
    if ended is not None:
        parting.find_probes_after(study, asked)  # which keeps them
        return ended.probes
    before, after = parting.find_probes(study, asked.fitted), parting.find_probes_after(study, asked)
    if not before:
        return None if before is None else {}
    return {BEFORE: before} if after is None else {BEFORE: before, AFTER: after}


def lay_out(bench: None, study: Study, asked: Layout, progress: Progress, tell: Tell) -> tuple[LayerMap, ...]:
    """Maps of several layers; those that are finished stay where it is stopped."""
    states = find_states(asked.asked, study)
    if PAPER in asked.states:
        states[PAPER] = find_paper(asked.asked, study, states[BEFORE])
    if not states.keys() >= set(asked.states):
        raise InputError("Later runs have pushed out what the edited model read: run it again.")
    return lay_out_now(asked, states, progress)


def lay_out_now(
    asked: Layout, states: Mapping[str, Embeddings], progress: Progress = ignore_progress
) -> tuple[LayerMap, ...]:
    """The same of embeddings that are at hand.

    Raises:
        InputError: too few texts for UMAP, or all at one place.
    """
    from detox_engine.reading.map import draw_maps, stack_sides

    alone = {layer: replace(asked, layers=(layer,)) for layer in asked.layers}
    found = {layer: MAPS.find(one) for layer, one in alone.items()}
    missing = {
        layer: [stack_sides(states[name], layer) for name in asked.states]
        for layer in asked.layers
        if found[layer] is None
    }
    for one in draw_maps(missing, asked.plan, progress):
        found[one.layer] = MAPS.keep(alone[one.layer], one)
    return tuple(found[layer] for layer in asked.layers)


LAYOUT = Task("map layout", lay_out, keep=16, needs_model=False)


def lay_along_directions(study: Study, states: Mapping[str, Embeddings], layers: Iterable[int]) -> tuple[LayerMap, ...]:
    """Maps along the first two directions of each layer."""
    from detox_engine.reading.map import LayerMap, stack_sides

    axes = {layer: study.subspaces[layer].basis[:2].T for layer in layers}
    return tuple(
        LayerMap(layer, tuple(stack_sides(found, layer) @ both for found in states.values()), None)
        for layer, both in axes.items()
    )


def list_points(study: Study, maps: Iterable[LayerMap], names: Sequence[str]) -> Table:
    """Every text's place at each layer in every state, all pairs."""
    from detox_engine.reading import map as map_

    return ("layer", *map_.POINT), (
        (found.layer, *row) for found in maps for row in map_.list_points(study, found, tuple(names))
    )


@st.cache_resource(max_entries=8, show_spinner=False)
def hover_labels(fitted: Fitted, shown: bool) -> tuple[list[str], list[str]]:
    """What a dot says on hover, of the toxic and of the civil text of every pair of a study."""
    pairs = shelf().find_study(fitted.study).pairs
    return tuple(
        [f"Pair {number:,}<br>{hover_label(getattr(pair, side), shown)}" for number, pair in enumerate(pairs, start=1)]
        for side in ("toxic_text", "civil_text")
    )
