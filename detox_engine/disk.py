"""Files and folders that are written whole or not at all, and records as JSON that every program reads."""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_whole(file: Path, content: str | bytes) -> None:
    """Write `content` beside `file` and rename it when whole; text as UTF-8.

    Raises:
        OSError: it cannot be written; what was there before stays as it is.
    """
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
