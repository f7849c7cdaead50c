"""Rows out of files and Hub data sets, one at a time: nothing here holds more than a batch of them.

What is read stays text: nothing is evaluated, unpickled or run.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from detox_engine.data.table import Lines, Row, Table
from detox_engine.errors import InputError

JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
PEEKED_ROWS = 100
STREAMED_ROWS = 20_000
BATCH_ROWS = 16
"""Rows of Parquet that are unpacked at a time: a file of a few bytes can hold a long text a thousand times."""


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


def open_json_lines(path: Path, shown: str) -> Table:
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


def open_csv(path: Path, shown: str) -> Table:
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


def open_parquet(path: Path, shown: str) -> Table:
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
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(needed)):
                for cells in batch.to_pylist():
                    number += 1
                    yield Row(number, cells, done=number)
        except UnicodeDecodeError:
            raise InputError(f"{shown}: a cell after row {number} is not UTF-8 text; write the file again.") from None
        except (pyarrow.ArrowException, OSError):
            raise InputError(f"{shown} is damaged after row {number}: write it again.") from None

    return Table(shown, columns, "row", total, read)


def _check_names(shown: str, names: Sequence[str]) -> tuple[str, ...]:
    twice = next((name for name, count in Counter(names).items() if name and count > 1), None)
    if twice is not None:
        raise InputError(f"{shown} has two columns named “{twice}”: rename one of them.")
    return tuple(names)


READERS: Mapping[str, Callable[[Path, str], Table]] = {
    **dict.fromkeys(JSON_ENDINGS, open_json_lines),
    **dict.fromkeys((".csv", ".tsv"), open_csv),
    **dict.fromkeys((".parquet", ".pq"), open_parquet),
}
"""A file's ending, in small letters -> what opens it, from its path and the name that messages call it by."""
