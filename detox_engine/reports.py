"""Evaluations and sweeps as plain records, for JSON, for CSV and for the pages' downloads."""

from dataclasses import asdict
from typing import Any

from detox_engine.estimates import Effect
from detox_engine.evaluation import Evaluation
from detox_engine.specs import format_layers
from detox_engine.sweep import Sweep

SIDES = ("before", "after", "control", "difference", "control_difference")


def record_effect(effect: Effect) -> dict[str, Any]:
    """`before`, `after`, `control`, `difference` and `control_difference`, each {mean, low, high, n}; `draws`."""
    return {**{side: asdict(getattr(effect, side)) for side in SIDES}, "draws": list(effect.draws)}


def record_scores(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Scorer -> its effect."""
    return {score.name: record_effect(score.effect) for score in evaluation.scores}


def record_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """All of an evaluation: what was measured with what, the scores, every prompt, and the proof."""
    edit = evaluation.edit
    return {
        "model": asdict(evaluation.model),
        "edit": {
            "layers": format_layers(edit.layers),
            "rank": edit.rank,
            "strength": edit.strength,
            "switched_off": sorted(edit.switched_off),
            "edit_bias": edit.edit_bias,
        },
        "plan": asdict(evaluation.plan),
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
        "proof": asdict(evaluation.proof),
        "seconds": evaluation.seconds,
        "made": evaluation.made,
        "versions": evaluation.versions,
    }


def record_sweep(sweep: Sweep) -> list[dict[str, Any]]:
    """One record for each setting: layers, rank, strength, and each scorer's effect under its name."""
    return [
        {
            "layers": format_layers(point.layers),
            "rank": point.rank,
            "strength": point.strength,
            **{name: record_effect(effect) for name, effect in point.effects.items()},
        }
        for point in sweep.points
    ]


def tabulate_sweep(sweep: Sweep) -> tuple[list[str], list[list[Any]]]:
    """Column names and rows of a flat table: `toxicity_after_low` and the like beside layers, rank and strength."""
    names = [scorer.name for scorer in sweep.scorers]
    parts = ("mean", "low", "high")
    columns = ["layers", "rank", "strength"]
    columns += [f"{name}_{side}_{part}" for name in names for side in SIDES for part in parts]
    rows = []
    for point in sweep.points:
        row = [format_layers(point.layers), point.rank, point.strength]
        for name in names:
            for side in SIDES:
                row += [getattr(getattr(point.effects[name], side), part) for part in parts]
        rows.append(row)
    return columns, rows
