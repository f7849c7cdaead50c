"""What the Map works out: kept for all sessions, or in a worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.plans.edit import EditPlan
from detox_engine.plans.map import MapPlan
from ui.session import shelf as cache
from ui.session.shelf import shelf
from ui.session.view import StudyKey
from ui.words.text import hover_label
from ui.work import jobs
from ui.work.tasks import Kept

if TYPE_CHECKING:
    from torch import Tensor

    from detox_engine.forward.embeddings import Embeddings
    from detox_engine.reading.map import LayerMap
    from detox_engine.reading.probe import Separability
    from detox_engine.study.study import Study
    from ui.show.downloads import Table

BEFORE, AFTER, PAPER = "before", "after", "on paper"
"""The states of a text's embedding, named as the command line names them."""
TITLES = {BEFORE: "Before", AFTER: "After, really run", PAPER: "After, on paper"}
RUN, LAYOUT = "map run", "map layout"
"""Kinds of jobs."""


@dataclass(frozen=True)
class Asked:
    """Which study's texts, and read under which edit."""

    study: StudyKey
    made: str
    """Tells a study from an earlier one with the same specs."""
    edit: EditPlan


@dataclass(frozen=True)
class Layout:
    """Which map: of what, how, at which layer."""

    asked: Asked
    plan: MapPlan | None
    """None lays texts along the first two directions of the layer."""
    states: tuple[str, ...]
    layer: int


@dataclass(frozen=True, eq=False)
class Run:
    """What came of running the edited model."""

    before: Embeddings
    after: Embeddings
    probes: Mapping[str, tuple[Separability, ...]]
    """A probe of every layer for each state; empty where there are too few pairs for one."""


@dataclass(frozen=True, eq=False)
class Results:
    """What the map has come to so far; embeddings are large, so few of them stay."""

    runs: Kept
    papers: Kept
    probes: Kept
    """Before the edit, by study."""
    layouts: Kept


@st.cache_resource(max_entries=1, show_spinner=False)
def results() -> Results:
    return Results(Kept(3), Kept(3), Kept(8), Kept(400))


def begin_run(asked: Asked) -> None:
    """Read the texts with the edited model in a worker, and probe every layer before and after."""
    shelf, kept = cache.shelf(), results()

    def work(progress):
        study = shelf.fit(asked.study, progress)
        bench = shelf.workbench(asked.study.model, progress)
        from detox_engine.reading.map import embed_study

        edit = bench.edit(study, asked.edit)
        before = embed_study(bench.model, study, progress=progress)
        after = embed_study(bench.model, study, edit, progress)
        probes = _probe(asked, before, after, edit, progress, kept)
        kept.runs.keep(asked, Run(before, after, probes))

    jobs.start_job(RUN, asked, work)


def _probe(asked: Asked, before, after, edit, progress, kept: Results) -> Mapping[str, tuple[Separability, ...]]:
    from detox_engine.reading.map import project_on_paper
    from detox_engine.reading.probe import FOLDS, probe_layers

    if before.toxic.shape[1] < 2 * FOLDS:
        return {}
    known = kept.probes.find((asked.study, asked.made))
    if known is None:
        known = kept.probes.keep((asked.study, asked.made), probe_layers(before, progress=progress))
    paper = project_on_paper(before, edit)
    return {
        BEFORE: known,
        AFTER: probe_layers(after, progress=progress),
        PAPER: probe_layers(paper, progress=progress),
    }


def find_states(asked: Asked, study: Study) -> dict[str, Embeddings]:
    """The embeddings that are there without waiting: those of the study and those of a finished run."""
    kept = results()
    run = kept.runs.find(asked)
    before = study.embeddings or (run.before if run else None)
    states = {} if before is None else {BEFORE: before}
    if run is not None:
        states[AFTER] = run.after
    return states


def find_paper(asked: Asked, study: Study, before: Embeddings) -> Embeddings:
    """The study's embeddings with the edit's directions taken out and no model run.

    Raises:
        InputError: the edit removes nothing.
    """
    kept = results()
    found = kept.papers.find(asked)
    if found is None:
        from detox_engine.edit.low_rank import make_edit
        from detox_engine.reading.map import project_on_paper

        found = kept.papers.keep(asked, project_on_paper(before, make_edit(study.subspaces, asked.edit)))
    return found


def find_probes(asked: Asked) -> Mapping[str, tuple[Separability, ...]] | None:
    """The probes of a finished run; those before the edit alone where only another edit was run; None before any."""
    kept = results()
    run = kept.runs.find(asked)
    if run is not None:
        return run.probes
    before = kept.probes.find((asked.study, asked.made))
    return None if before is None else {BEFORE: before}


def find_map(layout: Layout, study: Study, states: Mapping[str, Embeddings]) -> LayerMap | None:
    """The map that is asked for, laid out now where that is quick; None where UMAP has not laid it out yet."""
    from detox_engine.reading.map import LayerMap, draw_map

    kept = results().layouts
    if layout.plan is None:
        axes = study.subspaces[layout.layer].basis[:2].T
        return LayerMap(layout.layer, tuple(side @ axes for side in _stack(layout, states)), None)
    found = kept.find(layout)
    if found is None and layout.plan.method == "pca":
        found = kept.keep(layout, draw_map(layout.layer, _stack(layout, states), layout.plan))
    return found


def begin_layouts(layouts: Sequence[Layout], states: Mapping[str, Embeddings]) -> None:
    """Lay out maps of one plan in a worker; those that are finished stay where it is stopped."""
    kept = results().layouts

    def work(progress):
        from detox_engine.reading.map import draw_maps

        missing = {layout.layer: layout for layout in layouts if kept.find(layout) is None}
        stacked = {layer: _stack(layout, states) for layer, layout in missing.items()}
        for found in draw_maps(stacked, layouts[0].plan, progress):
            kept.keep(missing[found.layer], found)

    jobs.start_job(LAYOUT, tuple(layouts), work)


def _stack(layout: Layout, states: Mapping[str, Embeddings]) -> list[Tensor]:
    from detox_engine.reading.map import stack_sides

    return [stack_sides(states[name], layout.layer) for name in layout.states]


def list_points(study: Study, maps: Iterable[LayerMap], names: Sequence[str]) -> Table:
    """Every text's place at each layer in every state, all pairs."""
    from detox_engine.reading import map as map_

    return ("layer", *map_.POINT), (
        (found.layer, *row) for found in maps for row in map_.list_points(study, found, tuple(names))
    )


@st.cache_resource(max_entries=8, show_spinner=False)
def hover_labels(key: StudyKey, made: str, shown: bool) -> tuple[list[str], list[str]]:
    """What a dot says on hover, of the toxic and of the civil text of every pair of a study."""
    pairs = shelf().find_study(key).pairs
    toxic, civil = (
        [f"Pair {number:,}<br>{hover_label(text, shown)}" for number, text in enumerate(texts, start=1)]
        for texts in ([pair.toxic_text for pair in pairs], [pair.civil_text for pair in pairs])
    )
    return toxic, civil
