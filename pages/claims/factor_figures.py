"""The synthetic world of the factor model as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from ui.show.colours import Palette
from ui.show.figures import LEGEND, add_noise_band, finish, whiskers

if TYPE_CHECKING:
    from detox_engine.lab.factor_model import Curves, Recovery
    from detox_engine.plans.lab.factors import Along

SHOWN_DIRECTIONS = 16
HEIGHT = 360
RIGHT_ANGLE = {"range": [0, 96], "tickvals": [0, 15, 30, 45, 60, 75, 90]}
ROWS = ("DeTox", "DeTox without<br>centring", "Mean difference<br>(one direction)", "Random<br>subspaces")
NAMES = ("DeTox", "DeTox without centring", "Mean difference (one direction)")
"""The methods, in the order of `detox_engine.lab.factor_model.METHODS`."""
MARKERS = ("circle", "square", "diamond")
DASHES = ("solid", "dot", "dash")
AXIS_OF: dict[Along, str] = {
    "pairs": "Pairs (logarithmic)",
    "noise": "Noise, standard deviation in each dimension (logarithmic; a toxic factor has strength 1)",
    "flipped": "Share of the pairs whose labels are flipped",
}


def angles_figure(recovery: Recovery, colours: Palette) -> go.Figure:
    """How far each method lies from the planted subspace: a bar to its largest principal angle, dots at the others."""
    figure = go.Figure()
    chance, one = recovery.chance, recovery.chance_of_one
    planted = "the planted direction" if recovery.planted == 1 else f"the {recovery.planted} planted directions"
    extra = (
        "",
        f"<br>Its first direction lies {recovery.first_uncentred:.1f}° from them, and "
        f"{recovery.uncentred_to_mean:.1f}° from the mean direction",
        f"<br>One random direction lies {one.mean:.0f}° off, in 95 draws of 100 from {one.low:.0f}° to {one.high:.0f}°",
    )
    for row, (each, colour, more) in enumerate(zip(recovery.angles, _colours(colours), extra, strict=True)):
        told = ", ".join(f"{angle:.1f}°" for angle in each)
        figure.add_bar(
            x=[each[-1]],
            y=[row],
            orientation="h",
            width=0.5,
            marker={"color": colour, "opacity": 0.75},
            text=[f"{each[-1]:.0f}°"],
            textposition="outside",
            cliponaxis=False,
            hovertemplate=f"{NAMES[row]}: {told} from {planted}{more}<extra></extra>",
        )
        if len(each) > 1:
            figure.add_scatter(
                x=each[:-1],
                y=[row] * (len(each) - 1),
                mode="markers",
                marker={"color": colours.background, "size": 8, "line": {"color": colour, "width": 2}},
                hovertemplate=f"{NAMES[row]}: another of its principal angles, %{{x:.1f}}°<extra></extra>",
            )
    figure.add_scatter(
        x=[chance.mean],
        y=[len(NAMES)],
        mode="markers",
        marker={"color": colours.quiet, "size": 10},
        error_x=whiskers([chance.mean], [chance.low], [chance.high], colours.quiet, thickness=4, width=6),
        hovertemplate=f"Random subspaces of the same rank lie {chance.mean:.0f}° off on average, in 95 draws of 100 "
        f"from {chance.low:.0f}° to {chance.high:.0f}°<extra></extra>",
    )
    rows = list(range(len(ROWS)))
    figure.update_xaxes(title="Largest principal angle<br>(degrees): less is better", **RIGHT_ANGLE)
    figure.update_yaxes(tickvals=rows, ticktext=ROWS, range=[rows[-1] + 0.5, -0.5])
    return finish(figure, HEIGHT, across=colours.line, up="", showlegend=False)


def spectrum_figure(recovery: Recovery, pairs: int, colours: Palette) -> go.Figure:
    """Which directions stand out: singular values over the noise band, and the true rank.

    What lies beyond the top without centring is an arrow at the edge, so that it does not flatten the rest.
    """
    scale = pairs**0.5
    values = recovery.singular_values.double().numpy()[:SHOWN_DIRECTIONS] / scale
    uncentred = recovery.uncentred_values.double().numpy()[:SHOWN_DIRECTIONS] / scale
    level, planted = recovery.threshold / scale, recovery.planted
    numbers = np.arange(1, len(values) + 1)
    top = 1.3 * max(values[0], level)
    figure = go.Figure()
    groups = [
        ("As many as were planted", numbers <= planted, colours.edited),
        ("The rest", numbers > planted, colours.quiet),
    ]
    for name, chosen, colour in groups:
        figure.add_bar(
            x=numbers[chosen],
            y=values[chosen],
            name=name,
            marker={"color": colour},
            hovertemplate="Direction %{x}: %{y:.3f}<extra></extra>",
        )
    beyond = uncentred > top
    for chosen, symbol in ((~beyond, "square-open"), (beyond, "triangle-up")):
        figure.add_scatter(
            x=numbers[chosen],
            y=np.minimum(uncentred, 0.97 * top)[chosen],
            customdata=uncentred[chosen],
            mode="markers",
            name="Without centring",
            showlegend=symbol == "square-open",
            marker={"color": colours.toxic, "size": 9, "symbol": symbol},
            hovertemplate="Direction %{x} without centring: %{customdata:.3f}<extra></extra>",
        )
    add_noise_band(figure, level, len(values), ".3f", colours)
    if planted < len(values):
        figure.add_vline(
            x=planted + 0.5,
            line={"color": colours.edited, "width": 2},
            annotation={"text": f"true rank {planted}", "font": {"color": colours.edited}},
            annotation_position="top right",
        )
    figure.update_xaxes(title="Direction, strongest first", range=[0.4, len(values) + 0.6])
    figure.update_yaxes(title="Singular value / √pairs<br>(a toxic factor has strength 1)", range=[0, top])
    figure.update_layout(barmode="overlay", bargap=0.2, legend=LEGEND)
    return finish(figure, HEIGHT, across="", up=colours.line)


def curve_figure(curves: Curves, now: float, colours: Palette) -> go.Figure:
    """The largest principal angle of each method, world after world: the middle draw, and a bar from least to most.

    Args:
        now: what the world above has of the option that the curve runs along; a line stands there.
    """
    along, logarithmic = curves.along, curves.along != "flipped"
    values, draws = np.array(curves.values), curves.angles.shape[-1]
    said = {"pairs": "%{x} pairs", "noise": "noise %{x}", "flipped": "%{x:.0%} flipped"}[along]
    figure = go.Figure()
    if len({(chance.low, chance.high) for chance in curves.chance}) == 1:
        wash = {"fillcolor": colours.quiet, "opacity": 0.15, "line": {"width": 0}, "layer": "below"}
        figure.add_hrect(y0=curves.chance[0].low, y1=curves.chance[0].high, **wash)
    figure.add_scatter(
        x=values,
        y=[chance.mean for chance in curves.chance],
        mode="lines",
        name="Random subspaces",
        line={"color": colours.quiet, "width": 1.5, "dash": "dashdot"},
        customdata=[(chance.low, chance.high) for chance in curves.chance],
        hovertemplate="Random subspaces of the same rank: %{y:.0f}°, in 95 draws of 100 from %{customdata[0]:.0f}° to "
        "%{customdata[1]:.0f}°<extra></extra>",
    )
    looks = zip(NAMES, curves.angles.numpy(), _colours(colours), MARKERS, DASHES, strict=True)
    for name, angles, colour, marker, dash in looks:
        middle, low, high = np.median(angles, axis=-1), angles.min(axis=-1), angles.max(axis=-1)
        figure.add_scatter(
            x=values,
            y=middle,
            mode="lines+markers",
            name=name,
            line={"color": colour, "dash": dash},
            marker={"color": colour, "size": 9, "symbol": marker},
            error_y=whiskers(middle, low, high, colour, thickness=1.5),
            customdata=np.stack([low, high], axis=1),
            hovertemplate=f"{name}, {said}: %{{y:.1f}}°; {draws} draws from %{{customdata[0]:.1f}}° to "
            "%{customdata[1]:.1f}°<extra></extra>",
        )
    if now > 0 or not logarithmic:
        figure.add_vline(
            x=now,
            line={"color": colours.quiet, "width": 1, "dash": "dash"},
            annotation={"text": "the world above", "font": {"color": colours.quiet}},
            annotation_position="top",
        )
    figure.update_xaxes(title=AXIS_OF[along], **({"type": "log", "tickvals": values} if logarithmic else {}))
    figure.update_xaxes(tickformat=".0%" if along == "flipped" else None)
    figure.update_yaxes(title="Largest principal angle (degrees)", **RIGHT_ANGLE)
    return finish(figure, HEIGHT, across=colours.line, up=colours.line, legend=LEGEND, margin={"t": 50})


def _colours(colours: Palette) -> tuple[str, str, str]:
    """Of the methods, in the order of `NAMES`."""
    return colours.edited, colours.toxic, colours.civil
