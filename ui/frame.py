"""What is the same on every page: the style, the sidebar, a page's head, its help, and its empty state."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.errors import InputError
from ui import chart_view, jobs, state
from ui.links import left_out
from ui.names import name_model, name_pairs
from ui.sidebar import draw_sidebar
from ui.text import escape, mask, plain
from ui.uploads import without_folder

if TYPE_CHECKING:
    from detox_engine.study import Study

ABOUT = """
**DeTox Explorer** finds the directions in a language model along which toxic text parts from civil text, shows
what they mean, and removes them.

After Uppaal, Dey, He, Zhong and Hu, *DeTox: Toxic Subspace Projection for Model Editing* (arXiv 2405.13967).
"""
ASSETS = Path(__file__).parent.parent / "assets"
ICON = str(ASSETS / "icon.png")
LOGO = str(ASSETS / "logo.svg")
STYLE = ASSETS / "style.css"
FIRST_PAGE = "pages/find/model_and_pairs.py"
CONTENT_NOTE = "DETOX_CONTENT_NOTE"
"""The environment variable that turns the content note off."""
OFF = ("off", "0", "no", "false")
_BLUR = "<style>.rude { filter: blur(0.32em); user-select: none; }</style>"


def run_page(page: st.Page) -> None:
    """Draw the frame and the page in it; what cannot be used is said in one sentence."""
    state.settle()
    draw_frame()
    try:
        page.run()
    except InputError as error:
        draw_error(str(error))
    state.load_ahead()


def draw_frame() -> None:
    """The style and the sidebar."""
    st.logo(LOGO, size="large")
    st.html(STYLE)
    chart_view.listen_for_saves()
    if not state.shows_words():
        st.html(_BLUR)
    with st.sidebar:
        draw_sidebar()
    state.write_address()
    _draw_content_note()
    _draw_link_error()


def _draw_content_note() -> None:
    """What awaits a person, at the top of the pages until they go on; `CONTENT_NOTE` turns it off."""
    if st.session_state.get("content_note_read") or os.environ.get(CONTENT_NOTE, "").strip().lower() in OFF:
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="content_note"):
        st.markdown(
            "**Before you go on:** to study rude language this tool shows some, in texts that people wrote and in "
            "texts that models write. Rude words are blurred until you switch them on in the sidebar.",
            width="stretch",
        )
        read = {"content_note_read": True}
        st.button("Go on", key="go_on", on_click=st.session_state.update, kwargs=read)


def _draw_link_error() -> None:
    """What of the link could not be restored, until it is read."""
    if "link_error" in st.session_state:
        with st.container(key="link_error"):
            draw_error(st.session_state.link_error)
            st.button("All right", key="link_error_read", on_click=st.session_state.pop, args=("link_error",))


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


def draw_error(sentence: str) -> None:
    """One sentence on what went wrong and what to do; its quotations are shown as they are."""
    st.error(plain(mask(without_folder(sentence), state.shows_words())), icon=":material/error:")


def note_long_text(path: str) -> None:
    """Under a text field: say so where its text, the view's part `path`, is too long for a link."""
    if path in left_out(state.view()):
        st.caption("This text is too long for a link: a shared view leaves it out.")


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
            on_click=state.begin_fit,
            args=(view.study_key,),
        )
        if st.button("Choose a model and pairs", icon=":material/dataset:", key="choose_model"):
            st.switch_page(FIRST_PAGE)
