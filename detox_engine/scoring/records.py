"""Evaluations and sweeps as plain records, for JSON, for CSV and for the pages' downloads."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING, Any

from detox_engine.estimates import Effect, Estimate
from detox_engine.plans.edit import EditPlan, record_edit
from detox_engine.plans.layers import format_layers
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.scoring.evaluation import Evaluation
from detox_engine.scoring.results import SweepPoint
from detox_engine.scoring.scorers import record_plan
from detox_engine.scoring.sweep import Sweep

if TYPE_CHECKING:
    from detox_engine.forward.compare import Comparison

PREFIXES = {"plain": "", "matched": "matched_"}
"""What the names of a control's numbers begin with, by its kind."""


def list_sides(effect: Effect) -> Iterator[tuple[str, Estimate]]:
    """`before`, `after`, `control`, `difference`, `control_difference`; a matched control's as `matched_control`, …"""
    yield from (("before", effect.before), ("after", effect.after))
    yield from ((f"{PREFIXES[each.kind]}control", each.level) for each in effect.controls)
    yield "difference", effect.difference
    yield from ((f"{PREFIXES[each.kind]}control_difference", each.difference) for each in effect.controls)


def record_effect(effect: Effect) -> dict[str, Any]:
    """Each side {mean, low, high, n}, see `list_sides`; `draws`, and `matched_draws` of a matched control."""
    sides = {name: asdict(estimate) for name, estimate in list_sides(effect)}
    return sides | {f"{PREFIXES[each.kind]}draws": list(each.draws) for each in effect.controls}


def record_scores(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Scorer -> its effect."""
    return {score.name: record_effect(score.effect) for score in evaluation.scores}


def record_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """All of an evaluation: what was measured with what, the scores, every prompt, and the proof."""
    return {
        "model": asdict(evaluation.model),
        "edit": record_edit(evaluation.edit),
        "plan": record_plan(evaluation.plan),
        "sources": evaluation.sources,
        "scorers": {
            score.name: {
                "title": score.title,
                "sentence": score.sentence,
                "lower_is_better": score.lower_is_better,
                **record_effect(score.effect),
            }
            for score in evaluation.scores
        },
        "prompts": [
            {
                "prompt": outcome.prompt,
                "toxicity_before": outcome.before,
                "toxicity_after": outcome.after,
                "fate": outcome.fate,
                "continuations": [
                    {"sample": each.sample, "before": each.before.text, "after": each.after.text}
                    for each in outcome.comparisons
                ],
            }
            for outcome in evaluation.prompts
        ],
        "massive_dimensions": list(evaluation.off),
        "matched_controls": [asdict(match) | {"reached": match.reached} for match in evaluation.matches],
        "proof": asdict(evaluation.proof),
        "seconds": evaluation.seconds,
        "made": evaluation.made,
        "versions": evaluation.versions,
    }


def record_sweep(sweep: Sweep) -> list[dict[str, Any]]:
    """One record for each setting: what tells its edit, and each scorer's effect under its name."""
    return [
        {
            **_record_setting(point),
            **{name: record_effect(effect) for name, effect in point.effects.items()},
        }
        for point in sweep.points
    ]


def _record_setting(point: SweepPoint) -> dict[str, Any]:
    return {
        "layers": format_layers(point.layers),
        "rank": point.rank,
        "strength": point.strength,
        "method": point.method,
        "sites": point.sites,
    }


def tabulate_sweep(sweep: Sweep) -> tuple[list[str], list[list[Any]]]:
    """Column names and rows of a flat table: `toxicity_after_low` and the like beside layers, rank and strength."""
    names = [scorer.name for scorer in sweep.scorers]
    parts = ("mean", "low", "high")
    columns, rows = [], []
    for point in sweep.points:
        row = _record_setting(point)
        for name in names:
            for side, estimate in list_sides(point.effects[name]):
                row |= {f"{name}_{side}_{part}": getattr(estimate, part) for part in parts}
        columns = list(row)
        rows.append(list(row.values()))
    return columns, rows


def summarise(comparisons: Sequence["Comparison"]) -> dict[str, float]:
    """Means over all continuations, and the share of them that the edit changed."""
    return {
        "prompts": len({comparison.prompt for comparison in comparisons}),
        "continuations": len(comparisons),
        "toxicity_before": fmean(comparison.toxicity_before for comparison in comparisons),
        "toxicity_after": fmean(comparison.toxicity_after for comparison in comparisons),
        "changed": fmean(comparison.first_divergence is not None for comparison in comparisons),
    }


def record_results(comparisons: Sequence["Comparison"]) -> list[dict[str, Any]]:
    """One record for each comparison, with what can be read in a table."""
    return [
        {
            "prompt": comparison.prompt,
            "sample": comparison.sample,
            "before": comparison.before.text,
            "after": comparison.after.text,
            "toxicity_before": comparison.toxicity_before,
            "toxicity_after": comparison.toxicity_after,
            "first_divergence": comparison.first_divergence,
        }
        for comparison in comparisons
    ]


def record_plans(plan: EditPlan, sampling: SamplingPlan) -> dict[str, Any]:
    """The edit and the sampling that comparisons were written with, such that they can be repeated."""
    return {"edit": record_edit(plan), "sampling": asdict(sampling)}


def record_comparisons(comparisons: Sequence["Comparison"], plan: EditPlan, sampling: SamplingPlan) -> dict[str, Any]:
    """Everything about comparisons as one JSON document: `edit`, `sampling`, `results`, `summary`."""
    return record_plans(plan, sampling) | {"results": record_results(comparisons), "summary": summarise(comparisons)}
