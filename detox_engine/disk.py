"""Files and folders that are written whole or not at all, and records and tables that every program reads."""

import csv
import errno
import hashlib
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_whole(file: Path, content: str | bytes) -> None:
    """Write `content` beside `file` and rename it when whole; text as UTF-8.

    Raises:
        OSError: it cannot be written; what was there before stays as it is.
    """
    if file.exists() and not file.is_file():
        raise OSError(errno.EINVAL, "it is no regular file", str(file))
    handle, name = tempfile.mkstemp(prefix=".partial-", dir=file.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content.encode() if isinstance(content, str) else content)
        partial.chmod(0o644)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill beside `folder`, which it becomes at the end; if that is not reached, nothing is left of it.

    Raises:
        OSError: it cannot be written, or `folder` is there already and holds something.
    """
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
    try:
        yield partial
        # As any file that a person writes; a temporary folder and safetensors keep theirs to their owner.
        for path in partial.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        partial.chmod(0o755)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def hash_file(file: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def write_csv(heads: Sequence[str], rows: Iterable[Sequence[Any]], raw: bool = False) -> str:
    """A table as comma-separated values; None is an empty cell.

    A text that a spreadsheet would take for a formula gets an apostrophe before it, unless it is wanted `raw`.
    """
    # The writer quotes a carriage return only where lines end with one; ours do not.
    line, lines = io.StringIO(), []
    writer = csv.writer(line, lineterminator="\r\n")
    for row in ([*heads], *rows):
        line.seek(line.truncate(0))
        writer.writerow(row if raw else [_defuse(cell) for cell in row])
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def _defuse(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULAS) else cell


def write_json(record: Any) -> str:
    """A record as JSON, with null for NaN and infinity, which JSON has no word for."""
    return json.dumps(without_nan(record), ensure_ascii=False, allow_nan=False, indent=2)


def without_nan(value: Any) -> Any:
    """The value with None for NaN and infinity."""
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
