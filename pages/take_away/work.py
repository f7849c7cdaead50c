"""The adapter of an edit, made and held against what it claims to be."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from detox_engine.plans.edit import EditPlan, ExportForm
from ui.session.view import Fitted
from ui.show.downloads import Table
from ui.work.tasks import Task, Tell

if TYPE_CHECKING:
    from detox_engine.edit.in_weights import LayerChange
    from detox_engine.errors import Progress
    from detox_engine.export.take_away import Claim
    from detox_engine.study.study import Study
    from detox_engine.workbench import Workbench

NAME = "detox_adapter"


@dataclass(frozen=True)
class Asked:
    """Which edit of which study, and as which of the forms that pass through a browser."""

    fitted: Fitted
    edit: EditPlan
    form: ExportForm


@dataclass(frozen=True, eq=False)
class Taken:
    """The folder that was written, as one file, and what is to be said of it."""

    content: bytes
    """A ZIP of the folder."""
    sizes: Mapping[str, int]
    """Name of each file -> bytes."""
    changes: tuple[LayerChange, ...]
    claims: tuple[Claim, ...]


def answer(bench: Workbench, study: Study, asked: Asked, progress: Progress, tell: Tell) -> Taken:
    from detox_engine.export.receipt import read_receipt

    with tempfile.TemporaryDirectory() as place:
        written = bench.export(study, asked.edit, Path(place) / NAME, asked.form, progress)
        claims = bench.verify(written.folder, progress)
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in written.sizes:
                archive.write(written.folder / name, f"{NAME}/{name}")
        return Taken(content.getvalue(), written.sizes, read_receipt(written.folder).changes, claims)


ADAPTER = Task("adapter", answer, keep=2, private=True)


def list_changes(taken: Taken) -> Table:
    """A row for each weight matrix, in shares of its norm."""
    heads = ("layer", "site", "change", "along_before", "along_after")
    return heads, [tuple(getattr(change, head) for head in heads) for change in taken.changes]
