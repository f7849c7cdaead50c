"""Opens whatever a person names as their source of rows."""

import re
from pathlib import Path

from detox_engine.data.files import READERS
from detox_engine.data.table import Table, find_file
from detox_engine.errors import InputError
from detox_engine.plans.sources import PairSpec


def open_table(spec: PairSpec) -> Table:
    """The table that `spec` names: a file by its ending, else a data set on the Hub.

    Raises:
        InputError: it cannot be read as a table; the message names the file and the line.
    """
    if names_hub(spec.source):
        from detox_engine.data.hub import open_hub  # the datasets library takes seconds to import

        return open_hub(spec)
    path = find_file(spec.source)
    ending = path.suffix.lower()
    if ending in READERS:
        return READERS[ending](path, spec.source)
    ends = f"ends in “{ending}”" if ending else "has no file ending"
    raise InputError(f"{spec.source} {ends}: pairs are read from .jsonl, .csv, .tsv or .parquet files.")


def names_hub(source: str) -> bool:
    """Whether `source` is an `owner/name` of the Hub rather than a path on this machine."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", source):
        return False
    path = Path(source)
    endings = (*READERS, ".txt", ".gz", ".zip", ".xlsx")
    return not path.parent.exists() and path.suffix.lower() not in endings
