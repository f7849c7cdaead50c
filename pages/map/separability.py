"""How well the two sides part: linear probes layer by layer, and histograms along the first direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from pages.map.figures import LAYOUT
from pages.map.work import TITLES
from ui.show.chart import draw_chart
from ui.show.colours import Palette
from ui.show.figures import finish

if TYPE_CHECKING:
    from detox_engine.forward.embedded_pairs import Embeddings
    from detox_engine.reading.probe import SideHistogram
    from detox_engine.study.study import Study
    from ui.show.downloads import Table
    from ui.work.parting import Probed

MEASURES = {"accuracy": "Accuracy of a linear probe", "auc": "Area under its ROC curve"}
BINS = 30


def draw_separability(
    study: Study,
    layer: int,
    states: Mapping[str, Embeddings],
    probes: Mapping[str, Sequence[Probed]] | None,
    colours: Palette,
) -> None:
    """The probes of every layer, and the picked layer along its first direction, in the states that are shown.

    Args:
        probes: by state; empty where there are too few pairs, None until they are there.
    """
    st.subheader("How well do the sides part?", anchor=False)
    with st.container(key="map_beside"):
        _draw_histograms(study, layer, states, colours)
        if probes is None:
            st.caption("How well a linear probe tells the sides of every layer is being measured.")
        elif not probes:
            st.caption("A probe needs 10 pairs or more.")
        else:
            _draw_probes({name: probes[name] for name in states if name in probes} or probes, layer, colours)


def _draw_probes(probes: Mapping[str, Sequence[Probed]], layer: int, colours: Palette) -> None:
    titled = {TITLES[name]: found for name, found in probes.items()}
    for measure, name in MEASURES.items():
        values = "; ".join(f"{title} {getattr(found[layer], measure).mean:.2f}" for title, found in titled.items())
        draw_chart(
            probe_figure(titled, measure, layer, colours),
            key=f"map_probe_{measure}",
            title=f"{name}, layer by layer",
            alt=f"{name} by layer, 0.5 is chance; at layer {layer}: {values}",
            table=lambda measure=measure: list_probes(probes, measure),
            filename=f"probe_{measure}",
        )


def list_probes(probes: Mapping[str, Sequence[Probed]], measure: str) -> Table:
    """A row for each state and layer, with 95 % intervals."""
    return ("state", "layer", measure, "low", "high", "pairs"), [
        (name, probe.layer, one.mean, one.low, one.high, one.n)
        for name, found in probes.items()
        for probe in found
        for one in [getattr(probe, measure)]
    ]


def _draw_histograms(study: Study, layer: int, states: Mapping[str, Embeddings], colours: Palette) -> None:
    from detox_engine.reading.probe import count_projections, project_sides

    direction = study.subspaces[layer].basis[0]
    sides = [project_sides(found.toxic[layer], found.civil[layer], direction) for found in states.values()]
    counted = dict(zip((TITLES[name] for name in states), count_projections(sides, BINS), strict=True))
    means = "; ".join(
        f"{title}: toxic {float(toxic.mean()):.2f}, civil {float(civil.mean()):.2f}"
        for title, (toxic, civil) in zip(counted, sides, strict=True)
    )
    draw_chart(
        histogram_figure(counted, layer, colours),
        key="map_histogram",
        title=f"Texts along direction 1 of layer {layer}",
        alt=f"Projection on direction 1 of layer {layer}, means: {means}",
        table=lambda: list_counts(counted),
        filename=f"histogram_layer_{layer}",
    )


def list_counts(counted: Mapping[str, SideHistogram]) -> Table:
    """A row for each state and bin, in the units of the projection."""
    return ("state", "from", "to", "toxic texts", "civil texts"), [
        (state, *row)
        for state, found in counted.items()
        for row in zip(found.edges[:-1], found.edges[1:], found.toxic, found.civil, strict=True)
    ]


def probe_figure(
    states: Mapping[str, Sequence], measure: Literal["accuracy", "auc"], picked: int, colours: Palette
) -> go.Figure:
    """How well a linear probe tells the sides apart, layer by layer, with 95 % intervals.

    Args:
        states: title -> a `Probed` for each layer.
    """
    looks = [
        (colours.quiet, "circle", "solid"),
        (colours.edited, "diamond", "solid"),
        (colours.edited, "diamond-open", "dot"),
    ]
    figure = go.Figure()
    lowest = 0.5
    for place, ((state, probes), (colour, symbol, dash)) in enumerate(zip(states.items(), looks, strict=False)):
        found = [getattr(probe, measure) for probe in probes]
        means = np.array([one.mean for one in found])
        lows, highs = np.array([one.low for one in found]), np.array([one.high for one in found])
        lowest = min(lowest, lows.min())
        figure.add_scatter(
            x=[probe.layer + 0.09 * (place - (len(states) - 1) / 2) for probe in probes],
            y=means,
            error_y={
                "array": np.clip(highs - means, 0, None),
                "arrayminus": np.clip(means - lows, 0, None),
                "width": 2,
                "thickness": 1.2,
            },
            mode="lines+markers",
            name=state,
            line={"color": colour, "dash": dash, "width": 1.5},
            marker={"symbol": symbol, "size": 7, "color": colour},
            customdata=np.stack([[probe.layer for probe in probes], lows, highs], axis=1),
            hovertemplate=f"{state}, layer %{{customdata[0]}}: %{{y:.3f}} "
            "(%{customdata[1]:.3f} to %{customdata[2]:.3f})<extra></extra>",
        )
    figure.add_hline(y=0.5, line={"color": colours.quiet, "dash": "dash", "width": 1})
    figure.add_annotation(
        x=1, xref="paper", y=0.5, text="chance", showarrow=False, xanchor="right", yanchor="bottom",
        font={"color": colours.quiet, "size": 11},
    )  # fmt: skip
    figure.add_vline(x=picked, line={"color": colours.line, "width": 8}, layer="below")
    layers = max(len(probes) for probes in states.values())
    figure.update_xaxes(title="Layer", dtick=max(1, round(layers / 10)), showgrid=False, zeroline=False)
    figure.update_yaxes(
        title=f"{MEASURES[measure]}, 0 to 1", range=[lowest - 0.04, 1.03], gridcolor=colours.line, zeroline=False
    )
    return finish(figure, 330, **LAYOUT)


def histogram_figure(states: Mapping[str, object], layer: int, colours: Palette) -> go.Figure:
    """Both sides along the first direction, a row for each state, all rows in the same bins.

    Args:
        states: title -> a `SideHistogram`.
    """
    rows = len(states)
    figure = make_subplots(
        rows,
        1,
        shared_xaxes=True,
        vertical_spacing=0.12,
        subplot_titles=list(states) if rows > 1 else None,
    )
    for row, (state, counts) in enumerate(states.items(), 1):
        edges = np.array(counts.edges)
        for name, heights, colour, shape in (
            ("Toxic", counts.toxic, colours.toxic, ""),
            ("Civil", counts.civil, colours.civil, "/"),
        ):
            figure.add_bar(
                x=(edges[:-1] + edges[1:]) / 2,
                y=heights,
                width=np.diff(edges),
                name=name,
                legendgroup=name,
                showlegend=row == 1,
                marker={
                    "color": colour,
                    "opacity": 0.6,
                    "line": {"width": 0},
                    "pattern": {
                        "shape": shape,
                        "fillmode": "overlay",
                        "fgcolor": colours.background,
                        "size": 5,
                        "solidity": 0.15,
                    },
                },
                customdata=np.stack([edges[:-1], edges[1:]], axis=1),
                hovertemplate=f"{state}: %{{y}} {name.lower()} texts between %{{customdata[0]:.2f}} "
                "and %{customdata[1]:.2f}<extra></extra>",
                row=row,
                col=1,
            )
    figure.update_xaxes(showgrid=False, zeroline=True, zerolinecolor=colours.line)
    figure.update_xaxes(title=f"Along direction 1 of layer {layer} (length along it)", row=rows)
    figure.update_yaxes(title="Texts", gridcolor=colours.line)
    figure.update_annotations(font={"size": 13})
    figure.update_layout(barmode="overlay", bargap=0)
    return finish(figure, 330 if rows < 3 else 400, **LAYOUT)
