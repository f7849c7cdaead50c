"""Directions of different layers beside each other, as Plotly figures: pure functions, and their data as tables."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from ui.show.colours import LIGHT, Palette
from ui.show.downloads import Table
from ui.show.figures import finish, frame_cells
from ui.words.numbers import signed

ALIKE = 0.7
"""Cosine from which on two directions share about half of their squared length."""
MOST_DIRECTIONS = 12
"""Directions of each layer that a pinned one is drawn beside."""
MOST_WRITTEN = 16
"""Layers up to which cells have room for their angle in numbers."""


def cosines_figure(cosines: np.ndarray, layer: int, direction: int, colours: Palette) -> go.Figure:
    """The cosine of a pinned direction, whose cell is framed, with the directions `[layers, directions]` of all layers.

    Colour is the size of the cosine: which way a direction points says little where its polarity is low.
    """
    shown = cosines[:, :MOST_DIRECTIONS].T
    directions, layers = shown.shape
    said = [
        [f"Layer {column}, direction {row + 1}: cosine {signed(shown[row, column])}" for column in range(layers)]
        for row in range(directions)
    ]
    figure = _heatmap(np.abs(shown), said, 1.0, colours.ramp, "Size of the cosine", np.arange(1, directions + 1))
    if direction < directions:
        frame_cells(figure, (layer, layer), (direction + 1, direction + 1), colours.civil)
    figure.update_xaxes(title="Layer", dtick=max(1, round(layers / 8)))
    figure.update_yaxes(title="Direction", range=[directions + 0.5, 0.5], tick0=1, dtick=max(1, round(directions / 6)))
    return finish(figure, 110 + 14 * directions, across="", up="", margin={"t": 10})


def describe_course(cosines: np.ndarray, layer: int) -> str:
    """In which layers around its own a direction is there as one direction, from cosines `[layers, directions]`."""
    nearest = np.abs(cosines).max(axis=1)
    first = last = layer
    while first > 0 and nearest[first - 1] >= ALIKE:
        first -= 1
    while last < len(nearest) - 1 and nearest[last + 1] >= ALIKE:
        last += 1
    if first == last:
        return f"It is there in layer {layer} alone: none beside it has a direction whose cosine with it is {ALIKE:g}."
    start = "is there from the first layer" if first == 0 else f"appears first in layer {first}"
    end = "lasts to the last" if last == len(nearest) - 1 else f"lasts to layer {last}"
    return f"It {start} and {end}: each of these layers has a direction whose cosine with it is {ALIKE:g} or more."


def list_cosines(cosines: np.ndarray) -> Table:
    """The cosine with every direction of every layer as a row."""
    return ("layer", "direction", "cosine"), [
        (layer, direction, float(value)) for (layer, direction), value in np.ndenumerate(cosines)
    ]


def angles_figure(angles: np.ndarray, summary: np.ndarray, picked: int, name: str, colours: Palette) -> go.Figure:
    """Layers × layers, coloured by `summary` `[layers, layers]` of the principal angles; the picked layer is framed.

    Args:
        angles: `[layers, layers, rank]` in degrees, for the words on each cell.
        name: what the summary is called.
    """
    layers = len(summary)
    said = [[_say_angles(row, column, angles[row, column]) for column in range(layers)] for row in range(layers)]
    figure = _heatmap(summary, said, 90.0, colours.ramp[::-1], f"{name}, degrees", np.arange(layers))
    figure.update_traces(colorbar={"tickvals": [0, 15, 30, 45, 60, 75, 90]})
    if layers <= MOST_WRITTEN:
        _write_cells(figure, summary, colours)
    frame_cells(figure, (0, layers - 1), (picked, picked), colours.civil)
    axis = {"title": "Layer", "dtick": max(1, round(layers / 12)), "range": [-0.5, layers - 0.5], "constrain": "domain"}
    figure.update_xaxes(axis)
    figure.update_yaxes(axis | {"scaleanchor": "x"})
    return finish(figure, min(600, max(320, 34 * layers + 110)), across="", up="", margin={"t": 10})


def _write_cells(figure: go.Figure, summary: np.ndarray, colours: Palette) -> None:
    """The angles in numbers, in whichever ink can be read on its cell."""
    dark = summary < 22.5 if colours == LIGHT else summary > 40
    columns, rows = np.meshgrid(np.arange(len(summary)), np.arange(len(summary)))
    figure.add_scatter(
        x=columns.ravel(),
        y=rows.ravel(),
        mode="text",
        text=[f"{angle:.0f}°" for angle in summary.ravel()],
        textfont={"size": 13, "color": np.where(dark.ravel(), "#ffffff", "#20222e").tolist()},
        hoverinfo="skip",
        showlegend=False,
    )


def describe_angles(summary: np.ndarray) -> str:
    """Layers × layers of angles in words: how far neighbours turn, and which layers lie farthest apart."""
    layers = len(summary)
    if layers == 1:
        return "The model has one layer."
    steps = summary.diagonal(1)
    row, column = np.unravel_index(int(summary.argmax()), summary.shape)
    low, high = sorted((row, column))
    return (
        f"From layer to layer they turn by {steps.min():.0f}° to {steps.max():.0f}°; the farthest apart are layers "
        f"{low} and {high}, at {summary[row, column]:.0f}°."
    )


def list_angles(angles: np.ndarray) -> Table:
    """Every two layers as a row, with their principal angles in rising order."""
    layers, _, rank = angles.shape
    heads = ("layer", "other_layer", *(f"angle_{number}" for number in range(1, rank + 1)))
    return heads, [
        (row, column, *angles[row, column].tolist()) for row in range(layers) for column in range(row + 1, layers)
    ]


def _say_angles(row: int, column: int, angles: np.ndarray) -> str:
    written = ", ".join(f"{angle:.0f}°" for angle in angles[:8]) + (", …" if len(angles) > 8 else "")
    return f"Layers {row} and {column}: {written}"


def _heatmap(z: np.ndarray, said: list[list[str]], high: float, ramp: tuple[str, ...], title: str, rows) -> go.Figure:
    return go.Figure(
        go.Heatmap(
            z=np.round(z, 4),
            y=rows,
            zmin=0,
            zmax=high,
            colorscale=ramp,
            xgap=1,
            ygap=1,
            hovertext=said,
            hovertemplate="%{hovertext}<extra></extra>",
            colorbar={"title": {"text": title, "side": "right"}, "thickness": 12},
        )
    )
