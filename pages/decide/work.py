"""The run from a model to a verdict: where it is kept, and how far it is."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from detox_engine.plans.auto import AutoPlan
from detox_engine.plans.evaluation import SweepPlan
from detox_engine.plans.option import option_of
from ui.session.folders import folder_of
from ui.session.kept import Kept
from ui.session.view import Fitted
from ui.work.evaluation import EVALUATION
from ui.work.sweep import SWEEP
from ui.work.tasks import Task, Tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from detox_engine.auto.run import Outcome
    from detox_engine.errors import Progress
    from detox_engine.plans.edit import EditPlan
    from detox_engine.scoring.evaluation import Evaluation
    from detox_engine.scoring.sweep import Sweep
    from detox_engine.study.study import Study
    from detox_engine.workbench import Workbench
    from ui.session.kept_results import KeptResult
    from ui.work.evaluation import Asked as AskedToEvaluate
    from ui.work.sweep import Asked as AskedToSweep

NAME = "detox_edit"
STRENGTHS = option_of(SweepPlan, "strengths").offers
KEPT: Kept[Path, Outcome] = Kept(4)
"""Runs that are done, as they were read from their folders."""
_turns: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)


@dataclass(frozen=True)
class Asked:
    """A run for which model and how it is fitted, by which plan."""

    fitted: Fitted
    plan: AutoPlan


def find_folder(asked: Asked, weights_hash: str) -> Path:
    """Where a run writes to: the same for the same weights and plan, however long it may take."""
    key = asked.fitted.study
    return folder_of("runs", weights_hash, key.fit, replace(asked.plan, minutes=None)) / NAME


def find_done(asked: Asked, study: Study) -> Outcome | None:
    """What a run that is done came to, in this session or in one before."""
    folder = find_folder(asked, study.model.weights_hash)
    if not folder.is_dir():
        return None
    found = KEPT.find(folder)
    if found is None:
        from detox_engine.auto.run import read_outcome

        found = read_outcome(folder)
        if found is not None:
            KEPT.keep(folder, found)
    return found


@dataclass(frozen=True)
class Measured:
    """All that was measured of edits of a study, the latest last."""

    outcome: Outcome | None
    """Of the run to a verdict."""
    evaluations: Sequence[KeptResult[AskedToEvaluate, Evaluation]]
    sweeps: Sequence[KeptResult[AskedToSweep, Sweep]]

    def find_evaluation(self, edit: EditPlan) -> KeptResult[AskedToEvaluate, Evaluation] | None:
        """The evaluation of an edit plan, or else the latest of another."""
        of_edit = [each for each in self.evaluations if each.asked.edit == edit]
        return (of_edit or list(self.evaluations) or [None])[-1]


def find_measured(asked: Asked, study: Study) -> Measured:
    """All of a study's that is kept."""
    return Measured(
        find_done(asked, study),
        [each for each in EVALUATION.results(study, asked.fitted) if each.whole],
        [each for each in SWEEP.results(study, asked.fitted) if each.found.points],
    )


def plan_strengths(edit: EditPlan) -> SweepPlan:
    """The layers and the rank of an edit at the usual strengths and at its own; each is measured as on Trade-offs."""
    strengths = tuple(sorted({*STRENGTHS, edit.strength}))
    return SweepPlan((edit.rank,), layers=edit.layers, strengths=strengths, method=edit.method, sites=edit.sites)


def is_begun(asked: Asked, study: Study) -> bool:
    """Whether an earlier run has left steps to go on from."""
    from detox_engine.auto.run import run_folder

    return run_folder(find_folder(asked, study.model.weights_hash)).is_dir()


def answer(bench: Workbench, study: Study, asked: Asked, progress: Progress, tell: Tell) -> Outcome:
    from detox_engine.auto.run import run_auto

    folder = find_folder(asked, study.model.weights_hash)
    turn = _turns[folder]
    while not turn.acquire(timeout=0.5):
        progress("Waiting for another session", 0, 0)
    try:
        key = asked.fitted.study
        return find_done(asked, study) or run_auto(
            key.model, asked.plan, folder, lambda spec, progress: bench.model, progress, tell, key.fit
        )
    finally:
        turn.release()


RUN = Task("decide", answer, keep=4, title="The run to a verdict")
