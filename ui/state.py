"""What a session looks at, kept over reruns and pages, and the link that restores it.

The view is the one truth; widgets only mirror it. A widget that shows a part of the view is given its value
by `mirror` before it is drawn and writes back in its callback, so changing it anywhere changes it everywhere.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from threading import Thread
from typing import TYPE_CHECKING, Any

import streamlit as st

from detox_engine.errors import InputError
from detox_engine.specs import EditPlan, FitPlan, ModelSpec, PairSpec, format_layers, parse_layers
from ui import cache, jobs, text
from ui.cache import StudyKey

if TYPE_CHECKING:
    from detox_engine.study import Study

MOST_LAYERS = 1000
"""No model has more; a link's layers are read before its model is known."""


@dataclass(frozen=True)
class View:
    """Everything that a shared link restores."""

    model: ModelSpec = ModelSpec()
    fit: FitPlan = FitPlan()
    edit: EditPlan | None = None
    """None until a study has suggested one."""

    @property
    def study_key(self) -> StudyKey:
        return StudyKey(self.model, self.fit)


def view() -> View:
    """What this session looks at; the first call of a session reads it from the link it was opened with."""
    if "view" not in st.session_state:
        try:
            st.session_state.view = read_link(st.query_params.to_dict())
        except InputError as error:
            st.session_state.view = View()
            st.session_state.link_error = str(error)
    return st.session_state.view


def change_view(**changes: Any) -> None:
    st.session_state.view = replace(view(), **changes)


def change_edit(**changes: Any) -> None:
    """Change parts of the edit plan, for every page; only callbacks do this, so that a run sees one plan."""
    edit = view().edit
    if edit is not None:
        change_view(edit=replace(edit, **changes))


def mirror(key: str, value: Any) -> None:
    """Let the widget `key` show `value`; left alone where it does, so that a slider in motion never jumps."""
    if st.session_state.get(key) != value:
        st.session_state[key] = value


def shows_words() -> bool:
    """Whether toxic words are shown rather than blurred."""
    return bool(st.session_state.get("show_words", False))


def current_study() -> Study | None:
    """The fitted study of this session's view, if it was there when this run began."""
    key = view().study_key
    return cache.shelf().find_study(key) if st.session_state.get("settled") == key else None


def begin_fit(key: StudyKey, afresh: bool = False) -> None:
    """Fit the study of `key` in a worker; the view moves to it once it is there."""
    shelf = cache.shelf()

    def warm():
        importlib.import_module("ui.charts")
        text.find_rude_words(("warm",))

    def work(progress):
        # The first imports of the scorer and of the charts are better spent beside the embedding, which leaves the
        # interpreter alone, than after it or when a page draws.
        warming = Thread(target=warm, name="warming job")

        def watch(stage, done, total):
            if stage == "Embedding texts" and warming.ident is None:
                warming.start()
            progress(stage, done, total)

        study = shelf.fit(key, watch, afresh)
        progress("Finding words to blur", 0, 0)
        if warming.ident is not None:
            warming.join()
        text.find_rude_words(side for pair in study.pairs for side in (pair.prompt, pair.toxic, pair.civil))
        return study

    jobs.start_job("fit", key, work)


def settle() -> None:
    """Take over what workers have finished and fit the edit plan to the study; once, at the start of a run."""
    job = jobs.find_job("fit")
    if job is not None and job.snapshot.state == "done":
        moved = job.key != view().study_key
        change_view(model=job.key.model, fit=job.key.fit)
        if moved:
            change_view(edit=None)
        st.session_state.fit_stages = job.snapshot.stages
        jobs.forget_job("fit")
    study = cache.shelf().find_study(view().study_key)
    # A study that arrives while a page is being drawn waits for the next run, which begins with an edit plan for it.
    st.session_state.settled = view().study_key if study is not None else None
    if study is not None:
        change_view(edit=fitting_edit(view().edit, study))
    elif view().study_key == StudyKey() and jobs.find_job("fit") is None:
        begin_fit(StudyKey())


def fitting_edit(edit: EditPlan | None, study: Study) -> EditPlan:
    """`edit` within what `study` has: the study's suggestion stands in for what is missing or outside."""
    if edit is None:
        return EditPlan(study.suggested_layers, study.suggested_rank)
    layers = tuple(layer for layer in edit.layers if layer < study.layers) or study.suggested_layers
    rank = min(edit.rank, study.kept)
    switched_off = frozenset(
        (layer, direction)
        for layer, direction in edit.switched_off
        if layer < study.layers and direction < study.subspaces[layer].kept
    )
    return replace(edit, layers=layers, rank=rank, switched_off=switched_off)


@dataclass(frozen=True)
class _Link:
    """One parameter of a link: where in the view it lives, and how it is written and read."""

    part: Callable[[View], Any]
    field: str
    read: Callable[[str], Any] = str
    write: Callable[[Any], str] = str


def _model(view: View) -> ModelSpec:
    return view.model


def _pairs(view: View) -> PairSpec:
    return view.fit.pairs


def _fit(view: View) -> FitPlan:
    return view.fit


def _edit(view: View) -> EditPlan:
    return view.edit or EditPlan()


def _read_switched_off(text: str) -> frozenset[tuple[int, int]]:
    return frozenset((int(layer), int(direction)) for layer, direction in (x.split(".") for x in text.split(",")))


def _write_switched_off(directions: frozenset[tuple[int, int]]) -> str:
    return ",".join(f"{layer}.{direction}" for layer, direction in sorted(directions))


LINK: Mapping[str, _Link] = {
    "model": _Link(_model, "name"),
    "revision": _Link(_model, "revision"),
    "device": _Link(_model, "device"),
    "dtype": _Link(_model, "dtype"),
    "pairs": _Link(_pairs, "source"),
    "toxic": _Link(_pairs, "toxic"),
    "civil": _Link(_pairs, "civil"),
    "prompt": _Link(_pairs, "prompt"),
    "subset": _Link(_pairs, "subset"),
    "split": _Link(_pairs, "split"),
    "pairs_revision": _Link(_pairs, "revision"),
    "limit": _Link(_pairs, "limit", int),
    "seed": _Link(_pairs, "seed", int),
    "max_length": _Link(_fit, "max_length", int),
    "pooling": _Link(_fit, "pooling"),
    "keep": _Link(_fit, "keep", int),
    "layers": _Link(_edit, "layers", lambda text: parse_layers(text, MOST_LAYERS), format_layers),
    "rank": _Link(_edit, "rank", int),
    "strength": _Link(_edit, "strength", float, lambda value: f"{value:g}"),
    "off": _Link(_edit, "switched_off", _read_switched_off, _write_switched_off),
}


def write_link(view: View) -> dict[str, str]:
    """The parameters that restore `view`; what is as on a first visit is left out."""
    untouched = View()
    return {
        name: link.write(value)
        for name, link in LINK.items()
        if (value := getattr(link.part(view), link.field)) != getattr(link.part(untouched), link.field)
    }


def read_link(parameters: Mapping[str, str]) -> View:
    """The view that `write_link` wrote.

    Raises:
        InputError: a parameter holds what it cannot hold.
    """
    changes: dict[Callable, dict[str, Any]] = {_model: {}, _pairs: {}, _fit: {}, _edit: {}}
    for name, text_value in parameters.items():
        if name in LINK:
            link = LINK[name]
            try:
                changes[link.part][link.field] = link.read(text_value)
            except ValueError as error:
                reason = str(error) if isinstance(error, InputError) else f"“{text_value}” is not a value it can have"
                raise InputError(f"The link could not be restored: its part “{name}” is wrong ({reason}).") from None
    fit = FitPlan(pairs=PairSpec(**changes[_pairs]), **changes[_fit])
    edit = EditPlan(**changes[_edit]) if changes[_edit] else None
    return View(ModelSpec(**changes[_model]), fit, edit)


def write_address() -> None:
    """Keep the address bar such that it restores this view."""
    wanted = write_link(view())
    if {name: st.query_params[name] for name in st.query_params if name in LINK} != wanted:
        st.query_params.from_dict(
            {name: st.query_params[name] for name in st.query_params if name not in LINK} | wanted
        )
