"""The one folded bar of a page that holds all of its settings, and says what is set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import streamlit as st

from detox_engine.errors import InputError
from ui.show import notes

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

P = TypeVar("P")


def fold_settings(words: str, key: str) -> DeltaGenerator:
    """A bar that opens on the settings of a page; its key keeps it open while what it says changes.

    Args:
        words: what is set, in a few words; plain, as Markdown.
    """
    return st.expander(f"Settings: {words}", icon=":material/tune:", key=f"{key}_settings")


def pick_folded(bar: DeltaGenerator, pick: Callable[[], P | None]) -> P | None:
    """What `pick` asks for in the bar; None, and a sentence, where it cannot be so."""
    try:
        with bar:
            return pick()
    except InputError as error:
        notes.draw_error(str(error))
        return None
