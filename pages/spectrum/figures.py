"""Singular values as pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from detox_engine.plans.layers import find_runs
from pages.spectrum.picks import Scale
from ui.show.colours import Palette, mix
from ui.show.figures import LEGEND, add_noise_band, finish, frame_cells, tick

AXIS_OF_SCALE = {
    "values": "Singular value",
    "shares": "Share of variance",
    "cumulative": "Share of variance, added up",
}


def scaled(singular_values: np.ndarray, scale: Scale) -> np.ndarray:
    """Singular values `[..., directions]` as they are, as shares of variance, or as shares added up."""
    if scale == "values":
        return singular_values
    variances = np.square(singular_values.astype(np.float64))
    shares = variances / variances.sum(axis=-1, keepdims=True)
    return shares if scale == "shares" else shares.cumsum(axis=-1)


def heatmap_figure(
    spectra: np.ndarray,
    scale: Scale,
    picked: int,
    edited: Sequence[int],
    rank: int,
    colours: Palette,
    standing: Sequence[int] | None = None,
) -> go.Figure:
    """Layers × directions, coloured by `spectra` `[layers, directions]` in the given scale.

    A dot lies on every cell, unseen, so that a click tells its layer; the picked layer is framed, and the cells
    that the edit removes have a line around them.

    Args:
        standing: by layer, how many directions stand out from noise; the other cells are hatched. None hatches none.
    """
    layers, directions = spectra.shape
    unit = ".3f" if scale == "values" else ".1%"
    columns, rows = np.meshgrid(np.arange(1, directions + 1), np.arange(layers))
    figure = go.Figure(
        [
            go.Heatmap(
                z=spectra,
                x=np.arange(1, directions + 1),
                y=np.arange(layers),
                colorscale=_spread(colours.ramp) if scale == "shares" else colours.ramp,
                xgap=1,
                ygap=1,
                colorbar={
                    "title": {"text": AXIS_OF_SCALE[scale], "side": "right"},
                    "thickness": 12,
                    "tickformat": "" if scale == "values" else ".0%",
                },
                hoverinfo="skip",
            ),
            go.Scatter(
                x=columns.ravel(),
                y=rows.ravel(),
                customdata=np.stack([rows.ravel(), spectra.ravel()], axis=1),
                mode="markers",
                marker={"size": 14, "opacity": 0},
                selected={"marker": {"opacity": 0}},
                unselected={"marker": {"opacity": 0}},
                hovertemplate=f"Layer %{{y}}, direction %{{x}}: %{{customdata[1]:{unit}}}<extra></extra>",
                showlegend=False,
            ),
        ]
    )
    if standing is not None:
        _hatch(
            figure, columns[columns > np.array(standing)[:, None]], rows[columns > np.array(standing)[:, None]], colours
        )
    frame_cells(figure, (1, directions), (picked, picked), colours.quiet)
    for run in find_runs(edited):
        frame_cells(figure, (1, min(rank, directions)), run, colours.edited, width=3)
    figure.update_xaxes(
        title="Direction, strongest first",
        showgrid=False,
        zeroline=False,
        tick0=1,
        dtick=tick(directions),
        range=[0.5, directions + 0.5],
    )
    ends = [-0.5, layers - 0.5]
    figure.update_yaxes(title="Layer", showgrid=False, zeroline=False, dtick=tick(layers), range=ends)
    # Wherever a cell is clicked, its dot is the nearest.
    return finish(figure, max(260, 22 * layers + 110), hoverdistance=-1)


def _spread(ramp: Sequence[str]) -> list[tuple[float, str]]:
    """A scale of colours most of which lie low: the first direction can have ten times the share of the second."""
    return [((place / (len(ramp) - 1)) ** 2.5, colour) for place, colour in enumerate(ramp)]


def _hatch(figure: go.Figure, columns: np.ndarray, rows: np.ndarray, colours: Palette) -> None:
    """A slanted stroke on each of these cells."""
    figure.add_scatter(
        x=columns,
        y=rows,
        mode="markers",
        marker={"symbol": "line-ne-open", "size": 7, "color": colours.quiet, "opacity": 0.45},
        hoverinfo="skip",
        showlegend=False,
    )


def curves_figure(spectra: np.ndarray, scale: Scale, picked: int, colours: Palette) -> go.Figure:
    """The spectra `[layers, directions]` of all layers over one another; the picked one stands out."""
    layers, directions = spectra.shape
    numbers = np.arange(1, directions + 1)
    unit = ".3f" if scale == "values" else ".1%"
    figure = go.Figure()
    for layer in sorted(range(layers), key=lambda layer: layer == picked):
        is_picked = layer == picked
        shade = mix(colours.line, colours.toxic, layer / max(1, layers - 1))
        figure.add_scatter(
            x=numbers,
            y=spectra[layer],
            mode="lines+markers" if is_picked else "lines",
            line={"color": colours.civil if is_picked else shade, "width": 3 if is_picked else 1.2},
            marker={"size": 6},
            hovertemplate=f"Layer {layer}, direction %{{x}}: %{{y:{unit}}}<extra></extra>",
            showlegend=False,
        )
    figure.update_xaxes(title="Direction, strongest first", showgrid=False, range=[0.6, directions + 0.4])
    # The first direction can have ten times the share of the second: on a scale of its own each is told from the next.
    added = scale == "cumulative"
    figure.update_yaxes(
        title=f"{AXIS_OF_SCALE[scale]}{'' if added else ', logarithmic'}",
        type="linear" if added else "log",
        tickformat="" if scale == "values" else ".0%" if added else "~%",
        gridcolor=colours.line,
    )
    return finish(figure, 400)


def spectrum_figure(
    singular_values: np.ndarray,
    shown: int,
    scale: Scale,
    rank: int | None,
    standing: int,
    noise: float,
    null: np.ndarray | None,
    colours: Palette,
    height: int = 360,
) -> go.Figure:
    """The spectrum of one layer over its noise band: the edited ranks in colour, a line after what stands out.

    Args:
        singular_values: `[directions]`, all of them, of which the first `shown` are drawn.
        rank: directions that the edit removes in this layer; None where the layer is not edited.
        standing: directions that stand out; no line is drawn after none or all shown.
        noise: what a singular value must exceed to stand out.
        null: `[3, kept]` low, middle and high singular values without structure, for the first directions; None where
            no parallel analysis was run.
    """
    heights = scaled(singular_values, scale)[:shown]
    numbers = np.arange(1, len(heights) + 1)
    unit = ".3f" if scale == "values" else ".1%"
    figure = go.Figure()
    groups = [
        ("Removed by the edit", numbers <= (rank or 0), colours.edited),
        ("Kept", numbers > (rank or 0), colours.quiet),
    ]
    for name, chosen, colour in groups:
        if chosen.any():
            figure.add_bar(
                x=numbers[chosen],
                y=heights[chosen],
                name=name,
                marker={"color": colour},
                hovertemplate=f"Direction %{{x}}: %{{y:{unit}}}<extra></extra>",
            )
    if scale != "cumulative":
        # Both are singular values: in the units of the bars.
        total = np.sum(singular_values.astype(float) ** 2)
        add_noise_band(figure, noise if scale == "values" else noise**2 / total, len(heights), unit, colours)
        if null is not None:
            _add_null_band(figure, (null if scale == "values" else null**2 / total)[:, :shown], unit, colours)
    if 0 < standing < len(heights):
        figure.add_vline(
            x=standing + 0.5,
            line={"color": colours.toxic, "width": 2},
            annotation={"text": label_standing(standing), "font": {"color": colours.toxic}},
            annotation_position="top right",
        )
    figure.update_xaxes(title="Direction, strongest first", showgrid=False, range=[0.4, len(heights) + 0.6])
    figure.update_yaxes(title=AXIS_OF_SCALE[scale], tickformat="" if scale == "values" else ".0%", rangemode="tozero")
    figure.update_layout(barmode="overlay", bargap=0.2, legend=LEGEND)
    return finish(figure, height)


def label_standing(count: int) -> str:
    """How many directions stand out, in as few words as a line's label has room for."""
    return "1 stands out" if count == 1 else f"{count or 'none'} stand out"


def _add_null_band(figure: go.Figure, null: np.ndarray, unit: str, colours: Palette) -> None:
    """What the singular values would be without structure, in the units of the bars: a line with a band."""
    low, middle, high = null
    numbers = np.arange(1, len(middle) + 1)
    error = {"type": "data", "symmetric": False, "array": high - middle, "arrayminus": middle - low, "width": 0}
    figure.add_scatter(
        x=numbers,
        y=middle,
        mode="lines+markers",
        name="What chance gives (5 to 95 %)",
        line={"color": colours.civil, "width": 1.5},
        marker={"size": 5, "color": colours.civil},
        error_y=error | {"color": colours.civil, "thickness": 3},
        hovertemplate=f"Chance gives %{{y:{unit}}} here<extra></extra>",
    )


def stability_figure(median: np.ndarray, high: np.ndarray, edited: Sequence[int], colours: Palette) -> go.Figure:
    """How far each layer's subspace turns when the pairs are drawn anew: `median` and `high` `[layers]` in degrees."""
    layers = np.arange(len(median))
    figure = go.Figure()
    inside = np.isin(layers, edited)
    groups = [("Edited", inside, colours.edited), ("Not edited", ~inside, colours.quiet)]
    for name, chosen, colour in groups:
        if chosen.any():
            figure.add_scatter(
                x=layers[chosen],
                y=median[chosen],
                mode="markers",
                name=name,
                marker={"color": colour, "size": 10},
                error_y={"type": "data", "symmetric": False, "array": (high - median)[chosen], "color": colour},
                customdata=high[chosen],
                hovertemplate="Layer %{x}: turns by %{y:.1f}°, in one draw of ten by %{customdata:.1f}° or more"
                "<extra></extra>",
            )
    ends = [-0.5, len(layers) - 0.5]
    figure.update_xaxes(title="Layer", dtick=tick(len(layers)), showgrid=False, range=ends)
    figure.update_yaxes(title="Largest principal angle (degrees)", range=[0, 92], tickvals=[0, 15, 30, 45, 60, 75, 90])
    figure.update_layout(legend=LEGEND)
    return finish(figure, 320)
