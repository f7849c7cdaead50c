"""The studies that are kept on this machine: which there are, what each came to, its name, and its end."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detox_engine.disk import read_record, write_whole
from detox_engine.errors import InputError
from ui.session import kept_results
from ui.session.folders import cache_folder
from ui.session.kept_results import LONGEST_NAME
from ui.session.links import read_link, write_link
from ui.session.view import StudyKey, View
from ui.words.verdicts import tell_suggestion

if TYPE_CHECKING:
    from detox_engine.study.study import Study

FORMAT = 1
ENTRY = "entry.json"
LARGEST = 100_000
"""Bytes of an entry."""
NAMED = ("model", "pairs", "device", "dtype", "device_map")
"""Parts of a link that a title says already, or that change nothing of what is found."""


@dataclass(frozen=True)
class Entry:
    """A kept study, as a list shows it before it is read."""

    folder: Path
    key: StudyKey
    made: str
    """When it was fitted, in ISO 8601, UTC."""
    pairs: int
    layers: int
    hidden: int
    told: str
    """What its pairs or its suggestion came to, in a few words."""
    results: Path
    """The folder with what was found with it."""
    fitted_with: str = ""
    """What of the fit is not as usual, as a link says it."""
    name: str = ""
    """What a person calls it; empty where nobody gave it a name."""

    @property
    def title(self) -> str:
        more = f", {self.fitted_with}" if self.fitted_with else ""
        return self.name or " × ".join(self.key.names) + more

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())

    @property
    def results_kept(self) -> int:
        return sum(1 for _ in self.results.glob("*/*.json"))


def find_name(folder: Path) -> str:
    """What a person calls the study in `folder`; empty where nobody gave it a name, or there is none."""
    return str((_read_record(folder) or {}).get("name", ""))[:LONGEST_NAME]


def keep_entry(folder: Path, key: StudyKey, study: Study, name: str = "") -> None:
    """Write the entry of the study that is kept in `folder`.

    A study that no link can name, such as one of a file that is neither model nor upload, gets none.
    """
    link = write_link(View().move_to(key))
    with suppress(InputError):
        if read_link(link).study_key == key:
            record = {
                "format": FORMAT,
                "link": link,
                "made": study.made,
                "pairs": study.pair_count,
                "layers": study.layers,
                "hidden": study.model.hidden,
                "told": study.verdict or tell_suggestion(study),
                "results": kept_results.find_folder(study).name,
                "name": name,
            }
            write_whole(folder / ENTRY, json.dumps(record, ensure_ascii=False))


def list_entries(room: str) -> list[Entry]:
    """The studies in a folder of what is kept, the latest first; what cannot be read is left out.

    So are those of folders and files of a server on which a visitor may name none.
    """
    try:
        folders = [folder for folder in (cache_folder() / room).iterdir() if (folder / ENTRY).is_file()]
    except OSError:
        return []
    entries = [entry for entry in map(_read, folders) if entry is not None]
    return sorted(entries, key=lambda entry: entry.made, reverse=True)


def name_entry(entry: Entry, name: str) -> None:
    """Give a study a name; an empty one takes it away.

    Raises:
        InputError: it is gone, or cannot be written.
    """
    record = _read_record(entry.folder)
    try:
        if record is None:
            raise OSError
        record["name"] = kept_results.tidy_name(name)
        write_whole(entry.folder / ENTRY, json.dumps(record, ensure_ascii=False))
    except OSError:
        raise InputError("The name could not be kept: the study is gone, or the disk takes nothing.") from None


def delete_entry(entry: Entry, room: str) -> None:
    """Take a study from the disk, and what was found with it where no other kept study has found it too.

    Raises:
        InputError: it cannot be taken away.
    """
    others = {other.results for other in list_entries(room) if other.folder != entry.folder}
    try:
        # Without its entry it is none, even where the rest cannot be taken away.
        (entry.folder / ENTRY).unlink(missing_ok=True)
        shutil.rmtree(entry.folder)
        if entry.results not in others:
            shutil.rmtree(entry.results, ignore_errors=True)
    except OSError as error:
        raise InputError(f"The study could not be deleted whole ({error.strerror}).") from None


def _read_record(folder: Path) -> dict[str, Any] | None:
    return read_record(folder / ENTRY, LARGEST, FORMAT)


def _read(folder: Path) -> Entry | None:
    record = _read_record(folder)
    try:
        link = {str(name): str(value) for name, value in record["link"].items()}
        results = Path(str(record["results"])).name
        return Entry(
            folder,
            read_link(link).study_key,
            str(record["made"]),
            *(int(record[name]) for name in ("pairs", "layers", "hidden")),
            str(record["told"]),
            cache_folder() / kept_results.ROOM / results,
            ", ".join(f"{name} {value}" for name, value in link.items() if name not in NAMED)[:LONGEST_NAME],
            str(record["name"])[:LONGEST_NAME],
        )
    except (InputError, LookupError, TypeError, ValueError, AttributeError):
        return None
