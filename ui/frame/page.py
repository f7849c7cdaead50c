"""The one way in which a page runs: its head, its help, its study or what to do without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.errors import InputError
from ui.frame.frame import ASSETS, draw_frame
from ui.session import state
from ui.show.notes import draw_error
from ui.words.text import escape, plain
from ui.words.verdicts import name_model, name_pairs
from ui.work import fit, jobs

if TYPE_CHECKING:
    from detox_engine.study.study import Study

FIRST_PAGE = "model_and_pairs/page.py"


def run_page(page: st.Page) -> None:
    """Draw the frame and the page in it; what cannot be used is said in one sentence."""
    fit.settle()
    draw_frame()
    try:
        page.run()
    except InputError as error:
        draw_error(str(error))
    fit.load_ahead()


def open_page(title: str, question: str) -> None:
    """A page's head: its title and the one question it answers."""
    st.title(title, anchor=False)
    st.html(f'<p class="question">{escape(question)}</p>')


def explain(words: str, formula: str, picture: str = "", alt: str = "") -> None:
    """The expander “How to read this”: a picture from the assets where there is one, three sentences, the formula."""
    with st.expander("How to read this", icon=":material/help:"):
        if picture:
            st.image(ASSETS / picture, width=820, alt=alt)
        st.markdown(words)
        st.latex(formula)


def require_study() -> Study:
    """This view's study; where there is none, say what to do next, offer it, and end the page here."""
    study = state.current_study()
    if study is None:
        _draw_empty_state()
        st.stop()
    return study


def _draw_empty_state() -> None:
    job = jobs.find_job("fit")
    with st.container(border=True):
        if job is not None and job.running:
            st.subheader("The study is being fitted", anchor=False)
            st.write("This page opens by itself when it is ready.")
            jobs.watch_job(job, jobs.draw_progress)
        else:
            _offer_fit(job)


def _offer_fit(job: jobs.Job | None) -> None:
    view = state.view()
    st.subheader("There is no study to show yet", anchor=False)
    if job is not None and job.snapshot.state == "failed":
        draw_error(job.snapshot.error)
    st.write(plain(f"Fit {name_model(view.model)} on {name_pairs(view.fit.pairs)}, or choose others."))
    with st.container(horizontal=True):
        st.button(
            "Fit it now",
            type="primary",
            icon=":material/play_arrow:",
            key="fit_now",
            on_click=fit.begin_fit,
            args=(view.study_key,),
        )
        if st.button("Choose a model and pairs", icon=":material/dataset:", key="choose_model"):
            st.switch_page(FIRST_PAGE)
