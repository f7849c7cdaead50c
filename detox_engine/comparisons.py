"""Comparisons as means and as one document: the same for the command line and for the dashboard's downloads."""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING, Any

from detox_engine.specs import EditPlan, SamplingPlan, format_layers

if TYPE_CHECKING:
    from detox_engine.generate import Comparison


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
    edit = {"layers": format_layers(plan.layers), "rank": plan.rank, "strength": plan.strength}
    if plan.switched_off:
        edit["switched_off"] = sorted(map(list, plan.switched_off))
    if plan.edit_bias:
        edit["edit_bias"] = True
    return {"edit": edit, "sampling": asdict(sampling)}


def record_comparisons(comparisons: Sequence["Comparison"], plan: EditPlan, sampling: SamplingPlan) -> dict[str, Any]:
    """Everything about comparisons as one JSON document: `edit`, `sampling`, `results`, `summary`."""
    return record_plans(plan, sampling) | {"results": record_results(comparisons), "summary": summarise(comparisons)}
