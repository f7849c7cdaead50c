"""What is the same on every page: the style, the sidebar, a page's head, its help, and its empty state."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import streamlit as st

from detox_engine.data.bundled import ASSETS
from ui.frame.sidebar import draw_sidebar
from ui.session import state
from ui.session.folders import cache_folder, read_words
from ui.session.places import keeps_results
from ui.show import chart
from ui.show.notes import draw_error
from ui.words import rude_words

ABOUT = """
**DeTox Explorer** finds the directions in a language model along which toxic text parts from civil text, shows
what they mean, and removes them.

After Uppaal, Dey, He, Zhong and Hu, *DeTox: Toxic Subspace Projection for Model Editing* (arXiv 2405.13967).
"""
ICON = str(ASSETS / "icon.png")
LOGO = str(ASSETS / "logo.svg")
STYLE = ASSETS / "style.css"
CONTENT_NOTE = "DETOX_CONTENT_NOTE"
"""The environment variable that turns the content note off."""
OFF = ("off", "0", "no", "false")
_BLUR = "<style>.rude { filter: blur(0.32em); user-select: none; }</style>"


def draw_frame() -> None:
    """The style and the sidebar."""
    if keeps_results():
        rude_words.add_words(read_words())
    st.logo(LOGO, size="large")
    st.html(STYLE)
    chart.listen_for_saves()
    if not state.shows_words():
        st.html(_BLUR)
    with st.sidebar:
        draw_sidebar()
    state.write_address()
    _draw_content_note()
    _draw_link_error()


def _draw_content_note() -> None:
    """What awaits a person, at the top of the pages until they go on; `CONTENT_NOTE` turns it off."""
    if os.environ.get(CONTENT_NOTE, "").strip().lower() in OFF or _has_read_note():
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="content_note"):
        st.markdown(
            "**Before you go on:** to study rude language this tool shows some. Rude words are blurred until you "
            "switch them on in the sidebar.",
            width="stretch",
        )
        st.button("Go on", key="go_on", on_click=_remember_note)


def _has_read_note() -> bool:
    """Whether whoever sits here has gone on, in this visit or in an earlier one to their own machine."""
    return bool(st.session_state.get("content_note_read")) or (keeps_results() and _note_file().exists())


def _note_file() -> Path:
    return cache_folder() / "content_note_read"


def _remember_note() -> None:
    st.session_state.content_note_read = True
    if keeps_results():
        with suppress(OSError):  # then it is read once more at the next visit
            _note_file().parent.mkdir(parents=True, exist_ok=True)
            _note_file().touch()


def _draw_link_error() -> None:
    """What of the link could not be restored, until it is read."""
    if "link_error" in st.session_state:
        with st.container(key="link_error"):
            draw_error(st.session_state.link_error)
            st.button("All right", key="link_error_read", on_click=st.session_state.pop, args=("link_error",))
