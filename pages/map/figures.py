"""The map's figures: texts in two dimensions, and layers played one after the other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pages.map.picks import Lines
from ui.show.colours import SYMBOLS, Palette
from ui.show.figures import finish

SIDES = ("Toxic", "Civil")
LAYOUT = {
    "margin": {"t": 50},
    "hoverlabel_align": "left",
    "legend": {"orientation": "h", "y": 1.08, "yanchor": "bottom", "x": 0, "itemsizing": "constant"},
}
"""What the charts of the page share."""
HEIGHT = 540
A_CROWD = 200
"""Pairs from which on dots are smaller and see-through."""


@dataclass(frozen=True, eq=False)
class Panel:
    """The texts in one state."""

    title: str
    points: np.ndarray
    """`[sides, pairs, 2]`."""


def map_figure(
    panels: Sequence[Panel],
    labels: Sequence[Sequence[str]],
    axes: tuple[str, str],
    colours: Palette,
    lines: Lines = "none",
    together: bool = False,
    picked: Collection[int] = (),
    pair: int | None = None,
) -> go.Figure:
    """A dot for each text, one panel for each state, or all states in one panel.

    Args:
        labels: `[sides][pairs]` what a dot says on hover; escaped and masked by the caller.
        together: all states in one panel: the first hollow, the second full, the third hollow with a dot.
        picked: pairs that stand out; all do where there are none.
        pair: the one that is read, with a ring around both of its texts.
    """
    figure = _frame(panels, axes, together, colours)
    for column, trace in _traces(panels, labels, colours, lines, together, picked):
        figure.add_trace(trace, row=1, col=column)
    if pair is not None:
        for place, panel in enumerate(panels):
            figure.add_trace(_ring(panel.points[:, pair], colours), row=1, col=1 if together else place + 1)
    # Three beside one another are narrow: less height wastes less of it.
    height = HEIGHT if together or len(panels) < 3 else HEIGHT - 90
    # Its tools are in sight, and the one in use stands out.
    tools = {"orientation": "v", "activecolor": "#5b4b8a"}
    return finish(figure, height, **LAYOUT).update_layout(margin={"b": 60}, modebar=tools)


def play_figure(
    frames: Sequence[tuple[int, Sequence[Panel]]],
    labels: Sequence[Sequence[str]],
    colours: Palette,
    lines: Lines = "none",
    together: bool = False,
    start: int = 0,
) -> go.Figure:
    """The same for every layer, with a slider and a button that plays through them.

    Args:
        frames: (layer, panels) with maps that have been turned toward one another.
        start: the layer that is shown at first.
    """
    first = next(panels for layer, panels in frames if layer == start)
    figure = map_figure(first, labels, ("Common frame, x (mean radius 1)", "Common frame, y"), colours, lines, together)
    figure.frames = [
        go.Frame(
            name=str(layer),
            data=[
                {"type": "scatter", "x": trace.x, "y": trace.y}
                for _, trace in _traces(panels, labels, colours, lines, together, ())
            ],
            traces=list(range(len(figure.data))),
        )
        for layer, panels in frames
    ]
    reach = 1.05 * max(np.abs(panel.points).max() for _, panels in frames for panel in panels)
    figure.update_xaxes(range=[-reach, reach])
    figure.update_yaxes(range=[-reach, reach])
    _add_player(figure, [layer for layer, _ in frames], start, colours)
    return figure


def _add_player(figure: go.Figure, layers: Sequence[int], start: int, colours: Palette) -> None:
    move = {"frame": {"duration": 700, "redraw": False}, "transition": {"duration": 500}, "fromcurrent": True}
    halt = {"frame": {"duration": 0, "redraw": False}, "mode": "immediate", "transition": {"duration": 0}}
    look = {"bgcolor": colours.background, "bordercolor": colours.line, "font": {"color": colours.quiet}}
    play = {"label": "▶ Play", "method": "animate", "args": [None, move]}
    pause = {"label": "❚❚ Pause", "method": "animate", "args": [[None], halt]}
    menu = {"type": "buttons", "direction": "left", "showactive": False, "buttons": [play, pause]}
    figure.update_layout(
        height=HEIGHT + 150,
        margin={"b": 200},
        updatemenus=[menu | look | {"x": 0, "y": -0.17, "xanchor": "left", "yanchor": "top"}],
        sliders=[
            {
                "active": layers.index(start),
                "currentvalue": {"prefix": "Layer ", "font": {"color": colours.quiet}},
                "x": 0,
                "len": 1,
                "y": -0.26,
                "pad": {"t": 4},
                "bgcolor": colours.line,
                "bordercolor": colours.line,
                "font": {"color": colours.quiet},
                "steps": [{"label": str(layer), "method": "animate", "args": [[str(layer)], halt]} for layer in layers],
            }
        ],
    )


def _frame(panels: Sequence[Panel], axes: tuple[str, str], together: bool, colours: Palette) -> go.Figure:
    """Empty panels beside one another that share both axes, so that they move as one."""
    titles = [panel.title for panel in panels]
    columns = 1 if together else len(panels)
    figure = make_subplots(
        1,
        columns,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=None if columns == 1 else titles,
    )
    plain = {"zeroline": False, "gridcolor": colours.line}
    figure.update_xaxes(matches="x", **plain)
    # One title for all panels: on a narrow screen theirs would run into one another.
    figure.add_annotation(
        text=axes[0], x=0.5, y=0, xref="paper", yref="paper", yshift=-28, yanchor="top", showarrow=False,
        font={"color": colours.quiet, "size": 14}, name="x title",
    )  # fmt: skip
    figure.update_annotations(font={"size": 13})
    figure.update_yaxes(matches="y", **plain)
    figure.update_yaxes(title=axes[1], col=1)
    # Distances mean the same along both axes.
    figure.update_yaxes(scaleanchor="x", scaleratio=1, col=1)
    return figure


def _traces(panels, labels, colours: Palette, lines: Lines, together: bool, picked) -> list[tuple[int, go.Scatter]]:
    """(column, trace) of every line and dot; as many, in the same order, for each layer."""
    traces = []
    for place, panel in enumerate(panels):
        column = 1 if together else place + 1
        if lines == "pairs":
            traces.append((column, _joined(panel.points[0], panel.points[1], colours.quiet, f"Twins, {panel.title}")))
        elif lines == "moves" and together and place:
            ends = (panels[0].points.reshape(-1, 2), panel.points.reshape(-1, 2))
            traces.append((column, _joined(*ends, colours.edited, "What the edit moves")))
    for place, panel in enumerate(panels):
        # Civil first, so that no crowd of civil dots hides a toxic one; the legend keeps its order.
        for side, name in reversed(list(enumerate(SIDES))):
            kind = ("-open", "", "-open-dot")[place] if together else ""
            colour = (colours.toxic, colours.civil)[side]
            # In the plain picture both panels share one entry of the legend.
            shown = together or place == 0
            crowd = panel.points.shape[1]
            marker = {
                "color": colour,
                "symbol": SYMBOLS[side] + kind,
                # Crowds of opaque dots would hide the side that was drawn first.
                "size": 7 if crowd <= A_CROWD else 5,
                # On a dark ground a paler dot is a darker one.
                "opacity": 0.8 if crowd <= A_CROWD or colours.is_dark else 0.55,
                "line": {"width": 1 if kind else 0.5, "color": colour if kind else colours.background},
            }
            state = f", {panel.title[:1].lower()}{panel.title[1:]}" if len(panels) > 1 else ""
            trace = go.Scatter(
                x=_round(panel.points[side, :, 0]),
                y=_round(panel.points[side, :, 1]),
                text=labels[side],
                customdata=np.arange(panel.points.shape[1]),
                name=f"{name}{state}" if together else name,
                legendgroup=f"{name}{place}" if together else name,
                showlegend=shown,
                legendrank=side + 1,
                mode="markers",
                marker=marker,
                hovertemplate=f"<b>{name}{state}</b><br>%{{text}}<extra></extra>",
                unselected={"marker": {"opacity": 0.12}},
                selectedpoints=sorted(picked) if picked else None,
            )
            traces.append((1 if together else place + 1, trace))
    return traces


def _ring(ends: np.ndarray, colours: Palette) -> go.Scatter:
    """A ring around each of the two texts `[sides, 2]` of a pair, and a line between them."""
    return go.Scatter(
        x=_round(ends[:, 0]),
        y=_round(ends[:, 1]),
        mode="lines+markers",
        line={"color": colours.ink, "width": 1.2},
        marker={"symbol": "circle-open", "size": 15, "color": colours.ink, "line": {"width": 2}},
        hoverinfo="skip",
        showlegend=False,
        name="The pair that is read",
    )


def _joined(starts: np.ndarray, ends: np.ndarray, colour: str, name: str) -> go.Scatter:
    """A thin line from each start `[points, 2]` to its end."""
    gaps = np.full(len(starts), np.nan)
    x = np.stack([starts[:, 0], ends[:, 0], gaps], axis=1).ravel()
    y = np.stack([starts[:, 1], ends[:, 1], gaps], axis=1).ravel()
    line = {"color": colour, "width": 0.6}
    return go.Scatter(
        x=_round(x), y=_round(y), mode="lines", line=line, opacity=0.5, hoverinfo="skip", showlegend=False, name=name
    )


def _round(values: np.ndarray) -> np.ndarray:
    """Four digits of the largest: more than a screen shows, and a fraction of the bytes."""
    reach = np.nanmax(np.abs(values), initial=0)
    return values if not reach else np.round(values, max(0, 4 - int(np.floor(np.log10(reach)))))
