"""What people write down about directions, kept in a study's folder."""

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from detox_engine.errors import InputError

FILE = "notes.json"
LONGEST = 10_000
"""Characters of a note."""

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
    """The notes of a study, by layer and direction; none where nobody wrote any.

    Raises:
        InputError: the folder is no study, or its notes cannot be read.
    """
    _require_study(folder)
    file = folder / FILE
    try:
        notes = [Note(**record) for record in json.loads(file.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError):
        raise InputError(f"The notes in {file} cannot be read: mend the file, or move it away.") from None
    return tuple(sorted(notes, key=lambda note: (note.layer, note.direction)))


def write_note(folder: Path, layer: int, direction: int, text: str) -> tuple[Note, ...]:
    """Keep `text` about a direction, in place of an earlier one; an empty text takes the note away. Returns all notes.

    The file is replaced as a whole, so that it is never half-written; writers of one process take turns.

    Raises:
        InputError: the folder is no study or cannot be written, the study has no such layer, or the text is too long.
    """
    layers = _require_study(folder)
    if not 0 <= layer < layers:
        raise InputError(f"Layer {layer} is outside the model: its layers are 0-{layers - 1}.")
    if direction < 0:
        raise InputError(f"Directions count from 0: there is no direction {direction}.")
    if len(text) > LONGEST:
        raise InputError(f"A note has at most {LONGEST:,} characters, and this one {len(text):,}: shorten it.")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InputError("The note is not UTF-8: it holds half of a character; write it again.")
    with _turn:
        others = [note for note in read_notes(folder) if (note.layer, note.direction) != (layer, direction)]
        if text.strip():
            others.append(Note(layer, direction, text, datetime.now(UTC).isoformat(timespec="seconds")))
        notes = tuple(sorted(others, key=lambda note: (note.layer, note.direction)))
        _replace(folder / FILE, json.dumps([asdict(note) for note in notes], indent=2, ensure_ascii=False))
    return notes


def _replace(file: Path, text: str) -> None:
    try:
        handle, partial = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(text)
            Path(partial).chmod(0o644)
            Path(partial).replace(file)
        finally:
            Path(partial).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}.") from None


def _require_study(folder: Path) -> int:
    """How many layers the study in `folder` has."""
    try:
        return int(json.loads((folder / "study.json").read_text(encoding="utf-8"))["model"]["layers"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{folder} is no study: notes are kept in the folder that “detox fit” wrote.") from None
