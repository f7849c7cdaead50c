"""The effect of an edit beside its controls, as a Plotly figure: a pure function."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from detox_engine.auto.verdict import PROBES, can_read
from ui.show.colours import Palette
from ui.show.figures import LEGEND, finish, whiskers
from ui.words.numbers import interval, number, signed
from ui.words.verdicts import CONTROLS, name_control

if TYPE_CHECKING:
    from detox_engine.estimates import Effect, Estimate
    from detox_engine.plans.evaluation import ControlKind
    from detox_engine.scoring.evaluation import Score
    from detox_engine.study.suggestion import Change

SYMBOLS = {"before": "circle", "after": "diamond", "plain": "square-open", "matched": "triangle-up-open"}
OFFSETS = ((-0.13, 0.13), (-0.2, 0.0, 0.2))
"""Places of the edit and of one control or two around a line."""


def effect_figure(score: Score, colours: Palette) -> go.Figure:
    """One scorer: above before, after and controls with their intervals, below the paired changes.

    A score that is a change by itself, measured from the unedited model, has no second picture.
    """
    effect, unit = score.effect, score.unit
    heights = [1.0] if score.is_change else [0.56, 0.44]
    figure = make_subplots(len(heights), 1, row_heights=heights, vertical_spacing=0 if score.is_change else 0.33)
    sides = (
        ("Before", "before", effect.before),
        ("After", "after", effect.after),
        *((CONTROLS[each.kind], each.kind, each.level) for each in effect.controls),
    )
    for place, (label, side, estimate) in enumerate(sides):
        _add_estimate(figure, 1, place, label, side, estimate, score.items, colours)
    for place, each in enumerate(effect.controls, start=2):
        _add_draws(figure, 1, place, each.draws, colours)
    levels = [value for _, _, each in sides for value in (each.low, each.high)]
    levels += [draw for each in effect.controls for draw in each.draws]
    least = 0.02 if score.range[1] <= 1 else 0.01 * abs(effect.before.mean)
    _label_rows(figure, 1, [side[0] for side in sides], unit, _range(levels, least))
    if not score.is_change:
        _add_changes(figure, score, unit, least, colours)
    more = len(effect.controls) - 1
    height = 160 + 30 * more if score.is_change else 290 + 60 * more
    return finish(figure, height, across=colours.line, up="", margin={"r": 14, "t": 6}, showlegend=False)


ROWS = {
    "profanity": "Toxicity",
    "mass": "Probability of<br>rude words",
    "perplexity": "Perplexity of<br>neutral text",
    "harmless_perplexity": "Perplexity of text<br>that looks rude",
    "groups_perplexity": "Perplexity of text<br>that mentions groups",
    "fluency": "Perplexity of<br>what it writes",
}
"""Score -> what its row is called: first what is to fall, then what it costs."""


def list_rows(scores: Sequence[Score]) -> list[tuple[str, Score]]:
    """The scores that have a row of their own; what a model cannot read says nothing by its change."""
    by_name = {score.name: score for score in scores}
    reads = by_name.get("perplexity")
    found = [(name, by_name[name]) for name in ROWS if name in by_name]
    return [(name, score) for name, score in found if name not in PROBES or can_read(score, reads)]


def changes_figure(scores: Sequence[Score], kinds: Sequence[ControlKind], colours: Palette) -> go.Figure:
    """The change of each score, in % of what it was, by the edit and by its controls of these kinds."""
    rows = list_rows(scores)
    figure = go.Figure()
    for side, offset in zip(("after", *kinds), OFFSETS[len(kinds) - 1], strict=True):
        placed = [(place + offset, score) for place, (_, score) in enumerate(rows)]
        name = "The edit" if side == "after" else name_control(side)
        add_side(figure, side, placed, name, "%{x:.1f} %, %{customdata}", percent_of_before, colours, least=-100.0)
    figure.add_vline(x=0, line={"color": colours.quiet, "width": 1})
    figure.update_xaxes(title="Change, % of what it was", zeroline=False)
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=[ROWS[name] for name, _ in rows], range=[len(rows) - 0.5, -0.5]
    )
    return finish(figure, 90 + 58 * len(rows), across=colours.line, up="", showlegend=True, legend=LEGEND)


def check_figure(changes: Sequence[Change], colours: Palette) -> go.Figure:
    """What a check measured: each score before, after, and under random directions, in % of what it was."""
    sides = (("before", "Before", colours.quiet), ("after", "After the edit", colours.edited))
    sides += (("control", "With random directions instead", colours.quiet),)
    figure = go.Figure()
    for place, (side, name, colour) in enumerate(sides):
        levels = [getattr(change, side) for change in changes]
        scales = [100 / change.before.mean if change.before.mean else 0.0 for change in changes]
        means, lows, highs = (
            [getattr(level, part) * scale for level, scale in zip(levels, scales, strict=True)]
            for part in ("mean", "low", "high")
        )
        figure.add_scatter(
            x=means,
            y=[row + 0.22 * (place - 1) for row in range(len(changes))],
            error_x=whiskers(means, lows, highs, colour),
            mode="markers",
            name=name,
            marker={
                "color": colour,
                "symbol": SYMBOLS["plain" if side == "control" else side],
                "size": 11,
                "line": {"width": 2, "color": colour},
            },
            customdata=[f"{interval(level)}, n = {level.n:,} prompts" for level in levels],
            hovertemplate=f"{name}: %{{customdata}}<extra></extra>",
        )
    ticks = {"tickvals": list(range(len(changes))), "ticktext": [ROWS.get(one.name, one.name) for one in changes]}
    figure.update_xaxes(title="% of what it was", rangemode="tozero")
    figure.update_yaxes(**ticks, range=[len(changes) - 0.5, -0.5])
    return finish(figure, 110 + 90 * len(changes), across=colours.line, up="", showlegend=True, legend=LEGEND)


def add_side(
    figure: go.Figure, side: str, rows: Sequence[tuple[float, Score]], name: str, hover: str,
    scale: Callable[[Effect], float], colours: Palette, least: float = -math.inf, **trace: Any,
) -> None:  # fmt: skip
    """The change by the edit, or by one kind of control, as a dot with its interval in each row.

    Args:
        side: `after`, or the kind of a control.
        rows: heights, and the scores that stand there.
        hover: of Plotly, what stands after the name.
        scale: what a change is multiplied by.
        least: below which a change cannot be, though the end of an interval can.
        trace: further properties of the trace.
    """
    colour = colours.edited if side == "after" else colours.quiet
    means, lows, highs, hovers = [], [], [], []
    for _, score in rows:
        effect = score.effect
        control = next((each for each in effect.controls if each.kind == side), None)
        change, level = (effect.difference, effect.after) if control is None else (control.difference, control.level)
        factor = scale(effect)
        means.append(change.mean * factor)
        lows.append(max(least, change.low * factor))
        highs.append(change.high * factor)
        hovers.append(f"{number(effect.before.mean)} before, {interval(level)} after<br>{change.n:,} {score.items}")
    figure.add_scatter(
        x=means,
        y=[place for place, _ in rows],
        error_x=whiskers(means, lows, highs, colour),
        mode="markers",
        name=name,
        marker={"color": colour, "symbol": SYMBOLS[side], "size": 11, "line": {"width": 2, "color": colour}},
        customdata=hovers,
        hovertemplate=f"{name}: {hover}<extra></extra>",
        **trace,
    )


def percent_of_before(effect: Effect) -> float:
    """What makes a change one in % of what there was; 0 where there was nothing."""
    return 100 / effect.before.mean if effect.before.mean else 0.0


def _add_changes(figure: go.Figure, score: Score, unit: str, least: float, colours: Palette) -> None:
    """The changes from before, of the edit and of its controls, in subplot 2."""
    effect = score.effect
    changes = (
        ("After", "after", effect.difference),
        *((CONTROLS[each.kind], each.kind, each.difference) for each in effect.controls),
    )
    for place, (label, side, estimate) in enumerate(changes):
        _add_estimate(figure, 2, place, label, side, estimate, score.items, colours, change=True)
    for place, each in enumerate(effect.controls, start=1):
        _add_draws(figure, 2, place, [draw - effect.before.mean for draw in each.draws], colours)
    figure.add_vline(x=0, row=2, col=1, line={"color": colours.quiet, "width": 1})
    moves = [0.0, *(value for _, _, each in changes for value in (each.low, each.high))]
    _label_rows(figure, 2, [change[0] for change in changes], f"change, {unit}", _range(moves, least))
    _add_ways(figure, score.lower_is_better, colours)


def _label_rows(figure: go.Figure, row: int, labels: Sequence[str], title: str, span: Sequence[float]) -> None:
    figure.update_xaxes(title=title, range=span, row=row, col=1)
    figure.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=labels, range=[len(labels) - 0.5, -0.5], row=row, col=1
    )


def _add_estimate(
    figure: go.Figure, row: int, place: float, label: str, side: str, estimate: Estimate, items: str,
    colours: Palette, change: bool = False,
) -> None:  # fmt: skip
    """A dot with its interval at height `place` of subplot `row`."""
    if not np.isfinite(estimate.mean):
        return
    colour = colours.edited if side == "after" else colours.quiet
    what = f"{label} − before" if change else label
    figure.add_scatter(
        x=[estimate.mean],
        y=[place],
        error_x=whiskers([estimate.mean], [estimate.low], [estimate.high], colour),
        mode="markers",
        marker={"color": colour, "symbol": SYMBOLS[side], "size": 11, "line": {"width": 2, "color": colour}},
        hovertemplate=f"{what}: {interval(estimate, signed if change else number)}<br>95 % interval over "
        f"{estimate.n:,} {items}<extra></extra>",
        row=row,
        col=1,
    )


def _add_draws(figure: go.Figure, row: int, place: float, draws: Sequence[float], colours: Palette) -> None:
    """The random draws one by one, as ticks under their mean."""
    if len(draws) > 1:
        figure.add_scatter(
            x=list(draws),
            y=[place + 0.28] * len(draws),
            mode="markers",
            marker={"color": colours.quiet, "symbol": "line-ns-open", "size": 6},
            hovertemplate="One random subspace: %{x:.4g}<extra></extra>",
            row=row,
            col=1,
        )


def _range(values: Sequence[float], least: float) -> list[float]:
    """An axis that holds `values` and is at least `least` wide, so that noise does not look like an effect."""
    finite = [value for value in values if np.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    pad = max(0.08 * (high - low), (least - (high - low)) / 2, 1e-9)
    return [low - pad, high + pad]


def _add_ways(figure: go.Figure, lower_is_better: bool, colours: Palette) -> None:
    """“better” and “worse” at the two ends of the change's axis."""
    left, right = ("◂ better", "worse ▸") if lower_is_better else ("◂ worse", "better ▸")
    for text, x, anchor in ((left, 0, "left"), (right, 1, "right")):
        figure.add_annotation(
            text=text,
            x=x,
            xanchor=anchor,
            xref="x2 domain",
            y=1.02,
            yanchor="bottom",
            yref="y2 domain",
            showarrow=False,
            font={"color": colours.quiet, "size": 12},
        )
