"""The tokens × layers figure of a text; it reads the same cells as the text whose tokens are coloured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ui.show.colours import Palette
from ui.show.figures import finish, frame_cells
from ui.show.tinted import Lit, say_token, say_value
from ui.words.text import chart_html

Texts = Mapping[str, Sequence[Lit]]
"""Each text by its name: before the edit and, where there is one, after it."""
FAR = 0.5
"""Share of the scale from which on a token is said to light up."""
MOST_COLUMNS = 256
"""Tokens of a heatmap; more would be slow to draw."""
COLUMN = 14
"""Pixels of a column at least, so that every token can be read: a long text is wider than the page and scrolls."""


NAMES_HEIGHT = 120
"""Pixels that the names of the tokens take between two panels, with the title of the lower one."""


def lens_figure(rows: Sequence[Lit], layer: int, signed: bool, colours: Palette, shown: bool) -> go.Figure:
    """Tokens × layers, one panel for each state, all in the study's colours.

    Args:
        layer: the layer that is framed.
        shown: whether toxic words are shown rather than masked.
    """
    layers, count = rows[0].values.shape
    count = min(count, MOST_COLUMNS)
    height = len(rows) * max(170, 20 + 17 * layers) + (len(rows) - 1) * NAMES_HEIGHT
    figure = make_subplots(len(rows), 1, shared_xaxes=True, vertical_spacing=NAMES_HEIGHT / height)
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
                hoverinfo="skip",
                coloraxis="coloraxis",
                xgap=1,
                ygap=1,
            ),
            row=place,
            col=1,
        )
        if len(rows) > 1:
            figure.add_annotation(
                text=lit.title, x=0, xref="paper", xanchor="left", y=1, yref=f"y{place if place > 1 else ''} domain",
                yanchor="bottom", showarrow=False, font={"size": 14},
            )  # fmt: skip
        at, where = np.nonzero(lit.sinks[:, :count])
        if len(at):
            strokes = go.Scatter(
                x=where,
                y=at,
                mode="markers",
                marker={"symbol": "line-ne-open", "size": 9, "color": colours.quiet},
                hoverinfo="skip",
                showlegend=False,
            )
            figure.add_trace(strokes, row=place, col=1)
        frame_cells(figure, (0, count - 1), (layer, layer), colours.quiet, row=place, col=1)
        figure.add_trace(_unseen_dots(layers, count, said), row=place, col=1)
    names = [chart_html(rows[0].name(place, shown)[:12]) for place in range(count)]
    figure.update_xaxes(
        showgrid=False, zeroline=False, tickvals=list(range(count)), ticktext=names, tickangle=-90,
        tickfont={"size": 11}, showticklabels=True, range=[-0.5, count - 0.5],
    )  # fmt: skip
    figure.update_xaxes(title="Token of the text, in order", row=len(rows))
    figure.update_yaxes(title="Layer", showgrid=False, zeroline=False, dtick=max(1, round(layers / 8)))
    figure.update_yaxes(range=[-0.5, layers - 0.5])
    title = "Projection" if signed else "Length"
    return finish(
        figure,
        height + 190,
        coloraxis={
            "cmin": -1 if signed else 0,
            "cmax": 1,
            "colorscale": ramp,
            "colorbar": {
                "title": {"text": f"{title}, share of the scale’s end at its layer", "side": "top"},
                "orientation": "h",
                "thickness": 12,
                "tickformat": ".0%",
                "y": -110 / height,
                "yanchor": "top",
            },
        },
        margin={"b": 160},
        hoverlabel_align="left",
        # Wherever a cell is clicked, its dot is the nearest.
        hoverdistance=-1,
        hovermode="closest",
    )


def _unseen_dots(layers: int, count: int, said: Sequence[Sequence[str]]) -> go.Scatter:
    """A dot on every cell that is not seen: it says the cell's words, and a click on it tells its layer."""
    columns, rows = np.meshgrid(np.arange(count), np.arange(layers))
    return go.Scatter(
        x=columns.ravel(),
        y=rows.ravel(),
        text=[words for row in said for words in row],
        mode="markers",
        marker={"size": 10, "opacity": 0},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )


def tell_text(name: str, states: Sequence[Lit], layer: int, signed: bool, shown: bool) -> str:
    """What lights up in a text at a layer, before the edit and after it, sinks aside."""
    parts = []
    for lit in states:
        shares = np.where(lit.sinks[layer], 0, lit.shares[layer])
        place = int(shares.argmax() if signed else np.abs(shares).argmax())
        token = lit.name(place, shown).strip("·")
        when = f"{lit.title[:1].lower()}{lit.title[1:]}"
        lit_up = int((shares >= FAR).sum())
        parts.append(
            f"{when} {lit_up} of its {len(lit.tokens):,} tokens reach{'es' if lit_up == 1 else ''} half of the scale"
            f"{' toward toxic' if signed else ''}, “{token}” farthest ({say_value(lit.values[layer, place], signed)})"
        )
    return f"{name} at layer {layer}: {'; '.join(parts)}."


def describe_heatmap(states: Sequence[Lit], layer: int, signed: bool) -> str:
    """The figure in words: the strongest token of each state at the picked layer."""
    parts = [f"{states[0].values.shape[1]} tokens by {states[0].values.shape[0]} layers"]
    for lit in states:
        place = int(np.abs(lit.shares[layer]).argmax())
        words = say_value(lit.values[layer, place], signed)
        parts.append(f"{lit.title}, strongest at layer {layer} is token {place + 1}: {words}")
    return "; ".join(parts)
