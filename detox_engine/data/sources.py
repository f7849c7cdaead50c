"""Opens whatever a person names as their source of rows."""

import re
from pathlib import Path

from detox_engine.data.files import READERS
from detox_engine.data.table import Table, find_file
from detox_engine.errors import InputError


def open_table(
    source: str,
    subset: str | None = None,
    split: str = "train",
    revision: str | None = None,
    limit: int | None = None,
) -> Table:
    """The table that `source` names: a file by its ending, else a data set on the Hub.

    Args:
        subset, split, revision, limit: of a data set on the Hub; see `open_hub`.

    Raises:
        InputError: it cannot be read as a table; the message names the file and the line.
    """
    if names_hub(source):
        from detox_engine.data.hub import open_hub  # the datasets library takes seconds to import

        return open_hub(source, subset, split, revision, limit)
    path = find_file(source)
    ending = path.suffix.lower()
    if ending in READERS:
        return READERS[ending](path, source)
    ends = f"ends in “{ending}”" if ending else "has no file ending"
    raise InputError(f"{source} {ends}: pairs are read from .jsonl, .csv, .tsv or .parquet files.")


def names_hub(source: str) -> bool:
    """Whether `source` is an `owner/name` of the Hub rather than a path on this machine."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", source):
        return False
    path = Path(source)
    endings = (*READERS, ".txt", ".gz", ".zip", ".xlsx")
    return not path.parent.exists() and path.suffix.lower() not in endings
