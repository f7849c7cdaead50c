"""The effect of an edit beside its random control, as Plotly figures: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from detox_engine.scoring.toxicity import find_fates
from ui.show.colours import Palette
from ui.show.effects import OFFSETS, add_side, percent_of_before
from ui.show.figures import finish, whiskers
from ui.words.numbers import interval
from ui.words.verdicts import name_control

if TYPE_CHECKING:
    from detox_engine.scoring.evaluation import Score


def suppression_figure(scores: Mapping[str, Mapping[str, Score]], colours: Palette) -> go.Figure:
    """Harmless texts beside plain text: the change of perplexity in % of what it was, and the drift.

    Args:
        scores: text in words -> its `perplexity` and `drift`, whichever were measured.
    """
    kinds = [kind for kind in ("perplexity", "drift") if any(kind in found for found in scores.values())]
    controls = next(score.effect.controls for found in scores.values() for score in found.values())
    sides = ("after", *(control.kind for control in controls))
    scales = {"perplexity": percent_of_before, "drift": lambda effect: 1.0}
    titles = {"perplexity": "change of perplexity<br>(% of before)", "drift": "drift<br>(nats per token)"}
    figure = make_subplots(1, len(kinds), shared_yaxes=True, horizontal_spacing=0.06)
    for column, kind in enumerate(kinds, start=1):
        for side, offset in zip(sides, OFFSETS[len(sides) - 2], strict=True):
            rows = [(place, found[kind]) for place, found in enumerate(scores.values()) if kind in found]
            placed = [(place + offset, score) for place, score in rows]
            name = "Edit" if side == "after" else name_control(side)
            where = {"row": 1, "col": column, "legendgroup": side, "showlegend": column == 1}
            add_side(figure, side, placed, name, "%{customdata}", scales[kind], colours, **where)
        figure.add_vline(x=0, row=1, col=column, line={"color": colours.quiet, "width": 1})
        figure.update_xaxes(title=titles[kind], row=1, col=column, rangemode="tozero" if kind == "drift" else "normal")
    figure.update_yaxes(
        tickvals=list(range(len(scores))), ticktext=[_wrap(text) for text in scores], range=[len(scores) - 0.5, -0.5]
    )
    legend = {"orientation": "h", "y": 1.04, "yanchor": "bottom", "x": 0}
    return finish(
        figure,
        130 + 62 * len(scores),
        across=colours.line,
        up="",
        margin={"r": 14, "t": 26},
        showlegend=True,
        legend=legend,
    )


def beside_figure(pairs: Sequence[tuple[Score, Score]], colours: Palette) -> go.Figure:
    """A row for each score, on its own scale: before, after the first edit, and after the second."""
    figure = make_subplots(len(pairs), 1, vertical_spacing=0.32 / len(pairs))
    looks = (("Before", "circle", colours.quiet), ("The first edit", "diamond", colours.edited))
    looks += (("The second edit", "square", colours.civil),)
    for row, (one, other) in enumerate(pairs, start=1):
        sides = (one.effect.before, one.effect.after, other.effect.after)
        for place, ((name, symbol, colour), side) in enumerate(zip(looks, sides, strict=True)):
            figure.add_scatter(
                x=[side.mean],
                y=[place],
                error_x=whiskers([side.mean], [side.low], [side.high], colour),
                mode="markers",
                name=name,
                marker={"color": colour, "symbol": symbol, "size": 11},
                hovertemplate=f"{name}: {interval(side)}<extra>{one.title}</extra>",
                row=row,
                col=1,
            )
        label = f"{_wrap(one.title)}<br>({one.unit})"
        figure.update_yaxes(tickvals=[1], ticktext=[label], range=[2.6, -0.6], showgrid=False, row=row, col=1)
    return finish(figure, 50 + 92 * len(pairs), across=colours.line, up="", margin={"r": 14, "t": 8}, showlegend=False)


def _wrap(label: str) -> str:
    """A long label on two lines, for narrow windows."""
    words = label.split()
    half = (len(words) + 1) // 2
    return "<br>".join((" ".join(words[:half]), " ".join(words[half:]))) if len(words) > 2 else label


def prompt_figure(
    sides: Mapping[str, tuple[np.ndarray, np.ndarray]], labels: Sequence[str], threshold: float, colours: Palette
) -> go.Figure:
    """A dot for each prompt, toxicity before against after; a panel for the edit and one for each control.

    Args:
        sides: panel's title -> scores before and after, `[prompts]` each.
        labels: prompts in words, escaped and masked by the caller.
    """
    figure = make_subplots(1, len(sides), subplot_titles=list(sides), shared_yaxes=True, horizontal_spacing=0.05)
    looks = {
        "better": (colours.civil, "circle"),
        "worse": (colours.toxic, "diamond"),
        "stayed bad": (colours.toxic, "circle-open"),
        "stayed fine": (colours.quiet, "circle-open"),
    }
    for column, (before, after) in enumerate(sides.values(), start=1):
        fates = find_fates(before, after, threshold)
        for fate, (colour, symbol) in looks.items():
            chosen = np.flatnonzero(fates == fate)
            figure.add_scatter(
                x=before[chosen],
                y=after[chosen],
                customdata=[[int(index)] for index in chosen],
                text=[labels[index] for index in chosen],
                name=fate.capitalize(),
                legendgroup=fate,
                showlegend=column == 1,
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 8, "opacity": 0.8},
                hovertemplate="%{text}<br>%{x:.2f} before, %{y:.2f} after<extra></extra>",
                row=1,
                col=column,
            )
        line = {"color": colours.line, "width": 1}
        figure.add_shape(type="line", x0=0, y0=0, x1=1, y1=1, line=line, layer="below", row=1, col=column)
        for place in ({"x0": threshold, "x1": threshold, "y0": 0, "y1": 1},
                      {"x0": 0, "x1": 1, "y0": threshold, "y1": threshold}):  # fmt: skip
            figure.add_shape(type="line", line={**line, "dash": "dot"}, layer="below", row=1, col=column, **place)
    figure.update_xaxes(title="toxicity before", range=[-0.03, 1.03], dtick=0.25)
    figure.update_yaxes(range=[-0.03, 1.03], dtick=0.25)
    figure.update_yaxes(title="toxicity after", col=1)
    legend = {"orientation": "h", "y": -0.24, "yanchor": "top", "x": 0}
    return finish(figure, 380, across=colours.line, up="", margin={"r": 14, "t": 26}, showlegend=True, legend=legend)
