"""What a session looks at, kept over reruns and pages, and in the address bar.

The view is the one truth; widgets only mirror it. A widget that is bound to a part of the view is given its value
before it is drawn and writes back in its callback, so changing it anywhere changes it everywhere.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, Any

import streamlit as st

from detox_engine.errors import InputError
from ui import cache, jobs, text
from ui.cache import StudyKey
from ui.links import LINK, read_link, write_link
from ui.view import View

if TYPE_CHECKING:
    from detox_engine.study import Study


def view() -> View:
    """What this session looks at; the first call of a session reads it from the link it was opened with."""
    if "view" not in st.session_state:
        try:
            st.session_state.view = read_link(st.query_params.to_dict())
        except InputError as error:
            st.session_state.view = View()
            st.session_state.link_error = str(error)
    return st.session_state.view


def change_edit(**changes: Any) -> None:
    """Change parts of the edit plan, for every page; only callbacks do this, so that a run sees one plan."""
    edit = view().edit
    if edit is not None:
        put("edit", replace(edit, **changes))


def bind(
    key: str,
    path: str,
    options: Sequence[Any] = (),
    show: Callable[[Any], Any] = lambda part: part,
    take: Callable[[Any], Any] = lambda value: value,
) -> dict[str, Any]:
    """Settings of the widget `key` with which it shows the view's part `path` and changes it.

    The widget must be given no value of its own (no `value`, `default` or `index`) and no other callback.

    Args:
        options: what the widget offers; the first is shown where the part is none of them.
        show: makes the widget's value of the part; within what the widget can show.
        take: makes the part of the widget's value.
    """
    shown = show(view()[path])
    if options and shown not in options:
        shown = options[0]
    # Left alone where it shows this, so that a slider in motion never jumps.
    if st.session_state.get(key) != shown:
        st.session_state[key] = shown
    return {"key": key, "on_change": lambda: put(path, take(st.session_state[key]))}


def put(path: str, value: Any) -> None:
    """Change the view's part `path`; only callbacks do this, so that a run sees one view."""
    st.session_state.view = view().put(path, value)


def picked_layer(study: Study) -> int:
    """The one picked layer of every page: of the layers suggested for an edit the last, until one is picked."""
    layer = view().layer
    return study.suggested_layers[-1] if layer is None else layer


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

    def work(progress):
        # The first imports of the scorer and of the charts are better spent beside the embedding, which leaves the
        # interpreter alone, than after it or when a page draws.
        warming = Thread(target=_warm, name="warming job")

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


def _warm() -> None:
    importlib.import_module("ui.charts")
    text.find_rude_words(("warm",))


def load_ahead() -> None:
    """Load, once a page is drawn, what the next ones will want: a kept study needs no model to be shown."""
    shelf, spec = cache.shelf(), view().model

    def load() -> None:
        with suppress(InputError):  # which whoever needs the model will be told
            shelf.workbench(spec)
        _warm()

    if (
        view().study_key == StudyKey() == st.session_state.get("settled")
        and shelf.find_workbench(spec) is None
        and "loading_ahead" not in st.session_state
    ):
        st.session_state.loading_ahead = True
        Thread(target=load, name="loading job", daemon=True).start()


def settle() -> None:
    """Take over what workers have finished and fit the edit plan to the study; once, at the start of a run."""
    job = jobs.find_job("fit")
    if job is not None and job.snapshot.state == "done":
        if job.key != view().study_key:
            st.session_state.view = view().move_to(job.key)
        st.session_state.fit_stages = job.snapshot.stages
        jobs.forget_job("fit")
    study = cache.shelf().find_study(view().study_key)
    # A study that arrives while a page is being drawn waits for the next run, which begins with an edit plan for it.
    st.session_state.settled = view().study_key if study is not None else None
    if study is not None:
        _fit_view_to(study)
    elif view().study_key == StudyKey() and jobs.find_job("fit") is None:
        begin_fit(StudyKey())


def _fit_view_to(study: Study) -> None:
    """Widgets stay within the study that is in use, so what is outside came with the link: say so."""
    asked, fitted = write_link(view()), view().fit_to(study)
    outside = [name for name, value in asked.items() if write_link(fitted).get(name) != value]
    if outside:
        names = " and ".join(f"“{name}”" for name in outside)
        st.session_state.link_error = (
            f"The link asks for more than this study has, in its {'part' if len(outside) == 1 else 'parts'} {names}: "
            "what the study has instead is shown."
        )
    st.session_state.view = fitted


def write_address() -> None:
    """Keep the address bar such that it restores this view."""
    wanted = write_link(view())
    if {name: st.query_params[name] for name in st.query_params if name in LINK} != wanted:
        st.query_params.from_dict(
            {name: st.query_params[name] for name in st.query_params if name not in LINK} | wanted
        )
