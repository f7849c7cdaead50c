"""Rows out of files and Hub data sets, one at a time: nothing here holds more than a batch of them.

What is read stays text: nothing is evaluated, unpickled or run.
"""

import csv
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from detox_engine.data.table import PACKED_ENDINGS, Lines, Row, Table, find_file
from detox_engine.errors import InputError, first_line
from detox_engine.plans.sources import is_path

JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
PEEKED_ROWS = 100
STREAMED_ROWS = 20_000
LARGEST_DOCUMENT = 2**27
"""Characters of a file that is one JSON document."""
LARGEST_WORKBOOK = 2**28
"""Bytes of a workbook once it is unpacked."""
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


def open_json(path: Path, shown: str) -> Table:
    """Objects a line, or one document: a list of objects, such a list under a key, or lists of cells by column."""
    document = _read_document(path, shown)
    return _open_json_lines(path, shown) if document is None else _open_document(document, path, shown)


def _read_document(path: Path, shown: str) -> list[Any] | None:
    """The rows of a file that is one JSON document; None where it has an object on each line."""
    lines = iter(Lines(path, shown))
    first = next((text.strip() for text in lines if text.strip()), "")
    second = next((text.strip() for text in lines if text.strip()), "")
    if not (first.startswith("[") or (first.startswith("{") and (not second or not _is_object(first)))):
        return None
    try:
        return _list_rows(json.loads("".join(_bounded(Lines(path, shown)))))
    except InputError:
        raise
    except (ValueError, RecursionError):
        return None


def _bounded(lines: Lines) -> Iterator[str]:
    """The lines of a document, which is held as a whole."""
    size = 0
    for line in lines:
        size += len(line)
        if size > LARGEST_DOCUMENT:
            raise InputError(
                f"{lines.shown} is one JSON document of more than {LARGEST_DOCUMENT:,} characters: write one object a "
                "line (JSONL), which is read row by row."
            )
        yield line


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


OF_A_ROW = frozenset("toxic civil chosen rejected prompt text messages conversations".split())  # noqa: SIM905
"""Names by which a document is known to be one row."""


def _list_rows(document: Any) -> list[Any] | None:
    """The rows of a document; None where it has none, or is a row itself."""
    if isinstance(document, dict):
        parts = list(document.values())
        inner = [part for part in parts if isinstance(part, list) and part and isinstance(part[0], dict)]
        if len(inner) == 1 and not OF_A_ROW & document.keys():
            return inner[0]
        lengths = {len(part) for part in parts if isinstance(part, list | dict)}
        if len(parts) > 1 and len(lengths) == 1 and all(isinstance(part, list | dict) for part in parts):
            columns = [list(part.values()) if isinstance(part, dict) else part for part in parts]
            return [dict(zip(document, cells, strict=True)) for cells in zip(*columns, strict=True)]
        return None
    return document if isinstance(document, list) and document else None


def _open_document(rows: list[Any], path: Path, shown: str) -> Table:
    columns: dict[str, None] = {}
    for row in rows[:PEEKED_ROWS]:
        columns |= dict.fromkeys(row if isinstance(row, dict) else ("text",))

    def read(_: Sequence[str]) -> Iterator[Row]:
        for number, row in enumerate(rows, start=1):
            if isinstance(row, dict):
                yield Row(number, row, done=number)
            elif isinstance(row, str):
                yield Row(number, {"text": row}, done=number)
            else:
                yield Row(number, {}, "no JSON object", "something else instead of an object", number)

    return Table(shown, tuple(map(str, columns)), "row", len(rows), read)


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


@dataclass(frozen=True)
class _Style:
    """How a file of separated values is written."""

    delimiter: str
    skipped: int = 0
    """Records before the header: a title, or Excel's `sep=;`."""
    quoted: bool = True


def _find_style(path: Path, shown: str) -> _Style:
    lines = list(islice((text for text in Lines(path, shown) if text.strip()), 8))
    if not lines:
        raise InputError(f"{shown} is empty: give a file with a header and at least two rows.")
    named = re.fullmatch(r'"?sep=(.)"?', lines[0].strip(), re.IGNORECASE)
    if named or (lines[0].strip().lower() == "sep=" and "\t" in lines[0]):
        return _Style(named[1] if named else "\t", 1)
    for skipped, line in enumerate(lines):
        try:
            # the header alone, because prose is full of commas and semicolons that mislead the sniffer
            delimiter = csv.Sniffer().sniff(line, delimiters=",;\t|").delimiter
        except csv.Error:
            continue
        # A line of prose has commas too: only a title without any can be passed over.
        return _Style(delimiter, skipped, delimiter != "\t" or not _is_unquoted(path, shown))
    return _Style(",")


def _is_unquoted(path: Path, shown: str) -> bool:
    """Whether quotation marks of a file with tabs are part of its texts: each line has as many tabs as the first."""
    lines = [text.rstrip("\r\n") for text in islice((text for text in Lines(path, shown) if text.strip()), 2000)]
    return len({text.count("\t") for text in lines}) == 1 and any(_is_odd(text) for text in lines)


def _is_odd(line: str) -> bool:
    """Whether a cell begins with a quotation mark and is not the whole of a quotation."""
    return any(
        cell.startswith('"') and not (len(cell) > 1 and cell.endswith('"') and cell[1:-1].count('"') % 2 == 0)
        for cell in line.split("\t")
    )


def open_csv(path: Path, shown: str) -> Table:
    style = _find_style(path, shown)
    names = next(islice(_read_records(path, shown, style), style.skipped, None), None)
    if names is None:
        raise InputError(f"{shown} is empty: give a file with a header and at least two rows.")
    if names.fault:
        raise InputError(
            f"{shown}, line {names.number}: the header cannot be read ({names.detail}); name the columns there."
        )
    columns = _check_names(shown, [name.strip() for name in names.cells.values()])
    size = path.stat().st_size
    return Table(shown, columns, "line", size, lambda _: _read_csv(path, shown, style, columns))


def _read_records(path: Path, shown: str, style: _Style) -> Iterator[Row]:
    """Every CSV record that is not blank, as cells by position.

    Strict, so that a quote that never closes is noticed; what it swallows ends at the library's limit of
    131,072 characters a cell, or with the file.
    """
    lines = Lines(path, shown)
    quoting = csv.QUOTE_MINIMAL if style.quoted else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=style.delimiter, strict=True, quoting=quoting)
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


def _read_csv(path: Path, shown: str, style: _Style, columns: tuple[str, ...]) -> Iterator[Row]:
    for row in islice(_read_records(path, shown, style), style.skipped + 1, None):
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


def open_workbook(path: Path, shown: str) -> Table:
    """The first sheet of an Excel workbook; titles above the header are passed over, and no formula is computed.

    Of a formula Excel has kept the value; a cell whose value it has not is empty.
    """
    import openpyxl  # slow to import, and needed by this format alone

    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(part.file_size for part in packed.infolist())
    except (OSError, zipfile.BadZipFile, ValueError):
        raise InputError(f"{shown} is no Excel workbook, or a damaged one: save it again, or as “CSV UTF-8”.") from None
    if size > LARGEST_WORKBOOK:
        raise InputError(
            f"{shown} unpacks to {size:,} bytes, and {LARGEST_WORKBOOK:,} are the most: save it as “CSV UTF-8”."
        )

    def read_sheet() -> Iterator[tuple[int, tuple[Any, ...]]]:
        number = 0
        try:
            with path.open("rb") as file:
                sheet = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False).worksheets[0]
                sheet.reset_dimensions()  # which some programs write wrong
                for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
                    yield number, cells
        except Exception as error:  # whatever the library raises over an archive or XML that is none
            raise InputError(
                f"{shown} cannot be read after row {number} ({first_line(error)}): save it again, or as “CSV UTF-8”."
            ) from None

    above, header = next(
        ((number, cells) for number, cells in read_sheet() if sum(isinstance(cell, str) for cell in cells) > 1), (0, ())
    )
    names = {place: str(cell).strip() for place, cell in enumerate(header) if cell is not None}
    if not names:
        raise InputError(f"{shown} has no row with the names of columns: give a sheet with a header and two rows.")
    columns = _check_names(shown, list(names.values()))

    def read(needed: Sequence[str]) -> Iterator[Row]:
        for number, cells in read_sheet():
            if number > above and any(cell is not None for cell in cells):
                there = {name: cells[place] for place, name in names.items() if place < len(cells)}
                yield Row(number, there, done=number)

    return Table(shown, columns, "row", 0, read)


def _check_names(shown: str, names: Sequence[str]) -> tuple[str, ...]:
    twice = next((name for name, count in Counter(names).items() if name and count > 1), None)
    if twice is not None:
        raise InputError(f"{shown} has two columns named “{twice}”: rename one of them.")
    return tuple(names)


READERS: Mapping[str, Callable[[Path, str], Table]] = {
    **dict.fromkeys(JSON_ENDINGS, open_json),
    **dict.fromkeys((".csv", ".tsv"), open_csv),
    **dict.fromkeys((".parquet", ".pq"), open_parquet),
    ".xlsx": open_workbook,
}
"""A file's ending, in small letters -> what opens it, from its path and the name that messages call it by."""


def open_table(
    source: str,
    subset: str | None = None,
    split: str = "train",
    revision: str | None = None,
    limit: int | None = None,
) -> Table:
    """The table that `source` names: a file by its ending, a folder of `save_to_disk`, else a data set on the Hub.

    Args:
        subset, split, revision, limit: of a data set on the Hub; see `open_hub`.

    Raises:
        InputError: it cannot be read as a table; the message names the file and the line.
    """
    if names_hub(source):
        from detox_engine.data.hub import open_hub  # the datasets library takes seconds to import

        return open_hub(source, subset, split, revision, limit)
    saved = _find_saved(source, split)
    if saved is not None:
        return open_arrow(saved, source)
    path = find_file(source)
    ending = find_ending(path)
    if ending in READERS:
        return READERS[ending](path, source)
    ends = f"ends in “{ending}”" if ending else "has no file ending"
    way = " In a spreadsheet, save it as “CSV UTF-8”." if ending in (".xls", ".xlsm", ".ods") else ""
    raise InputError(f"{source} {ends}: pairs are read from .jsonl, .json, .csv, .tsv, .parquet or .xlsx files.{way}")


def find_ending(path: Path) -> str:
    """What tells the kind of a file, in small letters: the ending before that of a packed file."""
    ending = path.suffix.lower()
    return Path(path.stem).suffix.lower() if ending in PACKED_ENDINGS else ending


def names_hub(source: str) -> bool:
    """Whether `source` is an `owner/name` of the Hub rather than a path on this machine."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", source):
        return False
    path = Path(source)
    return not (path.parent.exists() or path.suffix.lower() in READERS or is_path(source))


def _find_saved(source: str, split: str) -> Path | None:
    """The folder that `Dataset.save_to_disk` wrote, of several splits the one asked for; None where it is none."""
    try:
        folder = Path(source).expanduser()
        if (folder / "dataset_dict.json").is_file():
            folder = folder / split
            if not folder.is_dir():
                raise InputError(f"{source} has no split “{split}”: name one of its folders with --split.")
        return folder if folder.is_dir() and any(folder.glob("*.arrow")) else None
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        return None


def open_arrow(folder: Path, shown: str) -> Table:
    """The rows of the Arrow files in a folder, in the order of their names; nothing of it is run."""
    import pyarrow
    import pyarrow.ipc

    files = sorted(folder.glob("*.arrow"))

    def open_one(file: Path) -> Any:
        try:
            return pyarrow.ipc.open_stream(pyarrow.memory_map(str(file)))
        except (pyarrow.ArrowException, OSError):
            raise InputError(f"{shown} is damaged ({file.name}): write it again.") from None

    columns = _check_names(shown, open_one(files[0]).schema.names)

    def read(needed: Sequence[str]) -> Iterator[Row]:
        number = 0
        for file in files:
            try:
                for batch in open_one(file):
                    for start in range(0, batch.num_rows, BATCH_ROWS):
                        for cells in batch.select(list(needed)).slice(start, BATCH_ROWS).to_pylist():
                            number += 1
                            yield Row(number, cells, done=number)
            except (pyarrow.ArrowException, OSError, UnicodeDecodeError, KeyError):
                raise InputError(f"{shown} is damaged after row {number}: write it again.") from None

    total = sum(batch.num_rows for file in files for batch in open_one(file))
    return Table(shown, columns, "row", total, read)
