"""What labs found on a study: where it comes from, and whether it is of this very model and these pairs.

A record can be a stranger's file: whoever judges or draws one does so inside `reading`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from detox_engine.data.bundled import find_claims
from detox_engine.errors import InputError
from detox_engine.lab.kept import find_file, load_record
from pages.claims.work import LAB, Asked, find_folder
from ui.session.kept import Kept
from ui.session.view import Fitted

if TYPE_CHECKING:
    from detox_engine.study.study import Study

R = TypeVar("R")
Source = Literal["here", "shipped", "running"]
NONSENSE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What comes of a record that holds something else than a lab writes."""


@dataclass(frozen=True, eq=False)
class Found:
    """A record, and where it comes from."""

    record: Mapping[str, Any]
    source: Source


_READ: Kept[tuple[Path, str, Source, int, int], Found] = Kept(16)
"""Those that were read, by their file, and when and how it was last written."""


def find_record(fitted: Fitted, study: Study, lab: str, asked: Asked | str) -> Found | None:
    """What a lab that runs has come to so far, else what was found here, else what was shipped.

    What a run that was stopped leaves stands in for a record where there is none.
    """
    job = LAB.job(asked) if isinstance(asked, Asked) else None
    mine = job is not None and job.key.fitted == fitted
    so_far = LAB.find(job.key) if mine else None
    if so_far is not None and job.running:
        return Found(so_far, "running")
    folders: list[tuple[Source, Path | None]] = [
        ("here", find_folder(fitted, study)),
        ("shipped", find_claims(fitted.study.model.name)),
    ]
    for source, folder in folders:
        found = None if folder is None else _load(folder, lab, source)
        if found is not None and is_of(found.record, study):
            return found
    return None if so_far is None else Found(so_far, "running")


def is_of(record: Mapping[str, Any], study: Study) -> bool:
    """Whether a record is of this study's weights and pairs; early records say nothing of their pairs."""
    model = record.get("model")
    weights = model.get("weights_hash") if isinstance(model, Mapping) else None
    return weights == study.model.weights_hash and record.get("pairs_hash", study.pairs_hash) == study.pairs_hash


def _load(folder: Path, lab: str, source: Source) -> Found | None:
    """The record of a lab, the same as long as its file is."""
    try:
        file = find_file(folder, lab).stat()
        key = (folder, lab, source, file.st_mtime_ns, file.st_size)
        found = _READ.find(key)
        if found is None:
            record = load_record(folder, lab)
            found = None if record is None else _READ.keep(key, Found(record, source))
        return found
    except (InputError, OSError):
        return None


def reading(read: Callable[[], R]) -> R | None:
    """What `read` makes of a record; None where the record is no such one."""
    try:
        return read()
    except NONSENSE:
        return None


def real(value: Any) -> float:
    """A number of a record."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("A record holds something else than a number.")
    return float(value)


def words(value: Any) -> str:
    """A short text of a record."""
    if not isinstance(value, str):
        raise TypeError("A record holds something else than words.")
    return value[:300]


def cell(value: Any) -> Any:
    """What a table shows of a record: a number, a word, yes or no, or nothing."""
    if value is None or isinstance(value, bool):
        return value
    return words(value) if isinstance(value, str) else real(value)
