"""Where in the model it is: one picture over the layers, and the sentence above it; no Streamlit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from detox_engine.plans.edit import describe_edit
from detox_engine.plans.layers import find_runs, format_layers
from ui.show.colours import see_through
from ui.show.figures import finish, tick, whiskers
from ui.words.numbers import interval, number, signed
from ui.words.verdicts import CHANCE, tell_left

if TYPE_CHECKING:
    from detox_engine.estimates import Estimate
    from detox_engine.plans.edit import EditPlan
    from detox_engine.study.suggestion import Tried
    from ui.show.colours import Palette
    from ui.show.downloads import Table

HEADS = (
    "Strength of direction 1, × noise level",
    "Unseen texts whose side a probe tells",
    "Gain of civil on toxic without it, nats a token",
)
ROW = 118
"""Pixels of a row."""


@dataclass(frozen=True)
class Layers:
    """What is known of every layer."""

    strengths: tuple[float, ...]
    """By layer: the first singular value, over the level that noise reaches."""
    before: tuple[Estimate, ...] | None
    """By layer: accuracy of a probe before the edit; None where it is not known."""
    after: tuple[Estimate, ...] | None
    gaps: tuple[Estimate, ...] | None
    """By layer: what removing the first direction there alone does, in nats a token."""
    tried: tuple[Tried, ...]
    """Edits that were measured when one was chosen."""

    @property
    def rows(self) -> tuple[int, ...]:
        """Which of the rows have anything to show."""
        has_gaps = self.gaps or any(one.gap for one in self.tried)
        return (0, *((1,) if self.before else ()), *((2,) if has_gaps else ()))

    @property
    def best(self) -> int | None:
        """The layer at which a probe tells the sides best."""
        return int(np.argmax([one.mean for one in self.before])) if self.before else None


@lru_cache(32)
def layers_figure(
    found: Layers, edited: tuple[int, ...], suggested: EditPlan | None, picked: int, colours: Palette
) -> go.Figure:
    """Strength, parting and effect of every layer below one another; the plan is a band, the picked layer a line.

    Wherever it is clicked, the nearest point tells the layer. It takes a tenth of a second to make, and most changes of
    an edit plan leave it as it is.

    Args:
        edited: the layers of the edit plan.
    """
    rows = found.rows
    figure = make_subplots(len(rows), 1, shared_xaxes=True, vertical_spacing=0.3 / len(rows))
    count = len(found.strengths)
    layers = np.arange(count)
    inside = np.isin(layers, edited)
    draw = {0: _add_strengths, 1: _add_parting, 2: _add_effects}
    for place, row in enumerate(rows, start=1):
        draw[row](figure, place, found, suggested, inside, colours)
        figure.add_annotation(
            text=HEADS[row], x=0, xref="paper", xanchor="left", y=1, yref=f"y{place if place > 1 else ''} domain",
            yanchor="bottom", yshift=2, showarrow=False, font={"size": 13, "color": colours.quiet},
        )  # fmt: skip
    for run in find_runs(edited):
        band = {"fillcolor": colours.edited, "opacity": 0.11, "line": {"width": 0}, "layer": "below"}
        figure.add_vrect(x0=run[0] - 0.5, x1=run[-1] + 0.5, **band)
    figure.add_vline(x=picked, line={"color": colours.quiet, "width": 1.5, "dash": "dot"}, layer="below")
    _name_columns(figure, edited, picked, count, colours)
    figure.update_xaxes(showgrid=False, zeroline=False, dtick=tick(count), range=[-0.5, count - 0.5])
    figure.update_xaxes(title="Layer", row=len(rows))
    figure.update_yaxes(gridcolor=colours.line, zeroline=False)
    figure.update_layout(hovermode="closest", showlegend=False)
    return finish(figure, ROW * len(rows) + 130, margin={"t": 46, "b": 0}, hoverdistance=-1)


def _name_columns(figure: go.Figure, edited: Sequence[int], picked: int, count: int, colours: Palette) -> None:
    """What the band and the line are, above them."""
    above = {"yref": "paper", "y": 1, "yanchor": "bottom", "yshift": 20, "showarrow": False}
    first, last = edited[0], edited[-1]
    words = "edit plan"
    if len(find_runs(edited)) == 1:  # more would not fit on a phone, and the verdict has them
        words += f": layer{'s' if first != last else ''} {name_layers(edited)}"
    # Each at an end of its own, so that neither hides the other.
    low = picked < (count - 1) / 2
    figure.add_annotation(
        text=words, x=0 if not low else 1, xref="paper", xanchor="left" if not low else "right",
        font={"color": colours.edited, "size": 13}, **above,
    )  # fmt: skip
    figure.add_annotation(
        text=f"picked: layer {picked}", x=picked, xanchor="left" if low else "right",
        font={"color": colours.quiet, "size": 13}, **above,
    )  # fmt: skip


def _add_strengths(figure: go.Figure, row: int, found: Layers, suggested, inside, colours: Palette) -> None:
    strengths = np.array(found.strengths)
    figure.add_scatter(
        x=np.arange(len(strengths)),
        y=strengths,
        mode="lines+markers",
        line={"color": colours.quiet, "width": 1.5},
        marker=_dots(strengths > 1, inside, colours),
        hovertemplate="Layer %{x}: its first direction is %{y:.2f} times the noise level<extra></extra>",
        **_STAY,
        row=row,
        col=1,
    )
    wash = {"fillcolor": colours.civil, "opacity": 0.18, "line": {"width": 0}, "layer": "below"}
    figure.add_hrect(y0=0, y1=1, row=row, col=1, **wash)
    figure.add_hline(y=1, line={"color": colours.civil, "dash": "dash", "width": 1.2}, row=row, col=1)
    _name_level(figure, row, "noise", 1, colours.civil)
    figure.update_yaxes(range=[0, 1.12 * max(1.2, float(strengths.max()))], nticks=4, row=row, col=1)


def _add_parting(figure: go.Figure, row: int, found: Layers, suggested, inside, colours: Palette) -> None:
    lowest = CHANCE
    sides = [
        ("before", found.before, colours.quiet, "circle"),
        ("after the edit", found.after, colours.edited, "diamond"),
    ]
    shown = [side for side in sides if side[1]]
    for place, (name, estimates, colour, symbol) in enumerate(shown):
        means, lows, highs = (np.array([getattr(one, part) for one in estimates]) for part in ("mean", "low", "high"))
        lowest = min(lowest, float(lows.min()))
        layers = np.arange(len(means))
        figure.add_scatter(
            x=layers + 0.1 * (place - (len(shown) - 1) / 2),
            y=means,
            mode="lines+markers",
            line={"color": colour, "width": 1.5},
            marker={"size": 8, "color": colour, "symbol": symbol},
            error_y=whiskers(means, lows, highs, colour, width=2, thickness=1.2),
            customdata=np.stack([layers, lows, highs], axis=1),
            hovertemplate=f"Layer %{{customdata[0]}}, {name}: a probe tells %{{y:.1%}} "
            "(%{customdata[1]:.1%} to %{customdata[2]:.1%})<extra></extra>",
            **_STAY,
            row=row,
            col=1,
        )
        if len(shown) > 1:
            figure.add_annotation(
                text=name, x=len(means) - 1, xanchor="right", y=means[-1], yanchor="bottom" if place == 0 else "top",
                yshift=8 if place == 0 else -8, showarrow=False, font={"color": colour, "size": 12}, row=row, col=1,
            )  # fmt: skip
    figure.add_hline(y=CHANCE, line={"color": colours.quiet, "dash": "dash", "width": 1}, row=row, col=1)
    _name_level(figure, row, "chance", CHANCE, colours.quiet)
    highest = max(one.high for _, estimates, *_ in shown for one in estimates)
    figure.update_yaxes(range=[lowest - 0.03, min(1.02, highest + 0.05)], tickformat=".0%", nticks=5, row=row, col=1)


def _name_level(figure: go.Figure, row: int, words: str, level: float, colour: str) -> None:
    """What a line across a row is, at its right end."""
    number = row if row > 1 else ""
    figure.add_annotation(
        text=words, x=1, xref=f"x{number} domain", xanchor="right", y=level, yref=f"y{number}", yanchor="bottom",
        showarrow=False, font={"color": colour, "size": 12},
    )  # fmt: skip


def _add_effects(figure: go.Figure, row: int, found: Layers, suggested, inside, colours: Palette) -> None:
    for one in found.tried:
        if one.gap is not None:
            _add_range(figure, row, one, one.edit == suggested, colours)
    if found.gaps:
        means, lows, highs = (np.array([getattr(one, part) for one in found.gaps]) for part in ("mean", "low", "high"))
        told = (lows > 0) | (highs < 0)
        figure.add_scatter(
            x=np.arange(len(means)),
            y=means,
            mode="markers",
            marker=_dots(told, inside, colours),
            error_y=whiskers(means, lows, highs, colours.quiet, width=0, thickness=1.5),
            customdata=np.stack([lows, highs], axis=1),
            hovertemplate="Direction 1 removed in layer %{x} alone: civil gains %{y:.3f} nats a token on toxic "
            "(%{customdata[0]:.3f} to %{customdata[1]:.3f})<extra></extra>",
            **_STAY,
            row=row,
            col=1,
        )
    figure.add_hline(y=0, line={"color": colours.quiet, "width": 1}, row=row, col=1)
    figure.update_yaxes(nticks=4, row=row, col=1)


def _add_range(figure: go.Figure, row: int, one: Tried, is_suggested: bool, colours: Palette) -> None:
    """An edit of several layers, as a line over them at the height of its gap, broken where it leaves some out."""
    colour = colours.edited if is_suggested else colours.quiet
    along: list[float | None] = []
    for first, last in find_runs(one.edit.layers):
        along += [first - 0.4, *range(first, last + 1), last + 0.4, None]
    along.pop()
    words = describe_edit(one.edit)
    figure.add_scatter(
        x=along,
        y=[None if place is None else one.gap.mean for place in along],
        mode="lines",
        line={"color": colour, "width": 4 if is_suggested else 2, "dash": "solid" if is_suggested else "dot"},
        hovertemplate=f"{words}{', suggested' if is_suggested else ', tried'}: civil gains "
        f"{interval(one.gap, signed)} nats a token on toxic<extra></extra>",
        row=row,
        col=1,
    )
    if is_suggested:
        figure.add_annotation(
            text="suggested edit, whole", x=along[0], xanchor="left", y=one.gap.mean, yanchor="top", showarrow=False,
            # The others that were tried lie about as high or higher.
            font={"color": colour, "size": 12}, row=row, col=1,
        )  # fmt: skip


def name_layers(layers: Sequence[int]) -> str:
    """Layers within a sentence, such as 0–3, 7."""
    return format_layers(layers).replace("-", "–").replace(",", ", ")


_STAY = {"selected": {"marker": {"opacity": 1}}, "unselected": {"marker": {"opacity": 1}}}
"""A click picks a layer and pales nothing."""


def _dots(told: np.ndarray, inside: np.ndarray, colours: Palette) -> dict:
    """Green within the plan; hollow where it could be noise."""
    edge = np.where(inside, colours.edited, colours.quiet)
    paper = see_through(colours.background, 1)
    return {
        "size": 9,
        "color": np.where(told, edge, paper).tolist(),
        "line": {"width": 1.5, "color": edge.tolist()},
        "opacity": 1,
    }


def tell_layers(found: Layers, edit: EditPlan, is_measuring: bool) -> str:
    """Where the sides part best, where the first direction does most, and what the plan removes; as sure as it is.

    Args:
        is_measuring: whether the probes are on their way.
    """
    return " ".join(filter(None, (tell_parting(found, is_measuring), tell_effects(found), _tell_plan(found, edit))))


def tell_parting(found: Layers, is_measuring: bool) -> str:
    """At which layer a probe tells the sides best, and which it cannot be told from."""
    if not found.before:
        return "How well the sides part in each layer is being measured." if is_measuring else _tell_strongest(found)
    best = found.before[found.best]
    told = f"{best.mean:.1%} of unseen texts (95 %: {best.low:.1%} to {best.high:.1%}, n = {best.n:,} pairs)"
    if best.low <= CHANCE:
        return f"In no layer does a linear probe tell the sides beyond chance: at best {told}, at layer {found.best}."
    near = [layer for layer, one in enumerate(found.before) if layer != found.best and one.mean >= best.low]
    words = f"The sides part best at layer {found.best}: a linear probe tells {told}."
    if near:
        plural = "s" if len(near) > 1 else ""
        words += f" Layer{plural} {name_layers(near)} part{'' if plural else 's'} them about as well."
    if found.after:
        words += f" After the edit it tells {tell_left(found.after[found.best])}."
    return words


def tell_picked(first: str, picked: int, best: int | None) -> str:
    """Why the page opens on its layer, and why the probe can name another one; empty where somebody picked it.

    Args:
        first: the reason, within a sentence.
        best: the layer at which the probe tells the sides best; None where that is not known.
    """
    if not first or best is None:
        return f"{first}." if first else ""
    at = "there, too" if best == picked else f"at layer {best}"
    return f"{first}; the probe, which weighs all dimensions, tells them best {at}."


def _tell_strongest(found: Layers) -> str:
    strongest = int(np.argmax(found.strengths))
    return (
        f"Of all layers the first direction of layer {strongest} stands farthest above noise, at "
        f"{found.strengths[strongest]:.1f} times its level; how well the sides part is not known."
    )


def tell_effects(found: Layers) -> str:
    """In which layer removing the first direction alone does most; nothing before that is measured."""
    if not found.gaps:
        return ""
    most = int(np.argmax([one.mean for one in found.gaps]))
    best = found.gaps[most]
    if best.low <= 0:
        return (
            "In no layer alone does removing the first direction make civil text gain on toxic beyond chance "
            f"(n = {best.n:,} pairs)."
        )
    return (
        f"Removed in one layer alone, the first direction does most at layer {most}: civil text gains "
        f"{number(best.mean, decimals=2)} nats a token on toxic ({number(best.low, decimals=2)} to "
        f"{number(best.high, decimals=2)}, n = {best.n:,} pairs that fitted nothing)."
    )


def _tell_plan(found: Layers, edit: EditPlan) -> str:
    where = f"layer{'s' if len(edit.layers) > 1 else ''} {name_layers(edit.layers)}"
    kept = "" if found.best is None or found.best in edit.layers else f", and leaves layer {found.best} as it is"
    return f"The edit plan removes from {where}{kept}."


def list_layers(found: Layers) -> Table:
    """A row for each layer and each thing that is known of it."""
    rows = [
        ("strength, times noise", layer, float(value), None, None, None) for layer, value in enumerate(found.strengths)
    ]
    for name, estimates in (
        ("probe before", found.before),
        ("probe after", found.after),
        ("gap of direction 1 alone, nats a token", found.gaps),
    ):
        rows += [(name, layer, one.mean, one.low, one.high, one.n) for layer, one in enumerate(estimates or ())]
    rows += [
        (f"gap of {describe_edit(one.edit)}", format_layers(one.edit.layers), *_parts(one.gap))
        for one in found.tried
        if one.gap is not None
    ]
    return ("what", "layer", "mean", "low", "high", "n"), rows


def _parts(one: Estimate) -> tuple[float, float, float, int]:
    return one.mean, one.low, one.high, one.n
