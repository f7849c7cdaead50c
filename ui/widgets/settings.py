"""The folded bar that a page's settings live in: its label says what is set, so that nobody opens it to look."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import streamlit as st

from ui.words.text import plain

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator


def fold_settings(said: Iterable[str], key: str) -> DeltaGenerator:
    """A folded bar for widgets, to be used as a block.

    It is no popover: what that holds is made when it opens, too late for a value that the view gave it before, and
    the widget would send back an empty one.

    Args:
        said: what is set, in a few words each; what is as usual need not be said.
    """
    words = ", ".join(part for part in said if part)
    return st.expander(f"Settings: {plain(words)}" if words else "Settings", icon=":material/tune:", key=key)
