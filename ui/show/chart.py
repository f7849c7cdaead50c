"""A chart on a page, with words for those who cannot see it, and its picture and data to take along."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from detox_engine.data.bundled import ASSETS
from ui.show.colours import palette
from ui.show.downloads import KINDS, Table, write_csv
from ui.words.text import escape

if TYPE_CHECKING:
    import plotly.graph_objects as go

SCRIPT = ASSETS / "save_chart.js"
PICTURES = ("svg", "png")
STILL = {"displayModeBar": False}


def draw_chart(
    figure: go.Figure,
    key: str,
    title: str,
    alt: str,
    table: Callable[[], Table],
    filename: str,
    *,
    on_select: Callable[[], None] | None = None,
    selection_mode: str | tuple[str, ...] = "points",
    config: Mapping[str, Any] = STILL,
) -> None:
    """Draw `figure`, and under it the buttons that save it as SVG, PNG and CSV.

    Args:
        key: of the chart's widget; its selection is at `st.session_state[key]`.
        title: what stands above the saved picture; masked by the caller where it holds words of others.
        alt: what the picture shows, with its main numbers.
        table: heads and rows of the data, made when somebody saves them; words in full.
        filename: of the saved files, without an ending.
        on_select: called when points are selected; None where they cannot be.
    """
    for note in figure.layout.annotations:
        if note.font.color is None:
            # Streamlit's own grey is fainter than small words may be.
            note.font.color = palette(st.context.theme.type).quiet
    with st.container(key=f"chart_{key}", gap="xxsmall"):
        st.plotly_chart(
            figure,
            key=key,
            alt=alt,
            config={"modeBarButtonsToRemove": ["toImage"], **config},
            on_select="ignore" if on_select is None else on_select,
            selection_mode=selection_mode,
        )
        with st.container(
            key=f"save_{key}", horizontal=True, horizontal_alignment="right", vertical_alignment="center", gap=None
        ):
            st.html(_pictures_html(title, filename), width="content")
            st.download_button(
                "CSV",
                lambda: write_csv(*table()),
                f"{filename}.csv",
                KINDS["csv"],
                key=f"csv_{key}",
                type="tertiary",
                on_click="ignore",
            )


def clicked(key: str, field: str) -> list[Any]:
    """What the points that are selected in the chart `key` hold as `field`; the next figure loses the selection."""
    points = st.session_state[key]["selection"]["points"]
    return [point[field] for point in points if point.get(field) is not None]


def _pictures_html(title: str, filename: str) -> str:
    buttons = "".join(
        f'<button type="button" data-picture="{kind}" data-title="{escape(title)}" '
        f'data-filename="{escape(filename)}" aria-label="Save as {kind.upper()}: {escape(title)}">{kind.upper()}'
        "</button>"
        for kind in PICTURES
    )
    return f'<span class="save">Save {buttons}</span>'


def listen_for_saves() -> None:
    """The script behind the buttons that save pictures; once on every page."""
    st.html(f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>", unsafe_allow_javascript=True)
