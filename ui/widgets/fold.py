"""What stands behind a folded bar and is made once a person opens it."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st


def draw_folded(label: str, key: str, icon: str, draw: Callable[[], None]) -> None:
    """A bar that opens on what `draw` draws.

    A chart or a table takes a browser a tenth of a second each, seen or not.
    """
    bar = st.expander(label, icon=icon, key=key, on_change="rerun")
    if bar.open:
        with bar:
            draw()
