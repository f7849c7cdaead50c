"""What labs found, kept as files beside a study, or shipped with the project for its bundled models."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detox_engine.disk import write_json, write_whole
from detox_engine.errors import InputError

LABS = ("bench", "sample-size", "label-noise", "dpo-link", "centring")
"""Every lab by the name of its command, in the order of the claims."""
ROOM = "lab"
"""The folder within a study's."""
LARGEST = 50_000_000
"""Bytes of a record."""


def find_file(study: Path, name: str) -> Path:
    """Where what the lab `name` found lies in a study's folder."""
    return study / ROOM / f"{name}.json"


def keep_record(study: Path, name: str, record: Mapping[str, Any]) -> Path:
    """Write what the lab `name` found into a study's folder, whole or not at all; the file.

    Raises:
        InputError: the folder cannot be written.
    """
    file = find_file(study, name)
    try:
        file.parent.mkdir(exist_ok=True)
        write_whole(file, write_json(record))
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error.strerror}); make room, and run the lab again.") from None
    return file


def load_record(study: Path, name: str) -> dict[str, Any] | None:
    """What the lab `name` found; None where it was not run, or where the file is no such record.

    Raises:
        InputError: the file cannot be read.
    """
    file = find_file(study, name)
    try:
        if not file.is_file() or file.stat().st_size > LARGEST:
            return None
        record = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("model"), dict) else None
