"""What an edit gains and costs, beside random directions: in numbers of the kind that a check of a suggestion has."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from detox_engine.estimates import Estimate, estimate_effect
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import TextSpec
from detox_engine.study.suggestion import Change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from detox_engine.edit.low_rank import LowRankEdit
    from detox_engine.errors import Progress
    from detox_engine.estimates import Tally
    from detox_engine.model.load import OpenModel
    from detox_engine.plans.edit import EditPlan
    from detox_engine.study.study import Study

FIRST_LOOK = EvaluationPlan(
    ("mass", "profanity", "perplexity"),
    limit_prompts=8,
    sampling=SamplingPlan(max_new_tokens=20),
    neutral=TextSpec(limit=40),
    control="plain",
    controls=2,
    resamples=1000,
)
"""A handful of prompts and texts: about two seconds of the bundled model on two idle cores."""
COST = replace(FIRST_LOOK, scorers=("perplexity",), neutral=TextSpec(limit=60), resamples=2000)
"""What a check leaves out."""


def measure(
    model: OpenModel, study: Study, edit_plan: EditPlan, plan: EvaluationPlan, progress: Progress
) -> tuple[Change, ...]:
    """As `measure_several`, of one edit."""
    return measure_several(model, study, [edit_plan], plan, progress)[0]


def measure_several(
    model: OpenModel, study: Study, edit_plans: Sequence[EditPlan], plan: EvaluationPlan, progress: Progress
) -> list[tuple[Change, ...]]:
    """Each score of `plan` before each edit, after it, and under random directions off the massive dimensions.

    All edits share each pass. A perplexity is told as a multiple of the unedited model's; its `fall` is the difference
    of the logarithms.

    Raises:
        InputError: the edit removes nothing, or does not fit the study.
    """
    from detox_engine.edit.control import draw_controls
    from detox_engine.edit.low_rank import make_edit
    from detox_engine.scoring.evaluation import prepare
    from detox_engine.scoring.trial import Trial

    study.require_fit(model)
    rows: list[LowRankEdit | None] = [None]
    for edit_plan in edit_plans:
        edit = make_edit(study.of(edit_plan.method), edit_plan)
        rows += [edit, *draw_controls(edit, plan.controls, plan.seed, study.massive_dimensions)]
    materials = prepare(model, plan, progress)
    trial = Trial(model, rows, materials.prompts, plan.sampling, materials.texts, progress)
    tallies = {scorer.name: scorer.measure(trial) for scorer in materials.scorers if scorer.name == scorer.kind.name}
    starts = range(1, len(rows), 1 + plan.controls)
    return [
        tuple(
            compare(name, tally.select([0, *range(start, start + 1 + plan.controls)]), plan)
            for name, tally in tallies.items()
        )
        for start in starts
    ]


def compare(name: str, tally: Tally, plan: EvaluationPlan) -> Change:
    """A score from its tally of: unedited, edited, random draws."""
    effect = estimate_effect(replace(tally, exponential=False), plan.resamples, plan.seed)
    control = effect.control
    if not tally.exponential:
        return Change(name, effect.before, effect.after, control.level, effect.difference, control.beyond)
    # Paired text by text, the multiple has a far narrower interval than the perplexities themselves.
    one = Estimate(1.0, 1.0, 1.0, effect.before.n)
    return Change(name, one, _times(effect.difference), _times(control.difference), effect.difference, control.beyond)


def _times(logarithm: Estimate) -> Estimate:
    return Estimate(
        *(math.exp(min(each, 100)) for each in (logarithm.mean, logarithm.low, logarithm.high)), logarithm.n
    )
