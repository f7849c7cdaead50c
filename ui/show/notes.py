"""Short notes on a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.errors import InputError
from ui.session import state
from ui.session.folders import without_folder
from ui.words.rude_words import mask
from ui.words.text import plain
from ui.words.verdicts import finding_html

if TYPE_CHECKING:
    from detox_engine.plans.edit import EditPlan


def draw_error(sentence: str) -> None:
    """One sentence on what went wrong and what to do; its quotations are shown as they are."""
    st.error(plain(mask(without_folder(sentence), state.shows_words())), icon=":material/error:")


def attempt(change: Callable[[], None], place: str) -> None:
    """Do what a callback asks for; where it cannot be done, `draw_failure` says why at that place."""
    try:
        change()
    except InputError as error:
        st.session_state[f"failure_{place}"] = str(error)


def draw_failure(place: str) -> None:
    """Why the latest attempt at a place failed, once."""
    if sentence := st.session_state.pop(f"failure_{place}", ""):
        draw_error(sentence)


def draw_verdict(words: str) -> None:
    """What a page's picture comes to, above it; words of others are masked by the caller."""
    st.html(finding_html("unclear", "", words))


def warn_of_no_edit(edit: EditPlan) -> bool:
    """Say so where an edit plan removes nothing, since all of its directions are switched off; whether that is so."""
    if edit.removes_nothing:
        st.warning(
            "Every direction of the edit plan is switched off, so it removes nothing.", icon=":material/warning:"
        )
    return edit.removes_nothing
