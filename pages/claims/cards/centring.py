"""What centring spares: the same edit with and without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from pages.claims.cards.card import LEFT, TOLD, Card, Picture, look_of, open_marker, pick_score
from pages.claims.cards.curves import left_of, list_points, tell_missed
from pages.claims.records import real
from ui.show.colours import Palette
from ui.show.figures import LEGEND, finish, whiskers

SIDES = {"detox": "with centring", "uncentred": "without"}
WIDE = 3.0
"""From how many times the least perplexity on the axis is logarithmic."""
Points = Mapping[tuple[str, int], Mapping[str, Any]]


def make_card(record: Mapping[str, Any], wanted: str, colours: Palette) -> Card:
    points = record["points"]
    score = pick_score(wanted, points[0], "_mean")
    whole, matched = (_by_rank(points, matched) for matched in (False, True))
    table = list_points(points)
    pictures = []
    if whole:
        pictures.append(
            Picture(
                whole_figure(whole, score, colours),
                "claims_centring",
                "With and without centring, at strength 1",
                f"Perplexity against {TOLD[score]} left: {_tell(whole, score)}",
                table,
                "As the paper edits, at strength 1: a line joins an edit with centring and the same without it. "
                "Left is cheaper, down is less toxic.",
            )
        )
    if matched:
        pictures.append(
            Picture(
                matched_figure(matched, score, colours),
                "claims_centring_matched",
                "With and without centring, at one cost",
                f"{TOLD[score].capitalize()} left at one cost: {_tell(matched, score)}",
                table,
                "At the strength at which both cost the same on neutral text; bars are 95 % intervals.",
            )
        )
    return Card(pictures[0], tuple(pictures[1:]), notes=tell_missed(list(matched.values())))


def _by_rank(points: Sequence[Mapping[str, Any]], matched: bool) -> Points:
    return {
        (point["method"], int(real(point["rank"]))): point
        for point in points
        if point["matched"] is matched and point["method"] in SIDES
    }


def _ranks(points: Points) -> list[int]:
    return sorted({rank for _, rank in points})


def _left(point: Mapping[str, Any], score: str) -> tuple[float, float, float]:
    return left_of([point], score)


def _tell(points: Points, score: str) -> str:
    return "; ".join(
        f"rank {rank} {SIDES[method]} {_left(point, score)[0]:.0f} % at perplexity × {real(point['perplexity']):.3f}"
        for (method, rank), point in points.items()
    )


def whole_figure(points: Points, score: str, colours: Palette) -> go.Figure:
    """Toxicity left against perplexity, each rank two marks that are joined."""
    figure = go.Figure()
    costs = [real(point["perplexity"]) for point in points.values()]
    logarithmic = min(costs) > 0 and max(costs) > WIDE * min(costs)
    ranks = _ranks(points)
    for rank in ranks:
        both = [points.get((method, rank)) for method in ("uncentred", "detox")]
        if None not in both:
            (x0, y0), (x1, y1) = ((real(point["perplexity"]), _left(point, score)[0]) for point in both)
            figure.add_scatter(
                x=[x0, x1],
                y=[y0, y1],
                mode="lines",
                line={"color": colours.quiet, "width": 2},
                hoverinfo="skip",
                showlegend=False,
            )
    for method, called in SIDES.items():
        own = {rank: points[method, rank] for rank in ranks if (method, rank) in points}
        look = look_of(method, colours)
        figure.add_scatter(
            x=[real(point["perplexity"]) for point in own.values()],
            y=[_left(point, score)[0] for point in own.values()],
            mode="markers+text",
            name=called[:1].upper() + called[1:] + (" centring" if method == "uncentred" else ""),
            text=[f"rank {rank}" for rank in own],
            textposition="top center" if method == "uncentred" else "bottom center",
            textfont={"color": look.colour},
            marker={"color": look.colour, "symbol": look.symbol, "size": 11},
            cliponaxis=False,
            customdata=[(rank, *_left(point, score)[1:], real(point["kl"])) for rank, point in own.items()],
            hovertemplate=f"Rank %{{customdata[0]}} {called}: %{{y:.0f}} % left (%{{customdata[1]:.0f}} to "
            "%{customdata[2]:.0f} %)<br>at perplexity × %{x:.3f}, KL %{customdata[3]:.4f} nats a token<extra></extra>",
        )
    least, most = min(costs), max(costs)
    room = 0.25 * (most - least) or 0.01
    title = "Perplexity of neutral text,<br>times what it was"
    if logarithmic:
        figure.update_xaxes(title=f"{title} (logarithmic)", type="log")
    else:
        figure.update_xaxes(title=title, range=[least - room, most + room])
    highest = max(_left(point, score)[0] for point in points.values())
    figure.update_yaxes(title=LEFT[score], ticksuffix=" %", range=[-0.12 * highest, 1.2 * highest])
    return finish(figure, 360, across=colours.line, up=colours.line, legend=LEGEND, showlegend=True)


def matched_figure(points: Points, score: str, colours: Palette) -> go.Figure:
    """Toxicity left at one cost: a row for each rank, with and without centring joined."""
    figure = go.Figure()
    ranks = _ranks(points)
    for place, rank in enumerate(ranks):
        ends = [_left(points[method, rank], score)[0] for method in SIDES if (method, rank) in points]
        figure.add_scatter(
            x=ends, y=[place] * len(ends), mode="lines", line={"color": colours.line, "width": 6}, hoverinfo="skip"
        )
    for aside, (method, called) in zip((-0.12, 0.12), SIDES.items(), strict=True):
        look = look_of(method, colours)
        own = {rank: points[method, rank] for rank in ranks if (method, rank) in points}
        means, lows, highs = map(list, zip(*(_left(point, score) for point in own.values()), strict=True))
        places = [ranks.index(rank) for rank in own]
        figure.add_scatter(
            x=means,
            y=[place + aside for place in places],
            error_x=whiskers(means, lows, highs, look.colour),
            mode="markers+text",
            text=[called if place == 0 else "" for place in places],
            textposition="top center" if aside < 0 else "bottom center",
            textfont={"color": look.colour},
            marker={
                "color": look.colour,
                "symbol": [open_marker(look.symbol, point["reached"]) for point in own.values()],
                "size": 11,
            },
            customdata=[(rank, low, high, real(own[rank]["strength"])) for rank, low, high in zip(own, lows, highs,
                        strict=True)],
            hovertemplate=f"Rank %{{customdata[0]}} {called}: %{{x:.0f}} % left (%{{customdata[1]:.0f}} to "
            "%{customdata[2]:.0f} %) at strength %{customdata[3]:.3g}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title=LEFT[score], ticksuffix=" %", rangemode="tozero")
    figure.update_yaxes(
        title="Rank", tickvals=list(range(len(ranks))), ticktext=[str(rank) for rank in ranks],
        range=[len(ranks) - 0.4, -0.7],
    )  # fmt: skip
    return finish(figure, 130 + 70 * len(ranks), across=colours.line, up="", showlegend=False)
