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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


Record = TypeVar("Record")

PARTIAL = ".detox-partial-"
"""What every unfinished file and folder is called; its writer holds a lock on it until it is done."""


def write_whole(file: Path, content: str | bytes) -> None:
    """Write `content` beside `file` and rename it when whole; text as UTF-8.

    Raises:
        OSError: it cannot be written, and names `file`; what was there before stays as it is.
    """
    if file.exists() and not file.is_file():
        raise OSError(errno.EINVAL, "it is no regular file", str(file))
    with _named(file), _unfinished(file.parent, _make_file) as partial:
        with partial.open("wb") as out:
            out.write(content.encode() if isinstance(content, str) else content)
        partial.chmod(0o644)
        partial.replace(file)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill beside `folder`, which it becomes at the end; if that is not reached, nothing is left of it.

    Raises:
        OSError: it cannot be written, or `folder` is there already and holds something.
    """
    with _named(folder), _unfinished(folder.parent, _make_folder) as partial:
        yield partial
        # As any file that a person writes; a temporary folder and safetensors keep theirs to their owner.
        for path in partial.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        partial.chmod(0o755)
        partial.rename(folder)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder among the system's temporary ones, gone at the end."""
    with _unfinished(Path(tempfile.gettempdir()), _make_folder) as folder:
        yield folder


@contextmanager
def _named(place: Path) -> Iterator[None]:
    """What cannot be written is told of `place`: of a full disk the system says not where."""
    try:
        yield
    except OSError as error:
        if error.strerror is None or (error.filename is not None and PARTIAL not in str(error.filename)):
            raise
        raise OSError(error.errno, error.strerror, str(place)) from error


def _make_file(place: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=PARTIAL, dir=place)
    os.close(handle)
    return Path(name)


def _make_folder(place: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=PARTIAL, dir=place))


@contextmanager
def _unfinished(place: Path, make: Callable[[Path], Path]) -> Iterator[Path]:
    """A new file or folder in `place` under a lock, which is gone at the end unless it was renamed.

    What others left there, who were killed, is taken away first: nobody holds its lock.
    """
    clear_leftovers(place)
    while True:
        path = make(place)
        lock = _lock(path)
        # Somebody who took it for a leftover in the moment before the lock has taken it away.
        if path.exists():
            break
        _unlock(lock)
    try:
        yield path
    finally:
        _remove(path)
        _unlock(lock)


def clear_leftovers(place: Path) -> None:
    """Take away what was being written in `place` by whoever was killed meanwhile."""
    with suppress(OSError):
        for entry in os.scandir(place):
            if entry.name.startswith(PARTIAL):
                lock = _lock(Path(entry.path))
                if lock is not None:
                    _remove(Path(entry.path))
                    _unlock(lock)


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock of a file or folder until it is closed; None where another process has it.

    Where the system has no such locks, nobody's work is taken for a leftover.
    """
    if fcntl is None:
        return None
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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


def read_record(file: Path, largest: int, format: int) -> dict[str, Any] | None:
    """The JSON object of a file that may be anybody's; None where there is none of this format.

    Args:
        largest: bytes that are read at most.
    """
    try:
        if file.stat().st_size > largest:
            return None
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and record.get("format") == format else None


def without_nan(value: Any) -> Any:
    """The value with None for NaN and infinity."""
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_as(kind: type[Record], record: Any) -> Record:
    """What JSON says, as the dataclass `kind`, with every field of its type and none that it does not know.

    Raises:
        ValueError: names the first field that is not so.
    """
    from pydantic import TypeAdapter, ValidationError

    known = {each.name for each in fields(kind)}
    if not isinstance(record, dict) or not record.keys() <= known:
        other = sorted(map(str, record.keys() - known))[0] if isinstance(record, dict) else "no record"
        raise ValueError(f"{other[:80]} is nothing that belongs there")
    try:
        return TypeAdapter(kind).validate_json(json.dumps(record), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))[:80]}: {first['msg'][:200].lower()}") from None
