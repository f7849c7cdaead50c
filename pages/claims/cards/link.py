"""The link to DPO: how much of its steps lies inside the toxic subspace, and what a filter does to a step of few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import plotly.graph_objects as go

from pages.claims.cards.card import WHOLE, Card, Picture
from pages.claims.records import real
from ui.show.colours import Palette, see_through
from ui.show.downloads import Table
from ui.show.figures import LEGEND, finish, tick, whiskers

COSINES = {
    "plain": "as it is",
    "filtered": "filtered",
    "filtered_both": "both inside its subspace",
    "random_both": "both inside a random one",
}


def make_card(record: Mapping[str, Any], wanted: str, colours: Palette) -> Card:
    layers = record["layers"]
    rank = int(real(record["rank"]))
    inside, chance = _mean(layers, "inside"), _mean(layers, "random")
    beside = []
    if record["along_training"]:
        beside.append(_draw_training(record, colours))
    if record["denoised"]:
        beside.append(_draw_cosines(record["denoised"], colours))
    plural, alone = "", ""
    if rank > 1:
        plural = "s"
        alone = (
            " The mean difference is one direction: a random one holds "
            f"{_mean(layers, 'random_first'):.0f} %, mean over layers."
        )
    first = Picture(
        layers_figure(layers, rank, colours),
        "claims_link",
        "DPO's first step inside the toxic subspace",
        f"Share of DPO's first step inside the toxic subspace of rank {rank}, by layer: {inside:.0f} % on average, "
        f"random subspaces {chance:.0f} %",
        list_layers(layers),
        f"How much of the norm of DPO's first step, layer by layer, lies inside the toxic subspace of {rank} "
        f"direction{plural}; grey is where 95 % of random subspaces of that rank lie.{alone}",
    )
    return Card(first, tuple(beside))


def _share(layer: Mapping[str, Any], name: str) -> float:
    return WHOLE * real(layer[name])


def _mean(layers: Sequence[Mapping[str, Any]], name: str) -> float:
    return fmean(_share(layer, name) for layer in layers)


def _add_band(figure: go.Figure, x: Sequence[Any], lows: list[float], means: list[float], highs: list[float],
              colours: Palette) -> None:  # fmt: skip
    """Where random subspaces lie."""
    for values, fill in ((lows, None), (highs, "tonexty")):
        figure.add_scatter(
            x=x, y=values, mode="lines", line={"width": 0}, fill=fill, fillcolor=see_through(colours.quiet, 0.18),
            hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    figure.add_scatter(
        x=x,
        y=means,
        mode="lines",
        name="Random subspaces",
        line={"color": colours.quiet, "width": 1.5, "dash": "dash"},
        customdata=list(zip(lows, highs, strict=True)),
        hovertemplate="Random subspaces: %{y:.0f} %, 95 % of them from %{customdata[0]:.0f} to %{customdata[1]:.0f} %"
        "<extra></extra>",
    )


def layers_figure(layers: Sequence[Mapping[str, Any]], rank: int, colours: Palette) -> go.Figure:
    """By layer, what lies inside the toxic subspace and along the mean difference, over the band of random ones."""
    figure = go.Figure()
    x = [int(real(layer["layer"])) for layer in layers]
    parts = ("random_low", "random", "random_high")
    _add_band(figure, x, *([_share(layer, part) for layer in layers] for part in parts), colours)
    toxic = "Toxic subspace" if rank > 1 else "Toxic direction"
    for name, part, colour, symbol, mode in (
        (toxic, "inside", colours.edited, "diamond", "lines+markers"),
        ("Mean difference", "mean_difference", colours.civil, "circle-open", "markers"),
    ):
        figure.add_scatter(
            x=x,
            y=[_share(layer, part) for layer in layers],
            mode=mode,
            name=name,
            line={"color": colour},
            marker={"color": colour, "symbol": symbol, "size": 9, "line": {"width": 2, "color": colour}},
            hovertemplate=f"Layer %{{x}}: %{{y:.0f}} % of the step, {name.lower()}<extra></extra>",
        )
    figure.update_xaxes(title="Layer", dtick=tick(len(x)), range=[min(x) - 0.4, max(x) + 0.4])
    figure.update_yaxes(title="Share of the first step inside, %", ticksuffix=" %", range=[0, _top(figure)])
    return finish(figure, 360, across="", up=colours.line, legend=LEGEND)


def _top(figure: go.Figure) -> float:
    return min(104.0, 1.12 * max(value for trace in figure.data for value in trace.y))


def _draw_training(record: Mapping[str, Any], colours: Palette) -> Picture:
    stages = [("first step", record["layers"])]
    stages += [(f"{real(each['step']):,.0f}", each["layers"]) for each in record["along_training"]]
    told = ", ".join(f"{name} {_mean(layers, 'inside'):.0f} %" for name, layers in stages)
    heads, _ = list_layers(record["layers"])
    rows = [(name, *row) for name, layers in stages for row in list_layers(layers)[1]]
    return Picture(
        training_figure(stages, colours),
        "claims_link_training",
        "Inside the toxic subspace as DPO trains",
        f"Share inside the toxic subspace, mean over layers, after steps of DPO: {told}",
        (("step", *heads), rows),
        "As DPO trains on: how much of all that it has changed by then lies inside, mean over layers.",
    )


def training_figure(stages: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], colours: Palette) -> go.Figure:
    """Mean over layers of the share inside, after more and more steps."""
    figure = go.Figure()
    names = [name for name, _ in stages]
    parts = ("random_low", "random", "random_high")
    _add_band(figure, names, *([_mean(layers, part) for _, layers in stages] for part in parts), colours)
    for name, part, colour, symbol, dash in (
        ("Toxic subspace", "inside", colours.edited, "diamond", "solid"),
        ("Mean difference", "mean_difference", colours.civil, "circle-open", "dash"),
    ):
        figure.add_scatter(
            x=names,
            y=[_mean(layers, part) for _, layers in stages],
            mode="lines+markers",
            name=name,
            line={"color": colour, "dash": dash},
            marker={"color": colour, "symbol": symbol, "size": 9},
            hovertemplate=f"%{{x}}: %{{y:.0f}} %, {name.lower()}<extra></extra>",
        )
    figure.update_xaxes(title="Steps of DPO", type="category")
    figure.update_yaxes(title="Share inside, mean over layers, %", ticksuffix=" %", range=[0, _top(figure)])
    return finish(figure, 330, across="", up=colours.line, legend=LEGEND)


def _draw_cosines(denoised: Sequence[Mapping[str, Any]], colours: Palette) -> Picture:
    heads = ("pairs", "draw", *COSINES)
    rows = [(*(int(real(each[name])) for name in heads[:2]), *(real(each[name]) for name in COSINES)) for each in
            denoised]  # fmt: skip
    few, draws = min(row[0] for row in rows), len({row[1] for row in rows})
    reach = f"Whiskers reach over all {draws} draws." if draws > 1 else "The few were drawn once."
    told = ", ".join(
        f"{called} {fmean(row[2 + place] for row in rows if row[0] == few):.2f}"
        for place, called in enumerate(COSINES.values())
    )
    return Picture(
        cosine_figure(rows, colours),
        "claims_link_cosines",
        "The step of few pairs beside that of all others",
        f"Cosine of the step of few pairs with that of all others; of {few} pairs {told}",
        (heads, rows),
        "The step of few pairs beside the step of all others: as it is, projected on the subspace that the few have "
        f"themselves, and both projected on it, or on a random one. {reach}",
    )


def cosine_figure(rows: Sequence[tuple[Any, ...]], colours: Palette) -> go.Figure:
    """Over the number of pairs, the cosine with the step of all others, before and after filtering."""
    figure = go.Figure()
    counts = sorted({row[0] for row in rows})
    looks = (
        (colours.toxic, "square", "solid"),
        (colours.edited, "diamond-open", "dot"),
        (colours.edited, "diamond", "solid"),
        (colours.quiet, "x", "dash"),
    )
    for place, (called, (colour, symbol, dash)) in enumerate(zip(COSINES.values(), looks, strict=True)):
        draws = [[row[2 + place] for row in rows if row[0] == count] for count in counts]
        means, lows, highs = ([how(each) for each in draws] for how in (fmean, min, max))
        figure.add_scatter(
            x=[f"{count:,}" for count in counts],
            y=means,
            error_y=whiskers(means, lows, highs, colour, thickness=1.5),
            mode="lines+markers",
            name=called[:1].upper() + called[1:],
            line={"color": colour, "dash": dash},
            marker={"color": colour, "symbol": symbol, "size": 9},
            hovertemplate=f"%{{x}} pairs, {called}: cosine %{{y:.2f}}<extra></extra>",
        )
    figure.update_xaxes(title="Pairs in the step", type="category")
    figure.update_yaxes(title="Cosine with the step of all others", rangemode="tozero")
    return finish(figure, 330, across="", up=colours.line, legend=LEGEND)


def list_layers(layers: Sequence[Mapping[str, Any]]) -> Table:
    """Every layer with all of its shares, 0 to 1."""
    heads = ("layer", "inside", "random", "random_low", "random_high", "first", "mean_difference", "random_first")
    rows = [(int(real(layer["layer"])), *(real(layer[name]) for name in heads[1:])) for layer in layers]
    return heads, rows
