"""The field for a person's own words, which may be long or rude."""

from __future__ import annotations

from typing import Any

import streamlit as st

from ui.session import state
from ui.session.links import left_out
from ui.show.downloads import blur_rude


def ask_words(path: str, label: str, key: str, **settings: Any) -> str:
    """Ask for the view's part `path`, blurred where it is rude until the field is used; returns it."""
    written = st.text_area(label, **settings, **state.bind(key, path))
    blur_rude(written, key)
    if path in left_out(state.view()):
        st.caption("This text is too long for a link: a shared view leaves it out.")
    return written
