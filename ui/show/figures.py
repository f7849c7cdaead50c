"""The look that all Plotly figures share."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import plotly.graph_objects as go

# Plotly takes pandas from the loaded modules, half loaded too: no worker may be loading it while a figure is made.
import_module("pandas")

LOOK = {
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "dragmode": False,
    "hoverlabel": {"namelength": -1},
}
"""What the layouts of all charts share: the page's own background, no dragging, names in full."""
# It grows upward from the plot, so that one of many lines covers nothing.
LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"}


def tick(count: int) -> int:
    """The step between the ticks of an axis of so many."""
    return max(1, round(count / 12))


def frame_cells(
    figure: go.Figure, across: Sequence[int], up: Sequence[int], colour: str, width: int = 2, **panel: int
) -> None:
    """A frame around the cells of a heatmap from the first to the last of `across` and of `up`."""
    ends = {"x0": across[0] - 0.5, "x1": across[1] + 0.5, "y0": up[0] - 0.5, "y1": up[1] + 0.5}
    figure.add_shape(type="rect", line={"color": colour, "width": width}, **ends, **panel)


def finish(figure: go.Figure, height: int, *, across: str | None = None, up: str | None = None, **layout) -> go.Figure:
    """Give a figure its height and the look that all charts share.

    Args:
        across: colour of the grid lines of the axes across, “” for no lines; None leaves the axes as they are.
        up: the same of the axes up.
        layout: what is different here; of the margin the sides that are.
    """
    for update, colour in ((figure.update_xaxes, across), (figure.update_yaxes, up)):
        if colour is not None:
            update(zeroline=False, showgrid=bool(colour), gridcolor=colour or None, automargin=True)
    margin = {"l": 10, "r": 10, "t": 30, "b": 10} | layout.pop("margin", {})
    modebar = {"bgcolor": "rgba(0,0,0,0)", "color": "#8a8d9c", "activecolor": "#5b4b8a"}
    return figure.update_layout(**{"height": height, "modebar": modebar, **LOOK, **layout, "margin": margin})
