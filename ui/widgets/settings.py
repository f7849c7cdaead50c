"""The one folded bar of a page that holds its settings: its label says what is set, so that nobody opens it to look."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import streamlit as st

from detox_engine.errors import InputError
from ui.show import notes
from ui.words.text import plain

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

P = TypeVar("P")


def fold_settings(words: str, key: str) -> DeltaGenerator:
    """A bar that opens on the settings of a page, to be used as a block; its key keeps it open while its words change.

    It is no popover: what that holds is made when it opens, too late for a value that the view gave it before, and the
    widget would send back an empty one.

    Args:
        words: what is set, in a few words.
    """
    return st.expander(f"Settings: {plain(words)}", icon=":material/tune:", key=key)


def pick_folded(bar: DeltaGenerator, pick: Callable[[], P | None]) -> P | None:
    """What `pick` asks for in the bar; None, and a sentence, where it cannot be so."""
    try:
        with bar:
            return pick()
    except InputError as error:
        notes.draw_error(str(error))
        return None
