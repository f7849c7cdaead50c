"""What is measured of edits of one study, wherever it was measured, as points of one frontier; pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from detox_engine.scoring.results import SweepPoint
from ui.show.frontier import Axis, make_relative

if TYPE_CHECKING:
    from detox_engine.scoring.evaluation import Evaluation
    from detox_engine.scoring.records import KeptEvaluation
    from detox_engine.scoring.sweep import Sweep
    from ui.session.kept_results import KeptResult
    from ui.work.sweep import Asked

HARM = Axis("profanity", "Change of toxicity", "% of what it was", True)
COST = Axis("perplexity", "Change of the perplexity of neutral text", "% of what it was", True)


def list_points(evaluations: Sequence[Evaluation | KeptEvaluation]) -> list[SweepPoint]:
    """Evaluations that measured toxicity and perplexity, each as a setting with its changes in %."""
    points = []
    for one in evaluations:
        effects = {name: score.effect for name in (HARM.name, COST.name) if (score := one.find(name)) is not None}
        if len(effects) == 2:
            edit = one.edit
            points.append(SweepPoint(edit.layers, edit.rank, edit.strength, effects, edit.method, edit.sites))
    return make_relative(points)


def list_settings(sweeps: Sequence[KeptResult[Asked, Sweep]]) -> list[SweepPoint]:
    """The settings of the latest sweep and of all others that measured with the same, each edit once, in %."""
    whole = [each for each in sweeps if {HARM.name, COST.name} <= {scorer.name for scorer in each.found.scorers}]
    same = [each for each in whole if each.asked.plan.evaluation == whole[-1].asked.plan.evaluation]
    return make_relative(list({point.edit: point for each in same for point in each.found.points}.values()))


def list_scores(evaluation: Evaluation | KeptEvaluation) -> tuple[tuple[str, ...], list[tuple]]:
    """Heads and rows of every score: before, after, change, and the levels of its controls."""
    kinds = evaluation.plan.kinds
    heads = ("score", "before", "after", "change", "change_low", "change_high", *kinds)
    rows = []
    for score in evaluation.scores:
        effect = score.effect
        change = effect.difference
        levels = (control.level.mean for control in effect.controls)
        sides = (effect.before.mean, effect.after.mean, change.mean, change.low, change.high)
        rows.append((score.name, *sides, *levels))
    return heads, rows


def list_frontier(points: Sequence[SweepPoint]) -> tuple[tuple[str, ...], list[tuple]]:
    """Heads and rows of the settings of the frontier's picture."""
    parts = ("mean", "low", "high")
    heads = (
        "layers",
        "rank",
        "strength",
        "method",
        *(f"{axis.name}_{part}" for axis in (HARM, COST) for part in parts),
    )
    return heads, [
        (
            " ".join(map(str, point.layers)), point.rank, point.strength, point.method,
            *(getattr(point.effects[axis.name].difference, part) for axis in (HARM, COST) for part in parts),
        )
        for point in points
    ]  # fmt: skip
