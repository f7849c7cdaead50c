"""Rows of a data set on the Hub, and a sentence for each way in which that fails."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice

import datasets
import pyarrow
from datasets.exceptions import DatasetNotFoundError, DatasetsError
from huggingface_hub.utils import httpx

from detox_engine.data.files import PEEKED_ROWS, STREAMED_ROWS
from detox_engine.data.table import Row, Table
from detox_engine.errors import InputError

FAILURES = (
    DatasetsError,
    httpx.HTTPError,
    pyarrow.ArrowException,
    OSError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)
"""What `datasets.load_dataset` and the reading of its rows raise."""


def open_hub(source: str, subset: str | None, split: str, revision: str | None, limit: int | None) -> Table:
    """A split of the Hub data set `source`, of its configuration `subset` and at that `revision`.

    With a limit the rows are streamed, and only the first `max(STREAMED_ROWS, 20 * limit)` of them are looked
    at: a draw from all of them would have to download all of them. Without one the data set is downloaded
    into the library's cache, where a second reading costs nothing.

    Raises:
        InputError: no network, no such data set, revision, configuration or split, or no access to it.
    """
    streamed = None if limit is None else max(STREAMED_ROWS, 20 * limit)
    try:
        rows = datasets.load_dataset(
            source, name=subset, split=split, revision=revision, streaming=streamed is not None
        )
        columns = rows.column_names
        if columns is None:  # a stream of text files names its columns only in its rows
            columns = list(dict.fromkeys(name for cells in islice(rows, PEEKED_ROWS) for name in cells))
        known = streamed or len(rows)
    except FAILURES as error:
        raise _explain(error, source, subset, split, revision) from None

    def read(needed: Sequence[str]) -> Iterator[Row]:
        number = 0
        try:
            for cells in islice(rows.select_columns(list(needed)), streamed):
                number += 1
                yield Row(number, cells, done=number)
        except FAILURES as error:
            raise _explain(error, source, subset, split, revision) from None

    return Table(source, tuple(columns), "row", known, read, lambda count: streamed is not None and count >= streamed)


def _explain(error: Exception, source: str, subset: str | None, split: str, revision: str | None) -> InputError:
    if isinstance(error, InputError):
        return error
    said = " ".join(str(error).split())
    shown = f"The data set {source}"
    if isinstance(error, DatasetNotFoundError) and "gated" in said:
        return InputError(f"{shown} is gated: ask for access on its page on the Hub, then run “hf auth login”.")
    if isinstance(error, DatasetNotFoundError) and said.startswith("Revision"):
        return InputError(f"{shown} has no revision “{revision}”: name a branch, tag or commit of it.")
    if isinstance(error, DatasetNotFoundError):
        return InputError(
            f"{shown} is not on the Hub, or is private: check its name, log in with “hf auth login”, "
            "or use a file or the bundled pairs."
        )
    if isinstance(error, (ConnectionError, httpx.TransportError)):
        return InputError(
            f"{shown} cannot be reached, because the Hub does not answer: check the network, "
            "or use a file or the bundled pairs."
        )
    if said.startswith(("BuilderConfig", "Config name is missing")):
        wrong = f"has no configuration “{subset}”" if subset else "has several configurations"
        return InputError(f"{shown} {wrong}: {_choose(said)}.")
    if said.startswith(("Bad split", "Unknown split", "Split name")):
        return InputError(f"{shown} has no split “{split}”: {_choose(said)}.")
    return InputError(f"{shown} cannot be read ({said or type(error).__name__}): use a file instead.")


def _choose(said: str) -> str:
    """What the library lists as available, which it does in brackets at the end of its message."""
    listed = re.search(r"\[([^\]]*)\]", said)
    return f"choose among {listed[1]}" if listed else "its page on the Hub lists them"
