"""Methods side by side at one cost, as they were made, and how DPO trained."""

from __future__ import annotations

from collections.abc import Mapping
from math import log10
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

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
from ui.words.numbers import number
from ui.words.text import chart_html

COSTS = {"kl": "KL", "perplexity": "rise of perplexity"}
PARTS = ("mean", "low", "high")
MEASURES = ("loss", "margin", "accuracy")


def make_card(record: Mapping[str, Any], wanted: str, colours: Palette) -> Card:
    rows = record["methods"]
    score = pick_score(wanted, next(iter(rows.values()))["scorers"])
    table = list_rows(record)
    side_by_side = _draw_side_by_side(record, record, score, table, colours, "claims_bench")
    notes = [f"Left out: {words(name)}. {words(why)}" for name, why in record.get("left_out", {}).items() if words(why)]
    made = record.get("as_made") or {}
    beside = (_draw_as_made(record, made, score, table, colours),) if made else ()
    runs = {name: facts for name, facts in record.get("facts", {}).items() if "runs" in facts}
    folded = tuple(
        (
            f"The same at one {COSTS[other['cost']]}",
            _draw_side_by_side(record, other, score, table, colours, f"claims_bench_{words(other['cost'])}"),
        )
        for other in record.get("also", ())
    )
    if runs:
        folded += (("How DPO trained", _draw_training(runs, real(record["training"]["steps"]), colours)),)
    return Card(side_by_side, beside, folded, tuple(notes))


def _draw_side_by_side(
    record: Mapping[str, Any], comparison: Mapping[str, Any], score: str, table: Table, colours: Palette, key: str
) -> Picture:
    """What is left under every method at one cost."""
    rows = comparison["methods"]
    draws = next(iter(rows.values()))["scorers"][score]["draws"]
    band = f"; the grey band reaches over {len(draws)} random subspaces of the same rank" if len(draws) > 1 else ""
    missed = [words(row["title"]) for row in rows.values() if not row["cost"]["reached"]]
    hollow = f" Hollow marks do not come to that cost at any strength that was tried: {', '.join(missed)}."
    cost, level = COSTS[comparison["cost"]], real(comparison["wanted"])
    order = sorted(rows, key=lambda name: left_of(rows[name], score)[0])
    return Picture(
        dots_figure(rows, order, score, colours),
        key,
        f"{TOLD[score].capitalize()} left at a {cost} of {level:g}",
        f"Share of the unedited model's {TOLD[score]} that is left: "
        + ", ".join(f"{words(rows[name]['title'])} {left_of(rows[name], score)[0]:.0f} %" for name in order),
        table,
        f"Every method at the strength at which its {cost} on neutral text is {level:g}; bars are 95 % intervals over "
        f"{real(record['prompts']):.0f} prompts. Green is DeTox, blue are other methods that find directions, orange "
        f"what trains or does something else{band}.{hollow if missed else ''}",
    )


def left_of(row: Mapping[str, Any], score: str) -> tuple[float, float, float]:
    """What is left of a score under a contestant, in % of the unedited model's, with its interval."""
    effect = row["scorers"][score]
    mean, low, high = (percent(effect["after"][part], effect["before"]["mean"]) for part in PARTS)
    return mean, low, high


def dots_figure(rows: Mapping[str, Any], order: list[str], score: str, colours: Palette) -> go.Figure:
    """What is left under every method, least first, over the band of random subspaces; what making it took at the
    right."""
    figure = go.Figure()
    effect = rows[order[0]]["scorers"][score]
    before = effect["before"]["mean"]
    draws = [percent(draw, before) for draw in effect["draws"]]
    if draws:
        wash = {"fillcolor": colours.quiet, "opacity": 0.18, "line": {"width": 0}, "layer": "below"}
        figure.add_vrect(x0=min(draws), x1=max(draws), **wash)
    figure.add_vline(x=WHOLE, line={"color": colours.quiet, "width": 1.5, "dash": "dot"})
    for place, name in enumerate(order):
        row = rows[name]
        mean, low, high = left_of(row, score)
        look = look_of(name, colours, row["edit"] is not None)
        seconds, memory, cost = real(row["seconds"]), real(row["memory"]), row["cost"]
        figure.add_scatter(
            x=[mean],
            y=[place],
            error_x=whiskers([mean], [low], [high], look.colour),
            mode="markers",
            marker={"color": look.colour, "symbol": open_marker(look.symbol, cost["reached"]), "size": 11},
            hovertemplate=f"{chart_html(words(row['title']))} leaves {mean:.0f} % ({low:.0f} to {high:.0f} %)<br>at "
            f"strength {real(cost['strength']):.3g}, KL {real(cost['kl']):.4f} nats a token, perplexity × "
            f"{real(cost['perplexity']):.4f}<br>made in {seconds:,.1f} s with {memory / 1e6:,.0f} MB more"
            "<extra></extra>",
        )
        _write_beside(figure, place, f"{seconds:,.1f} s" if seconds < 10 else f"{seconds:,.0f} s", colours)
    chance = percent(effect["control"]["mean"], before)
    low, high = (percent(effect["control"][part], before) for part in ("low", "high"))
    figure.add_scatter(
        x=[chance],
        y=[len(order)],
        error_x=whiskers([chance], [low], [high], colours.quiet),
        mode="markers",
        marker={"color": colours.quiet, "symbol": "x", "size": 9},
        hovertemplate=f"Random subspaces leave {chance:.0f} % ({low:.0f} to {high:.0f} %), mean of {len(draws)} draws"
        "<extra></extra>",
    )
    _write_beside(figure, -0.85, "made in", colours)
    figure.add_annotation(
        x=WHOLE, y=-0.85, text="unedited", showarrow=False, xanchor="right", xshift=-4, font={"color": colours.quiet}
    )
    titles = [chart_html(words(rows[name]["title"])) for name in order]
    figure.update_xaxes(title=LEFT[score], ticksuffix=" %", rangemode="tozero")
    figure.update_yaxes(
        tickvals=list(range(len(order) + 1)),
        ticktext=[*titles, "Random subspaces"],
        range=[len(order) + 0.6, -1.3],
    )
    return finish(
        figure, 100 + 30 * (len(order) + 1), across=colours.line, up="", margin={"r": 64, "t": 6}, showlegend=False
    )


def _write_beside(figure: go.Figure, place: float, text: str, colours: Palette) -> None:
    """A text in a column at the right of the plot."""
    font = {"color": colours.quiet, "size": 12}
    figure.add_annotation(
        x=1, xref="paper", y=place, text=text, showarrow=False, xanchor="right", xshift=60, align="right", font=font
    )


def _draw_as_made(
    record: Mapping[str, Any], made: Mapping[str, Any], score: str, table: Table, colours: Palette
) -> Picture:
    told = ", ".join(
        f"{words(row['title'])} {left_of(row, score)[0]:.0f} % at a KL of {number(real(row['cost']['kl']))}"
        for row in made.values()
    )
    return Picture(
        as_made_figure(record, made, score, colours),
        "claims_as_made",
        "As they were made, whatever that costs",
        f"Share of {TOLD[score]} left against KL: {told}",
        table,
        "As they were made, whatever that costs: what a method leaves against how far it moves neutral text. A line "
        "joins a method at the cost of all, or as near as it comes to it, with itself as it was made.",
    )


def as_made_figure(record: Mapping[str, Any], made: Mapping[str, Any], score: str, colours: Palette) -> go.Figure:
    """Toxicity left against cost: all at one cost, and some as they were made."""
    figure = go.Figure()
    rows = record["methods"]
    for name, row in rows.items():
        look = look_of(name, colours, row["edit"] is not None)
        symbols = [open_marker(look.symbol, row["cost"]["reached"]), look.symbol]
        title, (left, *_) = chart_html(words(row["title"])), left_of(row, score)
        points = [(real(row["cost"]["kl"]), left)]
        if name in made:
            points.append((real(made[name]["cost"]["kl"]), left_of(made[name], score)[0]))
        figure.add_scatter(
            x=[x for x, _ in points],
            y=[y for _, y in points],
            mode="lines+markers+text",
            text=["DeTox" if name == "detox" else "", title][: len(points)],
            textposition="middle left" if len(points) == 1 else "top center",
            textfont={"color": look.colour},
            line={"color": look.colour, "width": 1, "dash": "dot"},
            marker={"color": look.colour, "symbol": symbols[: len(points)], "size": [8, 12][: len(points)]},
            cliponaxis=False,
            hovertemplate=f"{title}: %{{y:.0f}} % left at a KL of %{{x:.3g}} nats a token<extra></extra>",
        )
    # Room for the texts beside the outermost marks.
    costs = [x for trace in figure.data for x in trace.x]
    figure.update_xaxes(
        title="KL on neutral text,<br>nats a token (logarithmic)",
        type="log",
        range=[log10(min(costs)) - 0.7, log10(max(costs)) + 0.5],
        dtick=1,
        exponentformat="none",
    )
    figure.update_yaxes(title=LEFT[score], ticksuffix=" %", rangemode="tozero")
    return finish(figure, 330, across=colours.line, up=colours.line, showlegend=False)


def _draw_training(runs: Mapping[str, Any], most: float, colours: Palette) -> Picture:
    """Loss and reward margin as training went on, for at most `most` steps."""
    rows = [
        (name, real(run["learning_rate"]), side, real(step["step"]), *(real(step[part]) for part in MEASURES))
        for name, facts in runs.items()
        for run in facts["runs"]
        for side in ("trained", "held_out")
        for step in run[side]
    ]
    told = "; ".join(
        f"{title_of(name)} at its best after {real(facts['best']['step']):.0f} steps, with a held-out loss of "
        f"{number(real(facts['best']['loss']))}"
        for name, facts in runs.items()
    )
    counts = next(iter(runs.values()))
    return Picture(
        training_figure(runs, colours),
        "claims_training",
        "How DPO trained",
        f"Loss and reward margin over training steps: {told}",
        (("method", "learning_rate", "pairs", "step", *MEASURES), rows),
        f"{real(counts['pairs']):,.0f} pairs were trained on and {real(counts['held_out']):,.0f} held out; training "
        f"stops where the held-out loss no longer falls, or after {most:,.0f} steps. {told}.",
    )


def training_figure(runs: Mapping[str, Any], colours: Palette) -> go.Figure:
    """Loss and reward margin over steps, of the pairs trained on and of those held out."""
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.08)
    for name, facts in runs.items():
        for run in facts["runs"]:
            rate = real(run["learning_rate"])
            best = rate == real(facts["learning_rate"])
            for side, called in (("trained", "trained on"), ("held_out", "held out")):
                look = look_of(name, colours)
                title = f"{name_of(name)}, {called}"
                for row, part, said in ((1, "loss", "loss"), (2, "margin", "reward margin")):
                    figure.add_scatter(
                        x=[real(step["step"]) for step in run[side]],
                        y=[real(step[part]) for step in run[side]],
                        mode="lines+markers" if side == "held_out" else "lines",
                        name=title,
                        legendgroup=title,
                        showlegend=best and row == 1,
                        opacity=1 if best else 0.4,
                        line={
                            "color": look.colour if name == "dpo" else colours.civil,
                            "dash": "solid" if side == "held_out" else "dot",
                        },
                        marker={"size": 8, "symbol": look.symbol},
                        hovertemplate=f"{title}, learning rate {rate:g}: {said} %{{y:.3f}} after %{{x}} steps"
                        "<extra></extra>",
                        row=row,
                        col=1,
                    )
    figure.update_xaxes(title="Training steps", row=2)
    figure.update_yaxes(title="Loss", row=1)
    figure.update_yaxes(title="Reward margin", row=2)
    return finish(figure, 460, across=colours.line, up=colours.line, legend=LEGEND)


def list_rows(record: Mapping[str, Any]) -> Table:
    """Every contestant at every cost, and as it was made, with each score and its interval."""
    from detox_engine.lab.bench import list_bench

    rows = list_bench(record)
    heads = tuple(map(words, rows[0]))
    return heads, [tuple(cell(row[name]) for name in heads) for row in rows]
