"""Fitting a study, settling what came of it, and loading ahead."""

from __future__ import annotations

import importlib
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

import streamlit as st

from detox_engine.data.bundled import find_smollm2
from detox_engine.errors import InputError
from detox_engine.plans.sources import SMOLLM2, ModelSpec
from ui.session import kept_study, shared_models
from ui.session.links import write_link
from ui.session.state import view
from ui.session.view import StudyKey
from ui.show import notes
from ui.words import rude_words
from ui.work import jobs

if TYPE_CHECKING:
    from pathlib import Path

    from detox_engine.study.study import Study


def begin_fit(key: StudyKey, afresh: bool = False, folder: Path | None = None) -> None:
    """Fit the study of `key` in a worker, or open the one kept in `folder`; the view moves to it once it is there."""
    shelf = shared_models.shelf()

    def work(progress):
        # The first imports of the scorer and of the charts are better spent beside the embedding, which leaves the
        # interpreter alone, than after it or when a page draws.
        warming = Thread(target=_warm, name="warming job")

        def watch(stage, done, total):
            if stage == "Embedding texts" and warming.ident is None:
                warming.start()
            progress(stage, done, total)

        study = shelf.fit(key, watch, afresh, folder)
        progress("Finding words to blur", 0, 0)
        if warming.ident is not None:
            warming.join()
        rude_words.find_rude_words(side for pair in study.pairs for side in (pair.prompt, pair.toxic, pair.civil))
        return study

    jobs.start_job("fit", key, work)


def fit_or_open(key: StudyKey) -> None:
    """Fit what a person asks for, from its files as they are now; only a kept study that is not in use is opened."""
    in_use = key == st.session_state.get("settled")
    begin_fit(key, afresh=in_use or not kept_study.has_study(key))


def begin_check(key: StudyKey) -> None:
    """Confirm or refute what the study of `key` suggests, in a worker."""
    shelf = shared_models.shelf()
    jobs.start_job("check", key, lambda progress: shelf.check(key, progress))


def draw_check(study: Study, key: StudyKey, label: str, button: str, **settings: Any) -> bool:
    """How the check of a suggestion is going, or the button that begins one where it is untested; whether one runs.

    Args:
        label, button: of the button, and its key; `settings` are further ones.
    """
    check, suggestion = jobs.find_job("check"), study.suggestion
    if check is not None and check.running:
        jobs.watch_job(check, jobs.draw_progress, "Stop the check")
        return True
    if suggestion is not None and suggestion.edit is not None and suggestion.check is None:
        if check is not None and check.snapshot.state == "failed":
            notes.draw_error(check.snapshot.error)
        st.button(label, key=button, icon=":material/fact_check:", on_click=begin_check, args=(key,), **settings)
    return False


def _warm() -> None:
    importlib.import_module("ui.show.figures")
    rude_words.find_rude_words(("warm",))


def load_ahead() -> None:
    """Load, once a page is drawn, what the next ones will want: a kept study needs no model to be shown."""
    shelf, spec = shared_models.shelf(), view().model

    def load() -> None:
        with suppress(InputError):  # which whoever needs the model will be told
            shelf.workbench(spec)
        _warm()

    if (
        view().study_key == st.session_state.get("settled")
        and kept_study.is_to_be_kept(view().study_key)
        and shelf.find_workbench(spec) is None
        and st.session_state.get("loading_ahead") != spec
    ):
        st.session_state.loading_ahead = spec
        Thread(target=load, name="loading job", daemon=True).start()


def settle() -> None:
    """Take over what workers have finished and fit the edit plan to the study; once, at the start of a run."""
    job = jobs.find_job("fit")
    if job is not None and job.snapshot.state == "done":
        if job.key != view().study_key:
            st.session_state.view = view().move_to(job.key)
        st.session_state.fit_stages = job.snapshot.stages
        jobs.forget_job("fit")
        suggestion = job.snapshot.result.suggestion
        if suggestion is not None and suggestion.edit is not None and suggestion.check is None:
            begin_check(job.key)
    check = jobs.find_job("check")
    if check is not None and check.snapshot.state == "done":
        jobs.forget_job("check")
    _go_on_without_smollm2()
    study = shared_models.shelf().find_study(view().study_key)
    # A study that arrives while a page is being drawn waits for the next run, which begins with an edit plan for it.
    st.session_state.settled = view().study_key if study is not None else None
    if study is not None:
        _fit_view_to(study)
    elif jobs.find_job("fit") is None and opens_by_itself(view().study_key):
        begin_fit(view().study_key)


def _go_on_without_smollm2() -> None:
    """A link can ask for the real model where it is not installed: say so, and show the bundled one."""
    if view().model.name == SMOLLM2:
        try:
            find_smollm2()
        except InputError as error:
            st.session_state.link_error = f"{error} The bundled model is shown in its place."
            st.session_state.view = view().put("model", ModelSpec())


def opens_by_itself(key: StudyKey) -> bool:
    """Whether nobody has to ask for the study: that of a first visit is fitted in seconds, a kept one only read."""
    return key == StudyKey() or kept_study.has_study(key)


def _fit_view_to(study: Study) -> None:
    """Widgets stay within the study that is in use, so what is outside came with the link: say so."""
    fitted = view().fit_to(study)
    if fitted == view():
        return
    asked, given = write_link(view()), write_link(fitted)
    outside = [name for name, value in asked.items() if given.get(name) != value]
    if outside:
        names = " and ".join(f"“{name}”" for name in outside)
        st.session_state.link_error = (
            f"The link asks for more than this study has, in its {'part' if len(outside) == 1 else 'parts'} {names}: "
            "what the study has instead is shown."
        )
    st.session_state.view = fitted
