"""What one direction alone does: the edit that removes it and nothing else, measured on a small set of prompts."""

from typing import TYPE_CHECKING

from detox_engine.errors import Progress, ignore_progress
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.fit import PAPER
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import TextSpec

if TYPE_CHECKING:
    from detox_engine.model.load import OpenModel
    from detox_engine.scoring.evaluation import Evaluation
    from detox_engine.study.study import Study

ABLATION_EVALUATION = EvaluationPlan(
    scorers=("profanity", "drift"),
    limit_prompts=40,
    sampling=SamplingPlan(max_new_tokens=20, greedy=True),
    neutral=TextSpec(limit=40),
    control="plain",
    controls=3,
)
"""Toxicity and drift on few texts: seconds on a small model, with intervals that say how little is known."""


def plan_ablation(
    study: "Study", layer: int, direction: int, strength: float = EditPlan.strength, method: str = PAPER
) -> EditPlan:
    """The edit that removes `direction` of `layer` and leaves all others in place.

    Raises:
        InputError: the study has no such layer or direction.
    """
    study.check_direction(layer, direction, method)
    others = frozenset((layer, other) for other in range(direction))
    return EditPlan((layer,), direction + 1, strength, others, method=method)


def ablate(
    model: "OpenModel",
    study: "Study",
    layer: int,
    direction: int,
    method: str = PAPER,
    plan: EvaluationPlan = ABLATION_EVALUATION,
    progress: Progress = ignore_progress,
) -> "Evaluation":
    """Measure the removal of one direction beside that of random directions of the same layer.

    Raises:
        InputError: see `plan_ablation` and `evaluate`.
    """
    # An evaluation brings all scorers with it, which a page that only plans an ablation does not need.
    from detox_engine.scoring.evaluation import evaluate

    return evaluate(model, study, plan_ablation(study, layer, direction, method=method), plan, progress)
