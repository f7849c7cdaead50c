"""The evaluation of an edit, and which of this session's evaluations a page shows."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan
from ui.session.folders import cache_folder
from ui.session.kept_results import Shape
from ui.session.places import check_opened, keeps_results
from ui.session.view import Fitted
from ui.widgets.uploads import prune
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
    """The evaluation, told score by score; one that was stopped goes on where it was, but for others' servers."""
    from detox_engine.scoring.evaluation import evaluate

    check_opened((asked.plan.prompts, asked.plan.neutral.source))
    unfinished = cache_folder() / "unfinished" if keeps_results() else None
    if unfinished is not None:
        prune(unfinished)
    return evaluate(bench.model, study, asked.edit, asked.plan, progress, tell, unfinished)


def words_of(evaluation: Evaluation) -> Iterator[str]:
    for outcome in evaluation.prompts:
        for each in outcome.comparisons:
            yield from each.texts


def find_shape() -> type[Evaluation]:
    from detox_engine.scoring.evaluation import Evaluation

    return Evaluation


EVALUATION = Task("evaluation", answer, keep=6, words=words_of, shape=Shape("evaluations", Asked, find_shape))


def find_evaluation(edit: EditPlan, asked: Asked | None, kept: Collection[Asked]) -> Asked | None:
    """The evaluation of just this, else the latest of the same edit, else the latest of the study, else None."""
    of_edit = [other for other in kept if other.edit == edit]
    return asked if asked in kept else next(iter([*of_edit[-1:], *list(kept)[-1:]]), None)
