"""The worker that evaluates an edit, and the evaluations of this session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.plans.edit import EditPlan
from detox_engine.plans.measure import EvaluationPlan
from ui.session import shelf as cache
from ui.session.view import StudyKey
from ui.words import rude_words
from ui.work import jobs

if TYPE_CHECKING:
    from detox_engine.scoring.evaluation import Evaluation

KIND = "evaluation"
EVALUATIONS_KEPT = 6


@dataclass(frozen=True)
class Asked:
    """What an evaluation answers."""

    study: StudyKey
    made: str
    """Tells a study from an earlier one with the same specs."""
    edit: EditPlan
    plan: EvaluationPlan


def begin_evaluation(asked: Asked) -> None:
    """Evaluate in a worker; `settle_evaluations` takes over what comes of it."""
    shelf = cache.shelf()

    def work(progress):
        study = shelf.fit(asked.study, progress)
        bench = shelf.workbench(asked.study.model, progress)
        from detox_engine.scoring.evaluation import evaluate

        found = evaluate(bench, study, asked.edit, asked.plan, progress)
        progress("Finding words to blur", 0, 0)
        rude_words.find_rude_words(
            words
            for outcome in found.prompts
            for each in outcome.comparisons
            for words in (each.prompt, each.before.text, each.after.text)
        )
        return found

    jobs.start_job(KIND, asked, work)


def settle_evaluations() -> Mapping[Asked, Evaluation]:
    """This session's evaluations, the latest last; one that was stopped or failed leaves them in place."""
    kept = st.session_state.setdefault("evaluations", {})
    job = jobs.find_job(KIND)
    if job is not None and job.snapshot.state == "done":
        kept.pop(job.key, None)
        kept[job.key] = job.snapshot.result
        while len(kept) > EVALUATIONS_KEPT:
            kept.pop(next(iter(kept)))
        jobs.forget_job(KIND)
    return kept


def find_evaluation(asked: Asked, kept: Mapping[Asked, Evaluation]) -> Asked | None:
    """The evaluation of just this, else the latest of the same edit, else the latest of the same study, else None."""
    of_study = [other for other in kept if (other.study, other.made) == (asked.study, asked.made)]
    of_edit = [other for other in of_study if other.edit == asked.edit]
    return asked if asked in kept else next(iter([*of_edit[-1:], *of_study[-1:]]), None)
