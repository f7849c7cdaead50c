"""What fewer pairs, or wrong labels, leave of what each method does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10
from typing import Any

import plotly.graph_objects as go

from pages.claims.cards.card import (
    LEFT,
    TOLD,
    WHOLE,
    Card,
    Picture,
    look_of,
    name_of,
    open_marker,
    percent,
    pick_score,
    title_of,
)
from pages.claims.records import cell, real, words
from ui.show.colours import Palette
from ui.show.downloads import Table
from ui.show.figures import LEGEND, finish, whiskers

FLAT = ("method", "pairs", "flipped", "draw", "rank", "matched", "strength", "kl", "perplexity", "reached")


@dataclass(frozen=True)
class Along:
    """What a curve runs along."""

    part: str
    axis: str
    said: str
    """Where a mark stands, for `format`."""
    factor: float = 1.0
    logarithmic: bool = False


PAIRS = Along("pairs", "Pairs (logarithmic)", "{:,.0f} pairs", logarithmic=True)
FLIPPED = Along("flipped", "Pairs whose labels are flipped, %", "{:.0f} % flipped", WHOLE)


def make_sample_size(record: Mapping[str, Any], wanted: str, colours: Palette) -> Card:
    return _make(record, wanted, colours, PAIRS, "sample_size", "Fewer pairs")


def make_label_noise(record: Mapping[str, Any], wanted: str, colours: Palette) -> Card:
    return _make(record, wanted, colours, FLIPPED, "label_noise", "Wrong labels")


def _make(record: Mapping[str, Any], wanted: str, colours: Palette, along: Along, key: str, title: str) -> Card:
    from detox_engine.lab.verdicts import group_points

    points = record["points"]
    score = pick_score(wanted, points[0], "_mean")
    curves = group_points(record, along.part)
    draws = max(len(each) for values in curves.values() for each in values.values())
    spread = "whiskers are 95 % intervals"
    if draws > 1:
        spread = (
            f"whiskers reach from the lowest to the highest of up to {draws} draws, and over the 95 % interval of a "
            "single fit"
        )
    told = "; ".join(f"{title_of(method)} {_tell_ends(values, score, along)}" for method, values in curves.items())
    picture = Picture(
        curve_figure(curves, score, along, colours),
        f"claims_{key}",
        f"{title}: {TOLD[score]} left at one cost",
        f"Share of the unedited model's {TOLD[score]} that is left: {told}",
        list_points(points),
        f"Every fit at the strength at which it costs the same on neutral text; {spread}. Less is better.",
    )
    return Card(picture, notes=tell_missed(points))


def tell_missed(points: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """A note on fits that were to come to the cost of all and do not; none where all do."""
    missed = sum(not point["reached"] for point in points)
    return (f"{missed:,} of {len(points):,} fits do not come to that cost at any strength: hollow marks.",)[:missed]


def _tell_ends(values: Mapping[float, Sequence[Mapping[str, Any]]], score: str, along: Along) -> str:
    ends = list(values)[:: max(1, len(values) - 1)]
    return " and ".join(f"{left_of(values[at], score)[0]:.0f} % at {real(at) * along.factor:g}" for at in ends)


def left_of(draws: Sequence[Mapping[str, Any]], score: str) -> tuple[float, float, float]:
    """In % of the unedited model's: the mean of the draws, and what they spread over; of one its interval."""
    from detox_engine.lab.verdicts import level

    mean, low, high = (percent(each, draws[0][f"{score}_before"]) for each in level(draws, score))
    return mean, low, high


def curve_figure(
    curves: Mapping[str, Mapping[float, Sequence[Mapping[str, Any]]]], score: str, along: Along, colours: Palette
) -> go.Figure:
    """What each method leaves; the unedited model as a dotted line, and where DPO overtakes DeTox."""
    figure = go.Figure()
    places = sorted({real(at) for values in curves.values() for at in values})
    for number, (method, values) in enumerate(curves.items()):
        look = look_of(method, colours)
        left = [left_of(draws, score) for draws in values.values()]
        means, lows, highs = (list(each) for each in zip(*left, strict=True))
        reached = [all(draw["reached"] for draw in draws) for draws in values.values()]
        # Beside one another, or the whiskers of methods that leave as much hide one another.
        aside = number - (len(curves) - 1) / 2
        x = [_shift(real(at), aside, places, along) for at in values]
        figure.add_scatter(
            x=x,
            y=means,
            error_y=whiskers(means, lows, highs, look.colour, thickness=1.5),
            mode="lines+markers",
            legendgroup=method,
            showlegend=False,
            line={"color": look.colour, "dash": look.dash},
            marker={"color": look.colour, "size": 9, "symbol": [open_marker(look.symbol, each) for each in reached]},
            customdata=[
                (along.said.format(real(at) * along.factor), *each)
                for at, each in zip(values, zip(lows, highs, map(len, values.values()), strict=True), strict=True)
            ],
            hovertemplate=f"{name_of(method)}, %{{customdata[0]}}: %{{y:.0f}} % left, from %{{customdata[1]:.0f}} to "
            "%{customdata[2]:.0f} % in %{customdata[3]} draws<extra></extra>",
        )
        # The legend's mark is not hollow, though the first one of the curve may be.
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="lines+markers",
            name=name_of(method),
            legendgroup=method,
            line={"color": look.colour, "dash": look.dash},
            marker={"color": look.colour, "size": 9, "symbol": look.symbol},
        )
    figure.add_hline(
        y=WHOLE,
        line={"color": colours.quiet, "width": 1.5, "dash": "dot"},
        annotation={"text": "unedited", "font": {"color": colours.quiet}},
        annotation_position="top left",
    )
    crossing = find_crossing(curves, score) if along is PAIRS else None
    if crossing is not None:
        figure.add_vline(x=crossing, line={"color": colours.quiet, "width": 1, "dash": "dash"})
        figure.add_annotation(
            # Places of texts on a logarithmic axis are logarithms, unlike those of lines.
            x=log10(crossing),
            y=WHOLE,
            text="DPO’s mean is lower from here",
            showarrow=False,
            xanchor="left" if crossing < places[len(places) // 2] else "right",
            yanchor="top",
            font={"color": colours.quiet},
        )
    ticks = {"tickvals": [at * along.factor for at in places], "ticktext": [f"{at * along.factor:,g}" for at in places]}
    figure.update_xaxes(title=along.axis, **ticks, **({"type": "log"} if along.logarithmic else {"ticksuffix": " %"}))
    highest = max(max(left_of(draws, score)) for values in curves.values() for draws in values.values())
    figure.update_yaxes(title=LEFT[score], ticksuffix=" %", range=[0, 1.1 * max(WHOLE, highest)])
    return finish(figure, 380, across="", up=colours.line, legend=LEGEND, showlegend=True)


def _shift(at: float, aside: float, places: Sequence[float], along: Along) -> float:
    """Where a mark stands: a little beside its place."""
    if along.logarithmic:
        return at * 1.025**aside
    return (at + aside * 0.006 * (places[-1] - places[0])) * along.factor


def find_crossing(curves: Mapping[str, Mapping[float, Sequence[Mapping[str, Any]]]], score: str) -> float | None:
    """Between which numbers of pairs the mean of DPO falls below that of DeTox for good; None where it does not."""
    if not {"detox", "dpo"} <= set(curves):
        return None
    shared = sorted(curves["detox"].keys() & curves["dpo"].keys())
    ahead = [left_of(curves["detox"][at], score)[0] <= left_of(curves["dpo"][at], score)[0] for at in shared]
    if not ahead or not any(ahead) or ahead[-1]:
        return None
    last = max(place for place, first in enumerate(ahead) if first)
    return (real(shared[last]) * real(shared[last + 1])) ** 0.5


def list_points(points: Sequence[Mapping[str, Any]]) -> Table:
    """Every fit with its cost and its scores."""
    scores = [name for name in points[0] if name not in FLAT]
    heads = (*FLAT, *map(words, scores))
    rows = [(words(point["method"]), *(cell(point.get(name)) for name in heads[1:])) for point in points]
    return heads, rows
