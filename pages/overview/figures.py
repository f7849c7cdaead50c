"""The pictures of the Overview: texts along a direction, and what an edit gains and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pages.overview.verdict import SCORES
from ui.show.colours import SYMBOLS, Palette, see_through
from ui.show.figures import finish, whiskers
from ui.words.verdicts import NEGLIGIBLE

if TYPE_CHECKING:
    from detox_engine.study.suggestion import Change

SIDES = ("Toxic", "Civil")
LEGEND = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "xanchor": "left", "itemclick": False}
ROWS = (1.0, 0.0)
"""Heights of the state before and after."""
POINTS = 120
ROW, BETWEEN = 88, 46
"""Pixels of a score with the axis under it, and of that axis with the next one's title."""
BARS = {"thickness": 2, "width": 3}
LEAST = {"mass": 0.01, "profanity": 0.1, "perplexity": 0.06}
"""The least width of a score's axis, so that noise does not look like an effect."""


@dataclass(frozen=True, eq=False)
class Row:
    """The texts in one state, as shares of the way from civil to toxic before the edit."""

    title: str
    toxic: np.ndarray
    civil: np.ndarray

    @property
    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        return self.toxic, self.civil

    @property
    def right(self) -> int:
        """Texts on their own side of the middle."""
        return int((self.toxic > 0.5).sum() + (self.civil <= 0.5).sum())


def scale_rows(
    before: tuple[Sequence[float], Sequence[float]], after: tuple[Sequence[float], Sequence[float]] | None
) -> tuple[Row, ...]:
    """The states on one scale: 0 is where civil texts lie before the edit on average, 1 where toxic ones do."""
    toxic, civil = (np.asarray(side) for side in before)
    start, step = civil.mean(), toxic.mean() - civil.mean()
    step = step if abs(step) > 1e-9 else 1.0
    states = [("Before", before)] + ([] if after is None else [("After", after)])
    return tuple(Row(title, *((np.asarray(side) - start) / step for side in sides)) for title, sides in states)


def ridge_figure(
    rows: Sequence[Row], labels: tuple[Sequence[str], Sequence[str]], layer: int, colours: Palette
) -> go.Figure:
    """How texts lie along a direction, a hill for each side and a dot for each text, before over after.

    Args:
        labels: what a text says on hover, by side; escaped and masked by the caller.
    """
    figure = go.Figure()
    ends = [value for row in rows for side in row.sides for value in side]
    # Room for what an edit moves, so that the axis stays where it is as the strength does not.
    low, high = min([*ends, -2.2]) - 0.2, max([*ends, 2.2]) + 0.4
    along = np.linspace(low, high, POINTS)
    hills = {(row.title, name): _hill(side, along) for row in rows for name, side in zip(SIDES, row.sides, strict=True)}
    tints = colours.toxic, colours.civil
    tallest = max(hill.max() for hill in hills.values()) or 1.0
    for row, floor in zip(rows, ROWS, strict=False):
        for place, (name, side, colour) in enumerate(zip(SIDES, row.sides, tints, strict=True)):
            hill = floor + 0.52 * hills[row.title, name] / tallest
            shared = {"legendgroup": name, "showlegend": False}
            figure.add_scatter(
                x=along, y=np.full(POINTS, floor), mode="lines", line={"width": 0}, hoverinfo="skip", **shared
            )
            figure.add_scatter(
                x=along, y=hill, mode="lines", fill="tonexty", line={"color": colour, "width": 1.5},
                fillcolor=see_through(colour, 0.22), hoverinfo="skip", **shared,
            )  # fmt: skip
            figure.add_scatter(
                x=side,
                y=np.full(len(side), floor - 0.09 - 0.13 * place),
                mode="markers",
                name=name,
                legendgroup=name,
                showlegend=row is rows[0],
                marker={"color": colour, "symbol": SYMBOLS[place], "size": 7, "opacity": 0.65},
                text=labels[place],
                hovertemplate=f"<b>{name} text, {row.title.lower()}</b><br>%{{text}}<extra></extra>",
            )
            figure.add_scatter(
                x=[side.mean()], y=[floor - 0.09 - 0.13 * place], mode="markers", showlegend=False,
                marker={"color": colour, "symbol": "line-ns-open", "size": 15, "line": {"width": 3, "color": colour}},
                hovertemplate=f"{name} texts, {row.title.lower()}: %{{x:.2f}} on average<extra></extra>",
            )  # fmt: skip
    figure.add_vline(x=0.5, line={"color": colours.quiet, "width": 1, "dash": "dot"})
    figure.update_xaxes(
        title=f"Along direction 1 of layer {layer}<br>(0: civil, 1: toxic texts before, on average)",
        range=[low, high],
        tickvals=[0, 1],
        title_standoff=4,
    )
    titles = [row.title for row in rows]
    figure.update_yaxes(tickvals=list(ROWS[: len(rows)]), ticktext=titles, range=[-0.3, 1.6])
    return finish(
        figure, 264, across="", up="", showlegend=True, legend=LEGEND, hoverlabel_align="left", margin={"t": 26, "l": 4}
    )


def _hill(values: np.ndarray, along: np.ndarray) -> np.ndarray:
    """A density of Gaussian kernels, their width by Scott's rule."""
    width = max(1e-3, values.std() * len(values) ** -0.2)
    return np.exp(-0.5 * ((along[:, None] - values) / width) ** 2).sum(1) / (len(values) * width)


def dumbbell_figure(changes: Sequence[Change], colours: Palette, faded: bool = False) -> go.Figure:
    """Each score before → after, with random directions under it, all with 95 % intervals.

    Args:
        faded: whether they are of another edit than the plan's.
    """
    titles = [SCORES[change.name].title for change in changes]
    inside = ROW * len(changes)
    figure = make_subplots(len(changes), 1, subplot_titles=titles, vertical_spacing=BETWEEN / inside)
    for row, change in enumerate(changes, start=1):
        _add_dumbbell(figure, row, change, colours, 0.45 if faded else 1.0)
    figure.update_annotations(x=0, xanchor="left", font={"size": 13})
    legend = {"orientation": "h", "y": -30 / inside, "yanchor": "top", "x": 0, "xanchor": "left", "itemclick": False}
    margin = {"t": 24, "b": 54, "l": 6}
    height = inside + margin["t"] + margin["b"]
    return finish(figure, height, across=colours.line, up="", showlegend=True, legend=legend, margin=margin)


def _add_dumbbell(figure: go.Figure, row: int, change: Change, colours: Palette, opacity: float) -> None:
    score, factor = SCORES[change.name], 100 if change.name == "mass" else 1
    colour = colour_of(change, colours)
    sides = (
        ("Before", change.before, 0, colours.quiet, "circle"),
        ("After", change.after, 0, colour, "diamond"),
        ("Random", change.control, -1, colours.quiet, "square-open"),
    )
    place = {"row": row, "col": 1}
    figure.add_scatter(
        x=[factor * change.before.mean, factor * change.after.mean], y=[0, 0], mode="lines", hoverinfo="skip",
        line={"color": colour, "width": 4}, opacity=0.4 * opacity, showlegend=False, **place,
    )  # fmt: skip
    for name, level, height, mark, symbol in sides:
        figure.add_scatter(
            x=[factor * level.mean],
            y=[height],
            error_x=whiskers(*([factor * end] for end in (level.mean, level.low, level.high)), mark, **BARS),
            mode="markers+text",
            text=[score.write(level.mean)] if height == 0 else None,
            textposition=_beside(change, name, factor),
            textfont={"color": mark, "size": 12},
            cliponaxis=False,
            name=name,
            legendgroup=name,
            # A mark in the legend stands for all rows, whatever the colour of the first.
            showlegend=row == 1,
            opacity=opacity,
            marker={"color": mark, "symbol": symbol, "size": 10, "line": {"width": 2, "color": mark}},
            hovertemplate=f"{name}: {score.write(level.mean)} (95 %: {score.write(level.low)} to "
            f"{score.write(level.high)})<br>n = {level.n:,} {score.items}<extra></extra>",
            **place,
        )
    ends = [factor * end for _, level, *_ in sides for end in (level.low, level.high)]
    least = factor * LEAST[change.name]
    pad = max(0.14 * (max(ends) - min(ends)), (least - max(ends) + min(ends)) / 2)
    figure.update_xaxes(range=[min(ends) - pad, max(ends) + pad], nticks=5, **place)
    figure.update_yaxes(range=[-1.7, 1.5], showticklabels=False, **place)


def colour_of(change: Change, colours: Palette) -> str:
    """Green where a score fell beyond chance, the toxic colour where it rose, grey below what can be told."""
    if change.fall.low <= 0 <= change.fall.high:
        return colours.quiet
    if change.name == "perplexity" and abs(change.after.mean - 1) < NEGLIGIBLE:
        return colours.quiet
    return colours.edited if change.fall.mean < 0 else colours.toxic


def _beside(change: Change, name: str, factor: float) -> str:
    """On the outer side of the two, so that their numbers never lie on one another."""
    falls = change.after.mean < change.before.mean
    return "top right" if (name == "Before") == falls else "top left"
