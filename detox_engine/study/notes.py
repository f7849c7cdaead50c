"""What people write down about the directions of a study, kept in a folder."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from detox_engine.data.columns import holds_half_character
from detox_engine.disk import read_as, write_whole
from detox_engine.errors import InputError

if TYPE_CHECKING:
    from detox_engine.study.study import Study

FILE = "notes.json"
LONGEST = 10_000
"""Characters of a note."""
LARGEST = 2**26
"""Bytes of the file that are read at most."""

_turn = Lock()


@dataclass(frozen=True)
class Note:
    """A text about one direction."""

    layer: int
    direction: int
    text: str
    written: str
    """When, in ISO 8601, UTC."""


def read_notes(folder: Path) -> tuple[Note, ...]:
    """The notes in `folder`, by layer and direction; none where nobody wrote any.

    Raises:
        InputError: the notes cannot be read.
    """
    file = folder / FILE
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError
        notes = [read_as(Note, record) for record in json.loads(file.read_text(encoding="utf-8"))]
        if any(min(note.layer, note.direction) < 0 or len(note.text) > LONGEST for note in notes):
            raise ValueError
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, RecursionError):
        raise InputError(f"The notes in {file} cannot be read: mend the file, or move it away.") from None
    return tuple(sorted(notes, key=lambda note: (note.layer, note.direction)))


def find_note(folder: Path, layer: int, direction: int) -> str:
    """What stands in `folder` about one direction; empty where nobody wrote anything.

    Raises:
        InputError: see `read_notes`.
    """
    return next((note.text for note in read_notes(folder) if (note.layer, note.direction) == (layer, direction)), "")


def write_note(folder: Path, study: "Study", layer: int, direction: int, text: str, seen: str | None = None) -> str:
    """Keep `text` about a direction of `study`, in place of an earlier one; an empty text takes the note away.

    The file is replaced as a whole, so that it is never half-written; writers of one process take turns. The folder
    is made where it is missing.

    Args:
        seen: what the writer believes the note says so far; where someone else has changed it meanwhile, their text
            is kept before the new one.

    Returns:
        The note as it is kept.

    Raises:
        InputError: the folder cannot be written, the study has no such direction, or the text is too long.
    """
    study.check_direction(layer, direction)
    with _turn:
        notes = {(note.layer, note.direction): note for note in read_notes(folder)}
        earlier = notes.pop((layer, direction), None)
        if seen is not None and earlier is not None and earlier.text not in (seen, text):
            text = f"{earlier.text}\n\n{text}".rstrip()
        _require_writable(text)
        if text.strip():
            notes[layer, direction] = Note(layer, direction, text, datetime.now(UTC).isoformat(timespec="seconds"))
        records = [asdict(notes[place]) for place in sorted(notes)]
        _replace(folder / FILE, json.dumps(records, indent=2, ensure_ascii=False))
    return text if text.strip() else ""


def _require_writable(text: str) -> None:
    if len(text) > LONGEST:
        raise InputError(f"A note has at most {LONGEST:,} characters, and this one {len(text):,}: shorten it.")
    if holds_half_character(text):
        raise InputError("The note is not UTF-8: it holds half of a character; write it again.")


def _replace(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}.") from None
