"""Rank against first layer of a grid of edits, as a Plotly figure: a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ui.show.colours import Palette
from ui.show.figures import finish
from ui.show.frontier import Axis, hover_of
from ui.words.numbers import number
from ui.words.verdicts import name_control

if TYPE_CHECKING:
    from detox_engine.scoring.results import SweepPoint


def grid_figure(
    points: Sequence[SweepPoint], chosen: Sequence[int], axis: Axis, colours: Palette, current: int | None = None
) -> go.Figure:
    """Rank × first layer, coloured by one score: under the edit, below it under its first control, on one scale.

    Args:
        chosen: indices of the points to show, of one last layer and strength.
        current: index of the point that is the edit plan; None where none is.
    """
    ranks = sorted({points[index].rank for index in chosen})
    starts = sorted({points[index].layers[0] for index in chosen})
    values = np.full((2, len(ranks), len(starts)), np.nan)
    for index in chosen:
        effect = points[index].effects[axis.name]
        cell = ranks.index(points[index].rank), starts.index(points[index].layers[0])
        values[0][cell], values[1][cell] = effect.after.mean, effect.control.level.mean
    # Room for a title between the two, however few rows they have.
    gap = 0.5 / (len(ranks) + 1)
    titles = "The edit", f"{name_control(points[chosen[0]].effects[axis.name].control.kind)} instead"
    figure = make_subplots(2, 1, subplot_titles=titles, shared_xaxes=True, vertical_spacing=gap)
    names = [[str(start) for start in starts], [str(rank) for rank in ranks]]
    for row, grid in enumerate(values, start=1):
        figure.add_heatmap(
            z=grid,
            x=names[0],
            y=names[1],
            coloraxis="coloraxis",
            xgap=2,
            ygap=2,
            text=[[number(value) if np.isfinite(value) else "" for value in line] for line in grid],
            texttemplate="%{text}" if len(starts) <= 12 else None,
            hovertemplate=f"Rank %{{y}}, first layer %{{x}}: {axis.title.lower()} %{{text}}<extra></extra>",
            row=row,
            col=1,
        )
    _add_cells(figure, points, chosen, axis)
    if current in chosen:
        x, y = starts.index(points[current].layers[0]), ranks.index(points[current].rank)
        corners = {"x0": x - 0.5, "x1": x + 0.5, "y0": y - 0.5, "y1": y + 0.5}
        figure.add_shape(type="rect", **corners, line={"color": colours.edited, "width": 4}, row=1, col=1)
    ramp = colours.ramp if axis.lower_is_better else colours.ramp[::-1]
    figure.update_layout(
        coloraxis={
            "colorscale": [[index / (len(ramp) - 1), colour] for index, colour in enumerate(ramp)],
            "colorbar": {"title": {"text": axis.unit, "side": "right"}, "thickness": 12},
        }
    )
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_xaxes(title="first layer", row=2)
    figure.update_yaxes(title="rank", type="category", showgrid=False)
    return finish(figure, 166 + 72 * len(ranks), across="", up="", margin={"t": 34}, showlegend=False)


def _add_cells(figure: go.Figure, points: Sequence[SweepPoint], chosen: Sequence[int], axis: Axis) -> None:
    """A dot on every cell of the edit, unseen, so that a click tells its setting."""
    figure.add_scatter(
        x=[str(points[index].layers[0]) for index in chosen],
        y=[str(points[index].rank) for index in chosen],
        customdata=[[index] for index in chosen],
        text=[hover_of(points[index], axis) for index in chosen],
        mode="markers",
        marker={"size": 28, "symbol": "square", "opacity": 0},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        hovertemplate="%{text}<extra></extra>",
        row=1,
        col=1,
    )
