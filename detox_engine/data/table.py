"""Rows as a file or a data set gives them, one at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detox_engine.errors import InputError


@dataclass(frozen=True)
class Row:
    """One row: its cells, or the fault that leaves it without any."""

    number: int
    """Line of a text file (the first, where a CSV row spans several), else row, from 1."""
    cells: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    detail: str = ""
    """What exactly is wrong, for the message when no row can be read."""
    done: int = 0
    """How far the source has been read, of `Table.total`."""


@dataclass(frozen=True)
class Table:
    """A source whose columns are known and whose rows are still to be read."""

    shown: str
    columns: tuple[str, ...]
    unit: str
    """What `Row.number` counts: line or row."""
    total: int
    read: Callable[[Sequence[str]], Iterator[Row]]
    """Starts anew at each call; the argument names the columns that are needed."""
    partial: Callable[[int], bool] = lambda rows: False
    """Whether a source that gave this many rows may hold more."""


class Lines:
    """The lines of a UTF-8 file, with or without a byte order mark, and how far it has been read."""

    def __init__(self, path: Path, shown: str) -> None:
        self.path, self.shown = path, shown
        self.number = self.done = 0

    def __iter__(self) -> Iterator[str]:
        with self.path.open("rb") as file:
            for self.number, raw in enumerate(file, start=1):
                self.done += len(raw)
                try:
                    yield raw.decode("utf-8-sig" if self.number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise InputError(
                        f"{self.shown}, line {self.number}: byte {error.start + 1} is not UTF-8 text; "
                        "save the file as UTF-8."
                    ) from None


def find_file(source: str) -> Path:
    """The file a person named.

    Raises:
        InputError: there is no such file, it is a folder, it cannot be opened, or it holds nothing.
    """
    try:
        path = Path(source).expanduser()
        if path.is_dir():
            raise InputError(f"{source} is a folder: name one file in it.")
        if not path.is_file():
            raise InputError(
                f"There is no file {source}: check its name and folder; a data set on the Hub is written owner/name."
            )
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{source} is empty: give a file with at least two rows.")
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{source} cannot be opened ({reason}): check its name and permissions.") from None
    return path
