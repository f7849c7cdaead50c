"""The lesson's charts; larger letters than elsewhere, since a class reads them from the back row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from detox_engine.plans.layers import format_layers
from pages.learn.work import SHARES
from ui.show.colours import SYMBOLS, Palette
from ui.show.figures import LEGEND, add_noise_band, finish, whiskers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from detox_engine.lab.factor_model import Recovery
    from detox_engine.plans.edit import EditPlan
    from pages.learn.work import Change, Distances, Outcome, Turned

LETTERS = 15
HEIGHT = 400
SHOWN_DIRECTIONS = 24


def _finish(figure: go.Figure, colours: Palette, height: int = HEIGHT, **layout: object) -> go.Figure:
    figure.update_xaxes(title_font_size=LETTERS, tickfont_size=LETTERS - 2)
    figure.update_yaxes(title_font_size=LETTERS, tickfont_size=LETTERS - 2)
    look = {"legend": LEGEND | {"font": {"size": LETTERS - 1}}, "font": {"size": LETTERS - 2}}
    return finish(figure, height, across=colours.line, up=colours.line, **look | layout)


def places_figure(places: NDArray, labels: Sequence[Sequence[str]], told: bool, colours: Palette) -> go.Figure:
    """A dot for each text of a few pairs; until it is told, no dot says which side it is of.

    Args:
        places: `[sides, pairs, 2]`.
        labels: `[sides][pairs]` what a dot says on hover; escaped and masked by the caller.
    """
    figure = go.Figure()
    if told:
        gaps = np.full(places.shape[1], np.nan)
        figure.add_scatter(
            x=np.stack([places[0, :, 0], places[1, :, 0], gaps], axis=1).ravel(),
            y=np.stack([places[0, :, 1], places[1, :, 1], gaps], axis=1).ravel(),
            mode="lines",
            line={"color": colours.quiet, "width": 1},
            hoverinfo="skip",
            name="Twins",
        )
    looks = zip(("Rude", "Civil"), (colours.toxic, colours.civil), SYMBOLS, strict=True)
    for side, (name, colour, symbol) in enumerate(looks):
        figure.add_scatter(
            x=places[side, :, 0],
            y=places[side, :, 1],
            mode="markers",
            name=name if told else "Texts",
            text=labels[side],
            showlegend=told,
            marker={
                "size": 12,
                "opacity": 0.85,
                "color": colour if told else colours.quiet,
                "symbol": symbol if told else "circle",
            },
            hovertemplate=(f"<b>{name}</b><br>" if told else "") + "%{text}<extra></extra>",
        )
    figure.update_xaxes(title="Direction in which texts differ most<br>(model’s units)", zeroline=False)
    figure.update_yaxes(title="Direction after that", zeroline=False)
    return _finish(figure, colours, HEIGHT if told else 330, hoverlabel_align="left", margin={"t": 30 if told else 5})


def distances_figure(found: Distances, colours: Palette) -> go.Figure:
    """How far apart twins lie, and texts of different pairs."""
    edges = np.histogram_bin_edges(np.concatenate([found.within, found.between]), 40)
    figure = go.Figure()
    rows = (("Sides of a pair", found.within, colours.edited), ("Of different pairs", found.between, colours.quiet))
    for name, distances, colour in rows:
        counts = np.histogram(distances, edges)[0]
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts,
            width=np.diff(edges),
            name=name,
            marker={"color": colour, "opacity": 0.7},
            customdata=np.stack([edges[:-1], edges[1:]], axis=1),
            hovertemplate=f"{name}: %{{y}} lie from %{{customdata[0]:.2f}} to %{{customdata[1]:.2f}} apart"
            "<extra></extra>",
        )
    figure.update_xaxes(title="Distance between a rude and a civil text (model’s units)", rangemode="tozero")
    figure.update_yaxes(title="Couples of texts")
    return _finish(figure, colours, barmode="overlay", bargap=0)


def spectrum_figure(values: NDArray, noise: float, colours: Palette, planted: int | None = None) -> go.Figure:
    """Singular values, strongest first, over the noise band.

    Args:
        planted: how many directions are true, where that is known.
    """
    shown = values[:SHOWN_DIRECTIONS]
    numbers = np.arange(1, len(shown) + 1)
    figure = go.Figure()
    groups = (("Above the noise", shown > noise, colours.edited), ("Within it", shown <= noise, colours.quiet))
    for name, chosen, colour in groups:
        if chosen.any():
            figure.add_bar(
                x=numbers[chosen],
                y=shown[chosen],
                name=name,
                marker={"color": colour},
                hovertemplate="Direction %{x}: %{y:.3g}<extra></extra>",
            )
    add_noise_band(figure, noise, len(shown), ".3g", colours)
    if planted is not None and planted < len(shown):
        figure.add_vline(
            x=planted + 0.5,
            line={"color": colours.toxic, "width": 2},
            annotation={"text": f"truth: {planted}", "font": {"color": colours.toxic, "size": LETTERS}},
            annotation_position="top right",
        )
    figure.update_xaxes(title="Direction, strongest first", range=[0.4, len(shown) + 0.6])
    figure.update_yaxes(title="Singular value (model’s units)" if planted is None else "Singular value")
    return _finish(figure, colours, barmode="overlay", bargap=0.2)


def world_figure(recovery: Recovery, colours: Palette) -> go.Figure:
    """How far from the truth each method lies in the synthetic world."""
    rows = (
        ("DeTox, first<br>direction", recovery.first_detox, colours.edited),
        ("DeTox, both<br>directions", recovery.detox[-1], colours.edited),
        ("Mean difference,<br>one direction", recovery.mean_difference, colours.civil),
        ("Chance, both<br>directions", recovery.chance.mean, colours.quiet),
    )
    figure = go.Figure()
    for name, angle, colour in rows:
        figure.add_bar(
            x=[angle],
            y=[name],
            orientation="h",
            width=0.5,
            marker={"color": colour},
            text=[f"{angle:.0f}°"],
            textposition="outside",
            cliponaxis=False,
            hovertemplate=f"{name.replace('<br>', ' ')}: {angle:.1f}° from the truth<extra></extra>",
        )
    figure.update_xaxes(title="Angle from the truth (degrees): 0 is found", range=[0, 99], tickvals=[0, 30, 60, 90])
    figure.update_yaxes(autorange="reversed", automargin=True)
    return _finish(figure, colours, 300, showlegend=False)


def name_edit(edit: EditPlan) -> str:
    """An edit in a legend."""
    directions = "1 direction" if edit.rank == 1 else f"{edit.rank} directions"
    layers = "layer " if len(edit.layers) == 1 else "layers "
    return f"{directions}, strength {edit.strength:g}, {layers}{format_layers(edit.layers)}"


def cost_figure(found: Outcome, edits: Sequence[EditPlan], colours: Palette) -> go.Figure:
    """What edits do to rude words beside what they cost: the model as it is, and an arrow's end for each edit."""
    figure = go.Figure()
    rude, cost = found.rude[0].before, found.perplexity[0].before
    figure.add_scatter(
        x=[cost],
        y=[rude],
        mode="markers",
        name="As it is",
        marker={"size": 15, "color": colours.quiet, "symbol": "circle"},
        hovertemplate="As it is: perplexity %{x:.3g}, rude words %{y:.3g}<extra></extra>",
    )
    looks = zip(("diamond", "square", "triangle-up"), (colours.edited, colours.toxic, colours.civil), strict=True)
    for edit, change, paid, (symbol, colour) in zip(edits, found.rude, found.perplexity, looks, strict=False):
        name = name_edit(edit)
        figure.add_scatter(
            x=[paid.after],
            y=[change.after],
            error_x=_bars(paid, colour),
            error_y=_bars(change, colour),
            mode="markers",
            name=name,
            marker={"size": 15, "color": colour, "symbol": symbol},
            hovertemplate=f"{name}: perplexity %{{x:.3g}}, rude words %{{y:.3g}}<extra></extra>",
        )
    costs = [cost, *(each.after for each in found.perplexity)]
    ticks = _ticks(min(costs), max(costs))
    figure.update_xaxes(
        title="Perplexity of ordinary text (logarithmic): left is fluent",
        type="log",
        tickvals=ticks,
        ticktext=[f"{each:,g}" for each in ticks],
        range=[np.log10(ticks[0]), np.log10(ticks[-1])],
    )
    figure.update_yaxes(title="Probability of rude words", rangemode="tozero")
    legend = {"orientation": "v", "x": 1, "xanchor": "right", "y": 1, "yanchor": "top", "bgcolor": colours.background}
    return _finish(figure, colours, showlegend=True, legend=legend)


def _bars(change: Change, colour: str) -> dict:
    """What the interval of after / before makes of the score as it was."""
    ends = ([change.low * change.before], [change.high * change.before])
    return whiskers([change.after], *ends, colour, thickness=1.5, width=4)


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, … from below `low` to above `high`."""
    every = [digit * 10.0**power for power in range(-1, 12) for digit in (1, 2, 5)]
    first = max((place for place, each in enumerate(every) if each < 0.95 * low), default=0)
    last = min((place for place, each in enumerate(every) if each > 1.05 * high), default=len(every) - 1)
    return every[first : last + 1]


def labels_figure(found: Turned, share: int, colours: Palette) -> go.Figure:
    """How far both directions turn, the more labels are swapped."""
    figure = go.Figure()
    rows = (
        ("DeTox", found.detox, colours.edited, "circle", "solid"),
        ("Mean difference", found.mean_difference, colours.civil, "diamond", "dash"),
    )
    for name, angles, colour, symbol, dash in rows:
        middle = np.median(angles, axis=1)
        figure.add_scatter(
            x=SHARES,
            y=middle,
            mode="lines+markers",
            name=name,
            line={"color": colour, "dash": dash, "width": 2.5},
            marker={"symbol": symbol, "size": 11, "color": colour},
            error_y=whiskers(middle, angles.min(axis=1), angles.max(axis=1), colour, thickness=1.5),
            hovertemplate=f"{name}, %{{x}} % swapped: turned by %{{y:.1f}}°<extra></extra>",
        )
    figure.add_vline(x=share, line={"color": colours.quiet, "width": 1.5, "dash": "dot"})
    figure.update_xaxes(title="Labels that are swapped (% of the pairs)", tickvals=SHARES, range=[-2, 52])
    figure.update_yaxes(title="Turned by (degrees)", range=[-3, 96], tickvals=[0, 30, 60, 90])
    return _finish(figure, colours)
