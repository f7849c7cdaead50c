"""A text as HTML whose tokens are coloured, and the tokens × layers figure; both read the same cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pages.token_lens.picks import Measure
from ui.show.colours import Palette
from ui.show.figures import finish, frame_cells
from ui.show.tinted import tinted_html
from ui.words.rude_words import mask_token
from ui.words.text import chart_html

if TYPE_CHECKING:
    from detox_engine.reading.token_lens import ProjectionScale
    from pages.token_lens.work import Looked

SIDES = ("Before the edit", "After the edit")
MOST_COLUMNS = 256
"""Tokens of a heatmap; more would be thinner than a pixel."""


@dataclass(frozen=True, eq=False)
class Lit:
    """A text in one state, measured at every layer."""

    title: str
    tokens: tuple[str, ...]
    pieces: tuple[str, ...]
    values: np.ndarray
    """`[layers, tokens]`."""
    shares: np.ndarray
    """The same divided by where the colours of each layer end: 1 is the end of the scale, −1 that of the other side."""
    next: Sequence[Sequence[Sequence]]
    """`[layers][tokens]` the most probable next tokens there; of fewer tokens than the text where it is long, and
    empty until they have been read."""
    sinks: np.ndarray
    """`[layers, tokens]` bool, which states are attention sinks'."""


Texts = Mapping[str, Sequence[Lit]]
"""Each text by its name: before the edit and, where there is one, after it."""


def light(looked: Looked, scale: ProjectionScale, measure: Measure) -> list[Lit]:
    """The states of one text: before the edit and, where there is one, after it."""
    found, ends = looked.projections, ends_of(scale, measure)
    states = []
    for after, title in enumerate(SIDES[: 1 if found.after is None else 2]):
        measured = (found.along if measure.signed else found.norms)(measure.number, bool(after))
        values = measured.numpy()
        follow = looked.next[after] if looked.next else ()
        sinks = np.zeros(values.shape, dtype=bool) if found.sinks is None else found.sinks.numpy()
        shares = np.where(sinks, 0, values / ends[:, None])
        states.append(Lit(title, found.text.tokens, found.text.pieces, values, shares, follow, sinks))
    return states


def ends_of(scale: ProjectionScale, measure: Measure) -> np.ndarray:
    """`[layers]` where the colours end."""
    ends = scale.directions[:, measure.number] if measure.signed else scale.norms[:, measure.number - 1]
    return np.maximum(ends.numpy(), 1e-9)


def text_html(lit: Lit, layer: int, signed: bool, shown: bool) -> str:
    """The text with each token coloured by its value at `layer`, and words on each for whoever points at it."""
    said = [say_token(lit, layer, place, signed, shown) for place in range(len(lit.pieces))]
    return tinted_html(lit.pieces, lit.shares[layer], said, lit.sinks[layer])


def say_token(lit: Lit, layer: int, place: int, signed: bool, shown: bool, link: str = " · ") -> str:
    """A cell in plain words: the token, its number, and what the model would write next there."""
    token = mask_token(lit.tokens[place], shown)
    value = say_value(lit.values[layer, place], signed)
    if lit.sinks[layer, place]:
        value = f"an attention sink, outside the scale ({value})"
    parts = [f"“{token}”, layer {layer}", value]
    if follow := say_next(lit, layer, place, shown):
        parts.append(f"next here: {follow}")
    return link.join(parts)


def say_next(lit: Lit, layer: int, place: int, shown: bool) -> str:
    """The most probable next tokens there; nothing where they have not been read."""
    if not lit.next or place >= len(lit.next[layer]):
        return ""
    return ", ".join(f"{mask_token(score.token, shown)} {say_chance(score.score)}" for score in lit.next[layer][place])


def say_chance(probability: float) -> str:
    return f"{probability:.0%}" if probability >= 0.005 else "<1%"


def say_value(value: float, signed: bool) -> str:
    if not signed:
        return f"length {value:.2f}"
    if abs(value) < 0.005:
        return "0.00, toward neither side"
    return f"{abs(value):.2f} toward {'toxic' if value > 0 else 'civil'}"


def scale_html(signed: bool, ends: float) -> str:
    """The colour scale of a layer: where it ends, in the measure's own unit."""
    low = f"{ends:.2f} toward civil" if signed else "0"
    high = f"{ends:.2f} toward toxic" if signed else f"length {ends:.2f}"
    kind = "signed" if signed else "length"
    return f'<div class="lens-scale"><span>{low}</span><i class="{kind}"></i><span>{high} or more</span></div>'


def lens_figure(rows: Sequence[Lit], layer: int, signed: bool, colours: Palette, shown: bool) -> go.Figure:
    """Tokens × layers, one panel for each state, all in the study's colours.

    Args:
        layer: the layer that is framed.
        shown: whether toxic words are shown rather than masked.
    """
    layers, count = rows[0].values.shape
    count = min(count, MOST_COLUMNS)
    figure = make_subplots(
        len(rows),
        1,
        shared_xaxes=True,
        vertical_spacing=0.22 / len(rows),
        subplot_titles=[row.title for row in rows] if len(rows) > 1 else None,
    )
    ramp = (colours.civil, colours.background, colours.toxic) if signed else colours.ramp
    for place, lit in enumerate(rows, 1):
        said = [
            [chart_html(say_token(lit, row, column, signed, shown, "\n")) for column in range(count)]
            for row in range(layers)
        ]
        figure.add_trace(
            go.Heatmap(
                z=np.round(lit.shares[:, :count], 3),
                text=said,
                hovertemplate="%{text}<extra></extra>",
                coloraxis="coloraxis",
                xgap=1 if count <= 100 else 0,
                ygap=1,
            ),
            row=place,
            col=1,
        )
        at, where = np.nonzero(lit.sinks[:, :count])
        if len(at):
            crosses = go.Scatter(
                x=where,
                y=at,
                mode="markers",
                marker={"symbol": "x-thin-open", "size": 6, "color": colours.quiet},
                hoverinfo="skip",
                showlegend=False,
            )
            figure.add_trace(crosses, row=place, col=1)
        frame_cells(figure, (0, count - 1), (layer, layer), colours.quiet, row=place, col=1)
    step = -(-count // 30)
    ticks = list(range(0, count, step))
    names = [chart_html(mask_token(rows[0].tokens[tick], shown)[:12]) for tick in ticks]
    figure.update_xaxes(showgrid=False, zeroline=False, tickvals=ticks, ticktext=names)
    figure.update_xaxes(tickangle=-90, tickfont={"size": 10})
    figure.update_xaxes(title="Token of the text, in order", row=len(rows))
    figure.update_yaxes(title="Layer", showgrid=False, zeroline=False, dtick=max(1, round(layers / 8)))
    height = len(rows) * (90 + max(110, 17 * layers)) + 170
    title = "Projection" if signed else "Length"
    return finish(
        figure,
        height,
        coloraxis={
            "cmin": -1 if signed else 0,
            "cmax": 1,
            "colorscale": ramp,
            "colorbar": {
                "title": {"text": f"{title}, share of the scale’s end at its layer", "side": "top"},
                "orientation": "h",
                "thickness": 12,
                "tickformat": ".0%",
                "y": -110 / (height - 190),
                "yanchor": "top",
            },
        },
        margin={"b": 160},
        hoverlabel_align="left",
    )


def describe_heatmap(states: Sequence[Lit], layer: int, signed: bool) -> str:
    """The figure in words: the strongest token of each state at the picked layer."""
    parts = [f"{states[0].values.shape[1]} tokens by {states[0].values.shape[0]} layers"]
    for lit in states:
        place = int(np.abs(lit.shares[layer]).argmax())
        words = say_value(lit.values[layer, place], signed)
        parts.append(f"{lit.title}, strongest at layer {layer} is token {place + 1}: {words}")
    return "; ".join(parts)
