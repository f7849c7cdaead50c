"""Short notes on a page."""

from __future__ import annotations

import streamlit as st

from ui.session import state
from ui.session.folders import without_folder
from ui.words.rude_words import mask
from ui.words.text import plain


def draw_error(sentence: str) -> None:
    """One sentence on what went wrong and what to do; its quotations are shown as they are."""
    st.error(plain(mask(without_folder(sentence), state.shows_words())), icon=":material/error:")
