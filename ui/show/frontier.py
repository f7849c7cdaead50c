"""Edits by two scores, their frontier, the edit plan, and a cloud for each random control: pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import plotly.graph_objects as go

from detox_engine.estimates import Effect, Estimate
from detox_engine.plans.edit import describe_edit
from detox_engine.scoring.recommend import find_frontier
from ui.show.colours import Palette, see_through
from ui.show.figures import finish
from ui.words.numbers import interval, number
from ui.words.verdicts import CONTROLS, name_control, way

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    others: Sequence[SweepPoint] = (), others_name: str = "The other run", height: int = 480, legend: bool = True,
) -> go.Figure:  # fmt: skip
    """Every setting by two scores, the frontier of them, the unedited model, and a cloud for each random control.

    Where a setting broke the model its score would squeeze all others: an axis then ends before it, and what lies
    beyond stands at its end as an arrow.

    Args:
        limit: a bound on x, drawn as a line.
        recommended: index of the point that is recommended; None where none is.
        current: index of the point that is the edit plan; None where none is.
        others: settings of another run, held beside these.
        others_name: what those are called.
        height: pixels.
        legend: whether the picture says what its marks are; a narrow one leaves that to its caption.
    """
    before = points[0].effects
    ends = {
        axis.name: find_end(
            [point.effects[axis.name].after.mean for point in (*points, *others)],
            before[axis.name],
            limit if axis is x else None,
        )
        for axis in (x, y)
    }
    places = [_place(point, x, y, ends) for point in points]
    figure = go.Figure()
    _add_controls(figure, points, x, y, ends, colours)
    _add_frontier(figure, points, places, x, y, ends, colours)
    _add_rings(figure, places, recommended, current, colours)
    _add_others(figure, others, x, y, ends, others_name, colours)
    _add_settings(figure, points, places, x, y, ends, shade, colours)
    figure.add_scatter(
        x=[before[x.name].before.mean],
        y=[before[y.name].before.mean],
        name="Unedited model",
        mode="markers",
        showlegend=False,
        marker={"symbol": "x", "size": 12, "color": colours.quiet},
        hovertemplate=f"Unedited model<br>{x.title}: {interval(before[x.name].before)}<br>"
        f"{y.title}: {interval(before[y.name].before)}<extra></extra>",
    )
    _name(figure, before[x.name].before.mean, before[y.name].before.mean, "unedited", colours.quiet, colours, 12)
    for axis, update in ((x, figure.update_xaxes), (y, figure.update_yaxes)):
        scores = [before[axis.name].before.mean, *(point.effects[axis.name].after.mean for point in (*points, *others))]
        update(title=axis.label, **_range(scores, ends[axis.name], limit if axis is x else None))
    if limit is not None:
        _add_limit(figure, limit, " %" if x.unit.startswith("%") else "", colours)
    if not legend:
        figure.update_traces(marker_showscale=False, selector={"name": "Settings of the edit"})
    place = {"orientation": "h", "y": 1.04, "yanchor": "bottom", "x": 0}
    look = {"margin": {"t": 34}, "legend": place, "showlegend": legend}
    return finish(figure, height, across=colours.line, up=colours.line, **look)


def _add_limit(figure: go.Figure, limit: float, unit: str, colours: Palette) -> None:
    figure.add_vline(x=limit, line={"color": colours.toxic, "dash": "dash", "width": 1.5})
    text, font = f"your limit: {limit:.4g}{unit}", {"color": colours.toxic, "size": 12}
    anchors = {"xanchor": "left", "yanchor": "top", "yref": "paper"}
    figure.add_annotation(x=limit, y=1, text=text, font=font, showarrow=False, **anchors)


FAR = 3.0
"""How many times what it was a score is, from which on it would squeeze all others."""
REACH = 5.0
"""Where there is a limit, how many times the rise that it allows are shown."""


def find_end(scores: Sequence[float], effect: Effect, limit: float | None = None) -> float | None:
    """Where an axis ends, before scores of a model that broke; None where it holds all of them.

    Args:
        limit: a bound on the score, around which it is to be read.
    """
    before = effect.before.mean
    if limit is not None and limit > before:
        far, least = before + REACH * (limit - before), before + 1.5 * (limit - before)
    else:
        # A change in % of what it was begins at 0.
        far, least = (FAR * before, 1.5 * before) if before > 0 else (100 * (FAR - 1), 50.0)
    near = [score for score in scores if score <= far]
    return None if len(near) == len(scores) else before + 1.1 * (max([*near, least]) - before)


def _place(point: SweepPoint, x: Axis, y: Axis, ends: Mapping[str, float | None]) -> tuple[float, float]:
    """Where a setting stands: what lies beyond the end of an axis at its end."""
    return tuple(_within(point.effects[axis.name].after.mean, ends[axis.name]) for axis in (x, y))


def _within(score: float, end: float | None) -> float:
    return score if end is None else end if math.isnan(score) else min(score, end)


def _range(scores: Sequence[float], end: float | None, limit: float | None) -> dict[str, object]:
    if end is None:
        # No score is below 0, though the interval of a change can reach there.
        return {"rangemode": "nonnegative"} if min(scores, default=0.0) >= 0 < scores[0] else {}
    low = min(score for score in scores if math.isfinite(score))
    low = min(low, scores[0]) if limit is None else min(low, scores[0], limit)
    return {"range": [low - 0.06 * (end - low), end + 0.04 * (end - low)]}


def make_relative(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """The settings with each score as its change in % of what it was, so that runs on other prompts compare."""
    return [replace(point, effects={n: _relate(effect) for n, effect in point.effects.items()}) for point in points]


def _relate(effect: Effect) -> Effect:
    before = effect.before.mean
    by = 100 / before if before else 0.0

    def scale(estimate: Estimate, less: float = 0.0) -> Estimate:
        # No score falls by more than all there was, though the end of an interval can lie beyond.
        parts = (max(-100.0, by * (value - less)) for value in (estimate.mean, estimate.low, estimate.high))
        return Estimate(*parts, estimate.n)

    change = scale(effect.difference)
    controls = tuple(
        replace(
            control,
            level=scale(control.difference),
            difference=scale(control.difference),
            draws=tuple(by * (draw - before) for draw in control.draws),
        )
        for control in effect.controls
    )
    return Effect(scale(effect.before, before), change, change, controls)


def _add_controls(
    figure: go.Figure, points: Sequence[SweepPoint], x: Axis, y: Axis, ends: Mapping[str, float | None],
    colours: Palette,
) -> None:  # fmt: skip
    for control in points[0].effects[x.name].controls:
        rows = [
            (_within(left, ends[x.name]), _within(right, ends[y.name]), describe_edit(point.edit))
            for point in points
            for left, right in _list_draws(point, control.kind, x, y)
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


def _list_draws(point: SweepPoint, kind: str, x: Axis, y: Axis) -> list[tuple[float, float]]:
    """The random draws of a setting's control, by both scores; none where it has no such control."""
    sides = [each.draws for axis in (x, y) for each in point.effects[axis.name].controls if each.kind == kind]
    return list(zip(*sides, strict=True)) if len(sides) == 2 else []


def _add_frontier(
    figure: go.Figure, points: Sequence[SweepPoint], places: Sequence[tuple[float, float]], x: Axis, y: Axis,
    ends: Mapping[str, float | None], colours: Palette,
) -> None:  # fmt: skip
    """A stair through the settings that no other beats in both scores, with the intervals of their change."""
    scores = [tuple(point.effects[axis.name].after.mean for axis in (x, y)) for point in points]
    # What lies beyond the end of an axis is no bargain.
    inside = [index for index, place in enumerate(places) if place == scores[index]] or list(range(len(points)))
    frontier = [inside[index] for index in find_frontier([scores[index] for index in inside], (x.sign, y.sign))]
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
        ("Recommended", recommended, 24, colours.civil, "circle-open", -16),
        ("The edit plan now", current, 20, colours.toxic, "diamond-open", 16),
    )
    for name, index, size, colour, symbol, up in rings:
        if index is not None:
            figure.add_scatter(
                x=[places[index][0]],
                y=[places[index][1]],
                name=name,
                mode="markers",
                showlegend=False,
                marker={"symbol": symbol, "size": size, "color": colour, "line": {"width": 3}},
                hoverinfo="skip",
            )
            _name(figure, *places[index], f"<b>{name.lower()}</b>", colour, colours, up)


def _name(figure: go.Figure, x: float, y: float, words: str, colour: str, colours: Palette, up: int) -> None:
    """Call a mark by its name, on the background, beside it and so many pixels higher."""
    font = {"color": colour, "size": 12}
    look = {"showarrow": False, "bgcolor": see_through(colours.background, 0.8), "borderpad": 1, "font": font}
    figure.add_annotation(x=x, y=y, text=words, xanchor="left", xshift=10, yshift=up, **look)


def _add_others(
    figure: go.Figure, others: Sequence[SweepPoint], x: Axis, y: Axis, ends: Mapping[str, float | None], name: str,
    colours: Palette,
) -> None:  # fmt: skip
    if others:
        across, up = zip(*(_place(point, x, y, ends) for point in others), strict=True)
        figure.add_scatter(
            x=across,
            y=up,
            text=["<br>".join(describe_scores(point, x, y)) for point in others],
            name=name,
            mode="markers",
            marker={"symbol": "square-open", "size": 12, "color": colours.civil, "line": {"width": 2.5}},
            hovertemplate=f"%{{text}}<br>{name}<extra></extra>",
        )


def _add_settings(
    figure: go.Figure, points: Sequence[SweepPoint], places: Sequence[tuple[float, float]], x: Axis, y: Axis,
    ends: Mapping[str, float | None], shade: Shade, colours: Palette,
) -> None:  # fmt: skip
    values = [shade_of(point, shade) for point in points]
    levels = sorted(set(values))
    # By place rather than by value, so that ranks 1 2 4 8 are as far apart to the eye.
    shades = [levels.index(value) for value in values]
    ramp = _GREENS["dark" if colours.is_dark else "light"]
    symbols = [_symbol(point, x, y, ends) for point in points]
    figure.add_scatter(
        x=[place[0] for place in places],
        y=[place[1] for place in places],
        customdata=[[index] for index in range(len(points))],
        text=[hover_of(point, x, y) for point in points],
        name="Settings of the edit",
        mode="markers",
        marker={
            "size": [11 if symbol == "circle" else 14 for symbol in symbols],
            "symbol": symbols,
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


def _symbol(point: SweepPoint, x: Axis, y: Axis, ends: Mapping[str, float | None]) -> str:
    """An arrow for what lies beyond the end of an axis."""
    beyond = [
        (end := ends[axis.name]) is not None and not point.effects[axis.name].after.mean <= end for axis in (x, y)
    ]
    return {(True, False): "triangle-right", (False, True): "triangle-up", (True, True): "triangle-ne"}.get(
        tuple(beyond), "circle"
    )


def count_beyond(points: Sequence[SweepPoint], axis: Axis, limit: float | None = None) -> tuple[int, float]:
    """How many settings lie beyond the end of an axis, where that has such a limit, and the farthest of them."""
    scores = [point.effects[axis.name].after.mean for point in points]
    end = find_end(scores, points[0].effects[axis.name], limit)
    beyond = [score for score in scores if end is not None and not score <= end]
    return len(beyond), max(beyond, default=math.nan)


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


def hover_of(point: SweepPoint, *axes: Axis) -> str:
    """A setting as a chart's hover tells it, where a click takes it."""
    return "<br>".join([*describe_scores(point, *axes), "Click to make it the edit plan"])
