"""The evaluation of an edit, and which of this session's evaluations a page shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan
from ui.session.places import check_opened
from ui.session.view import Fitted
from ui.work.tasks import Task, Tell

if TYPE_CHECKING:
    from detox_engine.errors import Progress
    from detox_engine.scoring.evaluation import Evaluation
    from detox_engine.study.study import Study
    from detox_engine.workbench import Workbench


@dataclass(frozen=True)
class Asked:
    """Which edit of which study, measured with what."""

    fitted: Fitted
    edit: EditPlan
    plan: EvaluationPlan


def answer(bench: Workbench, study: Study, asked: Asked, progress: Progress, tell: Tell) -> Evaluation:
    from detox_engine.scoring.evaluation import evaluate

    check_opened((asked.plan.prompts, asked.plan.neutral.source))
    return evaluate(bench.model, study, asked.edit, asked.plan, progress)


def words_of(evaluation: Evaluation) -> Iterator[str]:
    for outcome in evaluation.prompts:
        for each in outcome.comparisons:
            yield from each.texts


EVALUATION = Task("evaluation", answer, keep=6, words=words_of, private=True)


def find_evaluation(
    fitted: Fitted, edit: EditPlan, asked: Asked | None, kept: Mapping[Asked, Evaluation]
) -> Asked | None:
    """The evaluation of just this, else the latest of the same edit, else the latest of the same study, else None."""
    of_study = [other for other in kept if other.fitted == fitted]
    of_edit = [other for other in of_study if other.edit == edit]
    return asked if asked in kept else next(iter([*of_edit[-1:], *of_study[-1:]]), None)
