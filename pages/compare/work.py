"""What a model writes before and after an edit: the work, and its result as a document and as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from detox_engine.plans.edit import EditPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.scoring.records import record_comparisons, record_plans, record_results
from ui.session.view import Fitted
from ui.show.downloads import Table
from ui.work.tasks import Task, Tell

if TYPE_CHECKING:
    from detox_engine.errors import Progress
    from detox_engine.forward.compare import Comparison
    from detox_engine.study.study import ModelIdentity, Study
    from detox_engine.workbench import Workbench


@dataclass(frozen=True)
class Asked:
    """What is to be written, and under which edit of which study."""

    fitted: Fitted
    edit: EditPlan
    prompts: tuple[str, ...]
    sampling: SamplingPlan


@dataclass(frozen=True, eq=False)
class Written:
    """What was asked and what came of it."""

    asked: Asked
    model: ModelIdentity
    comparisons: tuple[Comparison, ...]


def answer(bench: Workbench, study: Study, asked: Asked, progress: Progress, tell: Tell) -> Written:
    found = bench.compare(study, asked.edit, asked.prompts, asked.sampling, progress)
    return Written(asked, study.model, found)


def words_of(written: Written) -> Iterator[str]:
    for each in written.comparisons:
        yield from each.texts


WRITING = Task("writing", answer, keep=1, words=words_of, private=True)


def record_written(written: Written) -> dict[str, Any]:
    """What was written as one document, with the model, the edit and the sampling."""
    model, asked = written.model, written.asked
    source = {"model": {"name": model.name, "revision": model.revision, "weights_hash": model.weights_hash}}
    return source | record_comparisons(written.comparisons, asked.edit, asked.sampling)


def list_written(written: Written) -> Table:
    """A row for each continuation; the model, the edit and the sampling stand in each, so that files can be joined."""
    plans = record_plans(written.asked.edit, written.asked.sampling)
    shared = {"model": written.model.name} | {
        f"{plan}_{name}": json.dumps(value) if isinstance(value, list) else value
        for plan, options in plans.items()
        for name, value in options.items()
    }
    rows = [result | shared for result in record_results(written.comparisons)]
    return tuple(rows[0]), [tuple(row.values()) for row in rows]
