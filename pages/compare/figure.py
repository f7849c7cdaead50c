"""Toxicity and fluency before against after, as a Plotly figure."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isnan, log10

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ui.show.colours import Palette
from ui.show.figures import finish

NEARLY = 1.15
"""Room around the perplexities, as a factor."""
SAME = 0.05
"""How far two scores of one continuation, 0 to 1, lie apart from which on one of them is called milder."""
LEAST = 4.0
"""Times the least perplexity the greatest is on the axes at least, so that noise does not look like an effect."""


def change(before: float, after: float) -> float:
    """By how much a toxicity rose, in the two digits that are shown; NaN where a side says nothing."""
    return round(round(after, 2) - round(before, 2), 2)


def rise(before: float, after: float) -> float:
    """The same; 0 within the band in which nobody could call it more or less."""
    by = change(before, after)
    return 0.0 if abs(by) < SAME else by


def texts_figure(
    toxicity: Sequence[tuple[float, float]], surprise: Sequence[tuple[float, float]], broken: Sequence[bool],
    labels: Sequence[str], colours: Palette,
) -> go.Figure:  # fmt: skip
    """A dot for each continuation in two panels: below the diagonal the edit made it milder, or more fluent.

    What lies in the band around the diagonal has about the same toxicity.

    Args:
        toxicity: before and after, 0 to 1.
        surprise: nats a token under the unedited model, before and after; NaN where it was not read.
        broken: whether the edit broke it.
        labels: what a dot is called on hover; escaped and masked by the caller.
    """
    groups = [
        ("Milder", colours.civil, "circle", lambda by, broke: by < 0 and not broke),
        ("Worse", colours.toxic, "diamond", lambda by, broke: by > 0 and not broke),
        ("About the same", colours.quiet, "circle-open", lambda by, broke: by == 0 and not broke),
        ("Broken by the edit", colours.toxic, "x-thin", lambda by, broke: broke),
    ]
    reads = any(not isnan(side) for both in surprise for side in both)
    titles = ["Toxicity", "Perplexity under the unedited model"][: 1 + reads]
    figure = make_subplots(len(titles), 1, subplot_titles=titles, vertical_spacing=0.24)
    rows = list(zip(toxicity, surprise, broken, labels, strict=True))
    for name, colour, symbol, belongs in groups:
        chosen = [row for row in rows if belongs(rise(*row[0]), row[2])]
        if not chosen:
            continue
        look = {"color": colour, "symbol": symbol, "size": 8, "opacity": 0.75, "line": {"width": 2, "color": colour}}
        text = [row[3] for row in chosen]
        trace = {"text": text, "name": f"{name} ({len(chosen):,})", "legendgroup": name, "mode": "markers"}
        sides = zip(*(row[0] for row in chosen), strict=True)
        hover = "%{text}<br>%{x:.2f} before, %{y:.2f} after<extra></extra>"
        figure.add_scatter(
            **dict(zip("xy", sides, strict=True)), **trace, marker=look, hovertemplate=hover, row=1, col=1
        )
        if reads:
            sides = zip(*((exp(before), exp(after)) for _, (before, after), _, _ in chosen), strict=True)
            hover = "%{text}<br>%{x:.3g} before, %{y:.3g} after<extra></extra>"
            figure.add_scatter(
                **dict(zip("xy", sides, strict=True)), **trace, marker=look, hovertemplate=hover, row=2, col=1,
                showlegend=False,
            )  # fmt: skip
    line = {"type": "line", "line": {"color": colours.line, "width": 1}, "layer": "below"}
    figure.add_shape(**line, x0=0, y0=0, x1=1, y1=1, row=1, col=1)
    band = f"M -1 {-1 - SAME} L 2 {2 - SAME} L 2 {2 + SAME} L -1 {-1 + SAME} Z"
    wash = {"fillcolor": colours.quiet, "opacity": 0.12, "line": {"width": 0}, "layer": "below"}
    figure.add_shape(type="path", path=band, **wash, row=1, col=1)
    axis = {"range": [-0.03, 1.03], "dtick": 0.25, "zeroline": False}
    figure.update_xaxes(title="before, 0 to 1", row=1, col=1, **axis)
    figure.update_yaxes(title="after", row=1, col=1, **axis)
    if reads:
        found = [exp(side) for both in surprise for side in both if not isnan(side)]
        low, high = min(found) / NEARLY, max(max(found), LEAST * min(found)) * NEARLY
        figure.add_shape(**line, x0=low, y0=low, x1=high, y1=high, row=2, col=1)
        # In full: of a logarithmic axis Plotly writes but the first digit.
        marks = [digit * 10**power for power in range(12) for digit in (1, 2, 5)]
        marks = [mark for mark in marks if low <= mark <= high and (high < 100 * low or str(mark)[0] == "1")]
        ticks = {"tickvals": marks, "ticktext": [f"{mark:,}" for mark in marks]}
        ends = {"type": "log", "range": [log10(low), log10(high)], **ticks}
        figure.update_xaxes(title="before (lower is more fluent)", row=2, col=1, **ends)
        figure.update_yaxes(title="after", row=2, col=1, **ends)
    figure.update_annotations(font={"size": 14}, x=0, xanchor="left")
    legend = {"orientation": "h", "y": 1.1, "yanchor": "bottom", "x": 0}
    height = 520 if reads else 300
    return finish(figure, height, across=colours.line, up=colours.line, margin={"t": 60}, legend=legend)
