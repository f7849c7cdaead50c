"""Rows out of files and Hub data sets, one at a time: nothing here holds more than a batch of them.

What is read stays text: nothing is evaluated, unpickled or run.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from detox_engine.errors import InputError
from detox_engine.specs import PairSpec

JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
CSV_ENDINGS = (".csv", ".tsv")
PARQUET_ENDINGS = (".parquet", ".pq")
PEEKED_ROWS = 100
STREAMED_ROWS = 20_000


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


def open_table(spec: PairSpec) -> Table:
    """The table that `spec` names: a file by its ending, else a data set on the Hub.

    Raises:
        InputError: it cannot be read as a table; the message names the file and the line.
    """
    if names_hub(spec.source):
        from detox_engine.hub_rows import open_hub  # the datasets library takes seconds to import

        return open_hub(spec)
    path = find_file(spec.source)
    ending = path.suffix.lower()
    if ending in JSON_ENDINGS:
        return _open_json_lines(path, spec.source)
    if ending in CSV_ENDINGS:
        return _open_csv(path, spec.source)
    if ending in PARQUET_ENDINGS:
        return _open_parquet(path, spec.source)
    ends = f"ends in “{ending}”" if ending else "has no file ending"
    raise InputError(f"{spec.source} {ends}: pairs are read from .jsonl, .csv, .tsv or .parquet files.")


def names_hub(source: str) -> bool:
    """Whether `source` is an `owner/name` of the Hub rather than a path on this machine."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", source):
        return False
    path = Path(source)
    endings = (*JSON_ENDINGS, *CSV_ENDINGS, *PARQUET_ENDINGS, ".txt", ".gz", ".zip", ".xlsx")
    return not path.parent.exists() and path.suffix.lower() not in endings


def read_json_lines(lines: Lines) -> Iterator[Row]:
    """The objects of a JSONL file; blank lines are no rows, broken ones are rows with a fault."""
    for text in lines:
        if not text.strip():
            continue
        try:
            cells = json.loads(text)
        except json.JSONDecodeError as error:
            yield Row(lines.number, {}, "broken JSON", f"{error.msg} at column {error.colno}", lines.done)
        except (ValueError, RecursionError) as error:
            yield Row(lines.number, {}, "broken JSON", f"{error}", lines.done)
        else:
            if isinstance(cells, dict):
                yield Row(lines.number, cells, done=lines.done)
            else:
                kind = "an array" if isinstance(cells, list) else "a single value"
                yield Row(lines.number, {}, "no JSON object", f"{kind} instead of an object", lines.done)


def _open_json_lines(path: Path, shown: str) -> Table:
    # a single record may lack an optional column, so the first few name the columns together
    first, columns = None, {}
    readable = 0
    for row in read_json_lines(Lines(path, shown)):
        first = first or row
        columns.update(dict.fromkeys(row.cells))
        readable += not row.fault
        if readable == PEEKED_ROWS:
            break
    if first is None:
        raise InputError(f"{shown} is empty: give a file with at least two rows.")
    if not readable:
        raise InputError(
            f"{shown}, line {first.number}: {first.fault} ({first.detail}), and no other line can be read; "
            'each line must be one object such as {"toxic": "…", "civil": "…"}.'
        )
    size = path.stat().st_size
    return Table(shown, tuple(columns), "line", size, lambda _: read_json_lines(Lines(path, shown)))


def _open_csv(path: Path, shown: str) -> Table:
    header = next((text for text in Lines(path, shown) if text.strip()), None)
    if header is None:
        raise InputError(f"{shown} is empty: give a file with a header and at least two rows.")
    try:
        # the header alone, because prose is full of commas and semicolons that mislead the sniffer
        delimiter = csv.Sniffer().sniff(header, delimiters=",;\t|").delimiter
    except csv.Error:
        delimiter = ","
    names = next(_read_records(path, shown, delimiter))
    if names.fault:
        raise InputError(
            f"{shown}, line {names.number}: the header cannot be read ({names.detail}); name the columns there."
        )
    columns = _check_names(shown, [name.strip() for name in names.cells.values()])
    size = path.stat().st_size
    return Table(shown, columns, "line", size, lambda _: _read_csv(path, shown, delimiter, columns))


def _read_records(path: Path, shown: str, delimiter: str) -> Iterator[Row]:
    """Every CSV record that is not blank, as cells by position.

    Strict, so that a quote that never closes is noticed; what it swallows ends at the library's limit of
    131,072 characters a cell, or with the file.
    """
    lines = Lines(path, shown)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            yield Row(number, {}, "broken quotes or too long a cell", str(error), lines.done)
            continue
        if record is None:
            return
        if any(record):
            yield Row(number, dict(enumerate(record)), done=lines.done)


def _read_csv(path: Path, shown: str, delimiter: str, columns: tuple[str, ...]) -> Iterator[Row]:
    for row in islice(_read_records(path, shown, delimiter), 1, None):
        if row.fault:
            yield row
        elif len(row.cells) > len(columns):
            yield Row(row.number, {}, "more cells than columns", "quote what holds a delimiter", row.done)
        else:
            yield Row(row.number, dict(zip(columns, row.cells.values(), strict=False)), done=row.done)


def _open_parquet(path: Path, shown: str) -> Table:
    import pyarrow  # slow to import, and needed by this format alone
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError):
        raise InputError(f"{shown} is no Parquet file, or a damaged one: write it again.") from None
    total = file.metadata.num_rows
    columns = _check_names(shown, file.schema_arrow.names)

    def read(needed: Sequence[str]) -> Iterator[Row]:
        number = 0
        try:
            for batch in file.iter_batches(batch_size=1024, columns=list(needed)):
                for cells in batch.to_pylist():
                    number += 1
                    yield Row(number, cells, done=number)
        except UnicodeDecodeError:
            raise InputError(
                f"{shown}: a cell after row {number} is not UTF-8 text; write the file again."
            ) from None
        except (pyarrow.ArrowException, OSError):
            raise InputError(f"{shown} is damaged after row {number}: write it again.") from None

    return Table(shown, columns, "row", total, read)


def _check_names(shown: str, names: Sequence[str]) -> tuple[str, ...]:
    twice = next((name for name, count in Counter(names).items() if name and count > 1), None)
    if twice is not None:
        raise InputError(f"{shown} has two columns named “{twice}”: rename one of them.")
    return tuple(names)
