"""A grid of edits as Plotly figures: one score against another, and rank against first layer; pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from detox_engine.plans.edit import describe_edit
from detox_engine.scoring.recommend import find_frontier
from ui.show.colours import LIGHT, Palette
from ui.show.figures import finish
from ui.words.numbers import interval, number
from ui.words.verdicts import CONTROLS, name_control, way

if TYPE_CHECKING:
    from detox_engine.scoring.results import SweepPoint

Shade = Literal["rank", "first layer", "last layer", "strength"]

_GREENS = {
    "light": ("#9adbc4", "#009e73", "#00382a"),
    "dark": ("#1b6b53", "#2fc79a", "#d9fbef"),
}
"""From little to much of what the dots are shaded by, in the colour of edits."""
SYMBOLS = {"plain": "square-open", "matched": "triangle-up-open"}
"""Of the draws of each kind of control."""


@dataclass(frozen=True)
class Axis:
    """A scorer as the axis of a chart."""

    name: str
    title: str
    unit: str
    lower_is_better: bool

    @property
    def label(self) -> str:
        return f"{self.title}<br>({self.unit}; {way(self.lower_is_better)})"

    @property
    def sign(self) -> int:
        return -1 if self.lower_is_better else 1


def trade_off_figure(
    points: Sequence[SweepPoint], x: Axis, y: Axis, shade: Shade, colours: Palette,
    limit: float | None = None, recommended: int | None = None, current: int | None = None,
    others: Sequence[SweepPoint] = (),
) -> go.Figure:  # fmt: skip
    """Every setting by two scores, the frontier of them, the unedited model, and a cloud for each random control.

    Args:
        limit: a bound on x, drawn as a line.
        recommended: index of the point that is recommended; None where none is.
        current: index of the point that is the edit plan; None where none is.
        others: settings of another run, held beside these.
    """
    places = [(point.effects[x.name].after.mean, point.effects[y.name].after.mean) for point in points]
    figure = go.Figure()
    _add_controls(figure, points, x, y, colours)
    _add_frontier(figure, points, places, x, y, colours)
    _add_rings(figure, places, recommended, current, colours)
    _add_others(figure, others, x, y, colours)
    _add_settings(figure, points, places, x, y, shade, colours)
    before = points[0].effects
    figure.add_scatter(
        x=[before[x.name].before.mean],
        y=[before[y.name].before.mean],
        name="Unedited model",
        mode="markers",
        marker={"symbol": "x", "size": 12, "color": colours.quiet},
        hovertemplate=f"Unedited model<br>{x.title}: {interval(before[x.name].before)}<br>"
        f"{y.title}: {interval(before[y.name].before)}<extra></extra>",
    )
    for axis, update, side in ((x, figure.update_xaxes, 0), (y, figure.update_yaxes, 1)):
        update(title=axis.label, **_scale([before[axis.name].before.mean, *(place[side] for place in places)]))
    if limit is not None:
        _add_limit(figure, limit, colours)
    legend = {"orientation": "h", "y": 1.06, "yanchor": "bottom", "x": 0}
    return finish(figure, 480, across=colours.line, up=colours.line, margin={"t": 34}, legend=legend)


def _add_limit(figure: go.Figure, limit: float, colours: Palette) -> None:
    figure.add_vline(x=limit, line={"color": colours.toxic, "dash": "dash", "width": 1.5})
    # A note on a logarithmic axis is placed by the logarithm, unlike a line.
    place = math.log10(limit) if figure.layout.xaxis.type == "log" else limit
    text, font = f"your limit: {number(limit)}", {"color": colours.toxic, "size": 12}
    anchors = {"xanchor": "left", "yanchor": "top", "yref": "paper"}
    figure.add_annotation(x=place, y=1, text=text, font=font, showarrow=False, **anchors)


WIDE = 30
"""How many times the least the greatest score is from which on one that broke the model would squeeze all others."""


def _scale(scores: Sequence[float]) -> dict[str, str]:
    """A logarithmic axis where scores are orders of magnitude apart, as the perplexity of a broken model is."""
    there = [score for score in scores if math.isfinite(score)]
    if there and min(there) > 0 and max(there) > WIDE * min(there):
        return {"type": "log"}
    # No score is below 0, though the interval of a change can reach there.
    return {"rangemode": "nonnegative"}


def _add_controls(figure: go.Figure, points: Sequence[SweepPoint], x: Axis, y: Axis, colours: Palette) -> None:
    for place, control in enumerate(points[0].effects[x.name].controls):
        pairs = [[point.effects[axis.name].controls[place].draws for axis in (x, y)] for point in points]
        rows = [
            (left, right, describe_edit(point.edit))
            for point, draws in zip(points, pairs, strict=True)
            for left, right in zip(*draws, strict=True)
        ]
        xs, ys, words = zip(*rows, strict=True)
        name = name_control(control.kind)
        figure.add_scatter(
            x=xs,
            y=ys,
            text=words,
            name=name,
            mode="markers",
            marker={"symbol": SYMBOLS[control.kind], "size": 7, "color": colours.quiet, "opacity": 0.7},
            hovertemplate=f"{name} instead: %{{text}}<br>{x.title} %{{x:.4g}}, {y.title} %{{y:.3g}}<extra></extra>",
        )


def _add_frontier(
    figure: go.Figure, points: Sequence[SweepPoint], places: Sequence[tuple[float, float]], x: Axis, y: Axis,
    colours: Palette,
) -> None:  # fmt: skip
    """A stair through the settings that no other beats in both scores, with the intervals of their change."""
    frontier = find_frontier(places, (x.sign, y.sign))
    bars = {}
    for axis, bar in ((x, "error_x"), (y, "error_y")):
        sides = [points[index].effects[axis.name].difference for index in frontier]
        bars[bar] = {
            "type": "data",
            "symmetric": False,
            "array": [max(0.0, side.high - side.mean) for side in sides],
            "arrayminus": [max(0.0, side.mean - side.low) for side in sides],
            "color": colours.edited,
            "thickness": 0.8,
            "width": 2,
        }
    figure.add_scatter(
        x=[places[index][0] for index in frontier],
        y=[places[index][1] for index in frontier],
        name="Frontier: no setting beats these in both",
        mode="lines",
        line={"color": colours.edited, "width": 2, "shape": "hv" if x.lower_is_better else "vh"},
        hoverinfo="skip",
        **bars,
    )


def _add_rings(
    figure: go.Figure, places: Sequence[tuple[float, float]], recommended: int | None, current: int | None,
    colours: Palette,
) -> None:  # fmt: skip
    rings = (
        ("Recommended", recommended, 24, colours.civil, "circle-open"),
        ("The edit plan now", current, 18, colours.quiet, "diamond-open"),
    )
    for name, index, size, colour, symbol in rings:
        if index is not None:
            figure.add_scatter(
                x=[places[index][0]],
                y=[places[index][1]],
                name=name,
                mode="markers",
                marker={"symbol": symbol, "size": size, "color": colour, "line": {"width": 3}},
                hoverinfo="skip",
            )


def _add_others(figure: go.Figure, others: Sequence[SweepPoint], x: Axis, y: Axis, colours: Palette) -> None:
    if others:
        figure.add_scatter(
            x=[point.effects[x.name].after.mean for point in others],
            y=[point.effects[y.name].after.mean for point in others],
            text=["<br>".join(describe_scores(point, x, y)) for point in others],
            name="The other run",
            mode="markers",
            marker={"symbol": "circle-open", "size": 10, "color": colours.civil, "line": {"width": 2}},
            hovertemplate="%{text}<br>Of the run held beside<extra></extra>",
        )


def _add_settings(
    figure: go.Figure, points: Sequence[SweepPoint], places: Sequence[tuple[float, float]], x: Axis, y: Axis,
    shade: Shade, colours: Palette,
) -> None:  # fmt: skip
    values = [shade_of(point, shade) for point in points]
    levels = sorted(set(values))
    # By place rather than by value, so that ranks 1 2 4 8 are as far apart to the eye.
    shades = [levels.index(value) for value in values]
    ramp = _GREENS["light" if colours == LIGHT else "dark"]
    figure.add_scatter(
        x=[place[0] for place in places],
        y=[place[1] for place in places],
        customdata=[[index] for index in range(len(points))],
        text=[_hover(point, x, y) for point in points],
        name="Settings of the edit",
        mode="markers",
        marker={
            "size": 11,
            "color": shades,
            "colorscale": [[0, ramp[0]], [0.5, ramp[1]], [1, ramp[2]]],
            "cmin": 0,
            "cmax": max(1, len(levels) - 1),
            "line": {"width": 1, "color": colours.background},
            "colorbar": {
                "title": {"text": shade.capitalize(), "side": "right"},
                "tickvals": list(range(len(levels)))[:: math.ceil(len(levels) / 10)],
                "ticktext": [f"{level:g}" for level in levels][:: math.ceil(len(levels) / 10)],
                "thickness": 12,
            },
            "showscale": len(levels) > 1,
        },
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
        hovertemplate="%{text}<extra></extra>",
    )


def shade_of(point: SweepPoint, shade: Shade) -> float:
    return {
        "rank": point.rank,
        "first layer": point.layers[0],
        "last layer": point.layers[-1],
        "strength": point.strength,
    }[shade]


def describe_scores(point: SweepPoint, *axes: Axis) -> list[str]:
    """A setting, and its scores, each with its interval and its controls."""
    lines = [describe_edit(point.edit).capitalize()]
    for axis in axes:
        effect = point.effects[axis.name]
        controls = (f"; {CONTROLS[each.kind].lower()} {number(each.level.mean)}" for each in effect.controls)
        lines.append(f"{axis.title}: {interval(effect.after)}{''.join(controls)}")
    return lines


def _hover(point: SweepPoint, *axes: Axis) -> str:
    return "<br>".join([*describe_scores(point, *axes), "Click to make it the edit plan"])


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
        text=[_hover(points[index], axis) for index in chosen],
        mode="markers",
        marker={"size": 28, "symbol": "square", "opacity": 0},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        hovertemplate="%{text}<extra></extra>",
        row=1,
        col=1,
    )
