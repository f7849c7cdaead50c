"""Toxicity before against after, as a Plotly figure."""

from collections.abc import Sequence

import plotly.graph_objects as go

from ui.show.colours import Palette
from ui.show.figures import finish


def toxicity_figure(
    before: Sequence[float], after: Sequence[float], labels: Sequence[str], colours: Palette
) -> go.Figure:
    """A dot for each continuation: below the diagonal the edit made it milder, above it worse.

    Args:
        labels: what a dot is called on hover; escaped and masked by the caller.
    """
    groups = [
        ("Milder", colours.civil, "circle", lambda x, y: y < x),
        ("Worse", colours.toxic, "diamond", lambda x, y: y > x),
        ("The same score", colours.quiet, "circle-open", lambda x, y: y == x),
    ]
    figure = go.Figure()
    figure.add_shape(type="line", x0=0, y0=0, x1=1, y1=1, line={"color": colours.line, "width": 1}, layer="below")
    rows = list(zip(before, after, labels, strict=True))
    for name, colour, symbol, belongs in groups:
        chosen = [row for row in rows if belongs(round(row[0], 2), round(row[1], 2))]
        if chosen:
            x, y, text = zip(*chosen, strict=True)
            figure.add_scatter(
                x=x,
                y=y,
                text=text,
                name=f"{name} ({len(chosen):,})",
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 8, "opacity": 0.75},
                hovertemplate="%{text}<br>%{x:.2f} before, %{y:.2f} after<extra></extra>",
            )
    axis = {"range": [-0.03, 1.03], "dtick": 0.25, "zeroline": False, "gridcolor": colours.line}
    figure.update_xaxes(title="Toxicity before", **axis)
    figure.update_yaxes(title="Toxicity after", **axis)
    return finish(figure, 300, margin={"t": 10}, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
