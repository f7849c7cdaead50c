"""The adapter of an edit, made and held against what it claims to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from detox_engine.disk import scratch_folder
from detox_engine.plans.edit import EditPlan, ExportForm
from ui.session.view import Fitted
from ui.show.downloads import Table, zip_folder
from ui.work.evaluation import EVALUATION
from ui.work.sweep import SWEEP
from ui.work.tasks import Task, Tell

if TYPE_CHECKING:
    from detox_engine.edit.in_weights import LayerChange
    from detox_engine.errors import Progress
    from detox_engine.export.take_away import Claim
    from detox_engine.scoring.evaluation import Evaluation
    from detox_engine.scoring.sweep import Sweep
    from detox_engine.study.study import Study
    from detox_engine.workbench import Workbench

NAME = "detox_adapter"


@dataclass(frozen=True)
class Asked:
    """Which edit of which study, and as which of the forms that pass through a browser."""

    fitted: Fitted
    edit: EditPlan
    form: ExportForm


@dataclass(frozen=True)
class AskedToPlan:
    """What which edit of which study would change."""

    fitted: Fitted
    edit: EditPlan


@dataclass(frozen=True, eq=False)
class Planned:
    """What an edit changes in the weights, and how large what is written of it will be."""

    changes: tuple[LayerChange, ...]
    adapter: int
    """Bytes of the factors of an adapter, which are nearly all of it."""
    model: int
    """Bytes of a whole model."""


def plan(bench: Workbench, study: Study, asked: AskedToPlan, progress: Progress, tell: Tell) -> Planned:
    from detox_engine.edit.in_weights import list_written, measure_edit

    edit, anatomy = bench.edit(study, asked.edit), bench.model.anatomy
    with bench.model.turns:
        changes = measure_edit(anatomy, edit)
    # Two factors in float32, as long as a side of the matrix each; of a mixture so many for each expert.
    sides = [
        each.experts * (each.inner + written.hidden)
        for _, written in list_written(anatomy, edit)
        for each in written.tensors
    ]
    return Planned(
        changes, 4 * asked.edit.rank * sum(sides), sum(each.nbytes for each in bench.model.network.parameters())
    )


CHANGES = Task("changes", plan, keep=8, title="The weights' changes")


@dataclass(frozen=True, eq=False)
class Taken:
    """The folder that was written, as one file, and what is to be said of it."""

    content: bytes
    """A ZIP of the folder."""
    sizes: Mapping[str, int]
    """Name of each file -> bytes."""
    changes: tuple[LayerChange, ...]
    claims: tuple[Claim, ...]
    warnings: tuple[str, ...]


def answer(bench: Workbench, study: Study, asked: Asked, progress: Progress, tell: Tell) -> Taken:
    from detox_engine.export.receipt import read_receipt

    with scratch_folder() as place:
        written = bench.export(study, asked.edit, place / NAME, asked.form, progress)
        claims = bench.verify(written.folder, progress)
        content = zip_folder(written.folder, NAME)
        return Taken(content, written.sizes, read_receipt(written.folder).changes, claims, written.warnings)


ADAPTER = Task("adapter", answer, keep=2, private=True)


@dataclass(frozen=True)
class AskedToTell:
    """A report of which edit of which study, with what this session has measured of it."""

    fitted: Fitted
    edit: EditPlan
    evaluation: Evaluation | None = field(default=None, hash=False, compare=False)
    sweep: Sweep | None = field(default=None, hash=False, compare=False)
    measured: tuple[str, ...] = ()
    """When what was measured was: what tells reports of the same edit apart."""


def ask_to_tell(study: Study, fitted: Fitted, edit: EditPlan) -> AskedToTell:
    """The report with the latest evaluation of just this edit, and the latest sweep of this study."""
    evaluations = [each.found for each in EVALUATION.results(study, fitted) if each.asked.edit == edit]
    sweeps = [each.found for each in SWEEP.results(study, fitted)]
    evaluation, sweep = (found[-1] if found else None for found in (evaluations, sweeps))
    made = "" if evaluation is None else evaluation.made
    return AskedToTell(fitted, edit, evaluation, sweep, (made, str(0 if sweep is None else len(sweep.points))))


def draw_report(bench: Workbench, study: Study, asked: AskedToTell, progress: Progress, tell: Tell) -> str:
    from detox_engine.export.report import STAGE, read_for_report
    from detox_engine.export.take_away import name_base
    from detox_engine.scoring.records import read_evaluation, record_evaluation
    from pages.report import document
    from pages.report.told import Shown, read_readings

    readings = read_readings(read_for_report(bench.model, study, asked.edit, progress))
    evaluation = None if asked.evaluation is None else read_evaluation(record_evaluation(asked.evaluation))
    points = () if asked.sweep is None else asked.sweep.points
    progress(STAGE, 0, 0)
    shown = Shown(asked.edit, name_base(bench.model).name, readings, evaluation, points)
    return document.draw_report(study, shown)


REPORT = Task("report", draw_report, keep=2, private=True)


def list_changes(taken: Taken | Planned) -> Table:
    """A row for each weight matrix, in shares of its norm."""
    heads = ("layer", "site", "change", "along_before", "along_after")
    return heads, [tuple(getattr(change, head) for head in heads) for change in taken.changes]
