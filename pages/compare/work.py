"""What a model is asked to write, and the worker that writes it before and after an edit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from detox_engine.plans.edit import EditPlan
from detox_engine.plans.measure import SamplingPlan
from detox_engine.scoring.records import record_comparisons, record_plans, record_results
from ui.session import shelf as cache
from ui.session.view import StudyKey
from ui.show.downloads import Table
from ui.words import rude_words
from ui.work import jobs

if TYPE_CHECKING:
    from detox_engine.forward.compare import Comparison
    from detox_engine.study.study import ModelIdentity

KIND = "writing"


@dataclass(frozen=True)
class Request:
    """What a comparison answers."""

    study: StudyKey
    made: str
    """Tells a study from an earlier one with the same specs."""
    edit: EditPlan
    prompts: tuple[str, ...]
    sampling: SamplingPlan


@dataclass(frozen=True)
class Written:
    """A request and what came of it."""

    request: Request
    model: ModelIdentity
    comparisons: tuple[Comparison, ...]


def begin_writing(request: Request) -> None:
    """Write before and after in a worker; `settle_writing` takes over what comes of it."""
    shelf = cache.shelf()

    def work(progress):
        study = shelf.fit(request.study, progress)
        workbench = shelf.workbench(request.study.model, progress)
        found = workbench.compare(study, request.edit, request.prompts, request.sampling, progress)
        sides = [side.text for comparison in found for side in (comparison.before, comparison.after)]
        rude_words.find_rude_words([*request.prompts, *sides])
        return Written(request, study.model, found)

    jobs.start_job(KIND, request, work)


def settle_writing() -> Written | None:
    """The latest finished comparison of this session; a run that was stopped or failed leaves it in place."""
    job = jobs.find_job(KIND)
    if job is not None and job.snapshot.state == "done":
        st.session_state.written = job.snapshot.result
        st.session_state.pop("written_shown", None)
        jobs.forget_job(KIND)
    return st.session_state.get("written")


def record_written(written: Written) -> dict[str, Any]:
    """What was written as one document, with the model, the edit and the sampling."""
    model, request = written.model, written.request
    source = {"model": {"name": model.name, "revision": model.revision, "weights_hash": model.weights_hash}}
    return source | record_comparisons(written.comparisons, request.edit, request.sampling)


def list_written(written: Written) -> Table:
    """A row for each continuation; the model, the edit and the sampling stand in each, so that files can be joined."""
    plans = record_plans(written.request.edit, written.request.sampling)
    shared = {"model": written.model.name} | {
        f"{plan}_{name}": json.dumps(value) if isinstance(value, list) else value
        for plan, options in plans.items()
        for name, value in options.items()
    }
    rows = [result | shared for result in record_results(written.comparisons)]
    return tuple(rows[0]), [tuple(row.values()) for row in rows]
