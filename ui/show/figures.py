"""The look that all Plotly figures share."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

if TYPE_CHECKING:
    from ui.show.colours import Palette

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


def whiskers(
    means: Sequence[float], lows: Sequence[float], highs: Sequence[float], colour: str, **more: Any
) -> dict[str, Any]:
    """Bars from `lows` to `highs` around `means`; a bootstrap interval can leave its mean outside by rounding."""
    up = [max(0.0, high - mean) for mean, high in zip(means, highs, strict=True)]
    down = [max(0.0, mean - low) for mean, low in zip(means, lows, strict=True)]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "color": colour, **more}


def frame_cells(
    figure: go.Figure, across: Sequence[int], up: Sequence[int], colour: str, width: int = 2, **panel: int
) -> None:
    """A frame around the cells of a heatmap from the first to the last of `across` and of `up`."""
    ends = {"x0": across[0] - 0.5, "x1": across[1] + 0.5, "y0": up[0] - 0.5, "y1": up[1] + 0.5}
    figure.add_shape(type="rect", line={"color": colour, "width": width}, **ends, **panel)


def add_noise_band(figure: go.Figure, level: float, shown: int, unit: str, colours: Palette) -> None:
    """From nothing up to what a direction must exceed to stand out: a wash of colour that ends in a line.

    Args:
        shown: bars, of which the first stands at 1.
        unit: how the level is written on hover.
    """
    ends = [0.4, shown + 0.6]
    figure.add_scatter(
        x=ends,
        y=[level, level],
        mode="lines",
        name="Noise band",
        line={"color": colours.civil, "width": 1.5, "dash": "dash"},
        hovertemplate=f"Noise reaches up to %{{y:{unit}}}<extra></extra>",
    )
    wash = {"fillcolor": colours.civil, "opacity": 0.12, "line": {"width": 0}, "layer": "below"}
    figure.add_shape(type="rect", x0=ends[0], x1=ends[1], y0=0, y1=level, **wash)


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
