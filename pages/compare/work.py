"""What a model writes before and after an edit: the work, and its result as a document and as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from detox_engine.plans.edit import EditPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.scoring.records import (
    estimate_change,
    estimate_fluency,
    find_broken,
    record_comparisons,
    record_plans,
    record_results,
)
from ui.session.kept_results import KeptResult, Shape
from ui.session.view import Fitted
from ui.show.downloads import Table
from ui.work.tasks import Task, Tell

if TYPE_CHECKING:
    from detox_engine.errors import Progress
    from detox_engine.estimates import Effect
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

    @cached_property
    def broken(self) -> list[tuple[str, str]]:
        """Why the sides of each comparison are broken; see `find_broken`."""
        return find_broken(self.comparisons)

    @cached_property
    def toxicity(self) -> Effect:
        return estimate_change(self.comparisons)

    @cached_property
    def fluency(self) -> Effect:
        """Perplexity under the unedited model."""
        return estimate_fluency(self.comparisons)

    def count_broken(self) -> tuple[int, int]:
        """Continuations that are broken before and after."""
        before, after = (sum(bool(both[side]) for both in self.broken) for side in (0, 1))
        return before, after

    @property
    def whole(self) -> bool:
        return len(self.comparisons) == len(self.asked.prompts) * self.asked.sampling.samples


AT_ONCE = 128
"""Continuations of one side that are written before they are shown. 300 of the bundled model take as long so as all at
once; with half as many a fifth longer."""


def answer(bench: Workbench, study: Study, asked: Asked, progress: Progress, tell: Tell) -> tuple[Comparison, ...]:
    """Every prompt before and after, told a few prompts at a time: a text does not depend on what else is written."""
    written: list[Comparison] = []
    count, several = len(asked.prompts), max(1, AT_ONCE // asked.sampling.samples)
    for start in range(0, count, several):
        prompts = asked.prompts[start : start + several]

        def go_on(stage: str, done: int, total: int, begun: int = start) -> None:
            progress(stage, begun + done, count)

        written += bench.compare(study, asked.edit, prompts, asked.sampling, go_on)
        if start + several < count:
            tell(tuple(written))
    return tuple(written)


def words_of(comparisons: tuple[Comparison, ...]) -> Iterator[str]:
    for each in comparisons:
        yield from each.texts


def find_shape() -> type:
    from detox_engine.forward.compare import Comparison

    return tuple[Comparison, ...]


WRITING = Task("writing", answer, keep=4, words=words_of, shape=Shape("comparisons", Asked, find_shape))


def write_down(result: KeptResult[Asked, tuple[Comparison, ...]], study: Study) -> Written:
    return Written(result.asked, study.model, result.found)


def hold_together(first: Sequence[Comparison], second: Sequence[Comparison]) -> list[Comparison]:
    """What two edits made of the same prompts and samples, the first on the one side and the second on the other."""
    others = {(one.prompt, one.sample): one for one in second}
    pairs = [(one, others[one.prompt, one.sample]) for one in first if (one.prompt, one.sample) in others]
    return [
        replace(
            one,
            # What the other side made of a token was read against the unedited model.
            before=replace(one.after, other_probabilities=()),
            after=replace(other.after, other_probabilities=()),
            toxicity_before=one.toxicity_after,
            toxicity_after=other.toxicity_after,
        )
        for one, other in pairs
    ]


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
