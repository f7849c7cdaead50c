"""Files that a page offers: words in full, whatever is blurred on the page, and written only when asked for."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import streamlit as st

Table = tuple[Sequence[str], Iterable[Sequence[Any]]]
"""Heads and rows."""

KINDS = {"csv": "text/csv", "json": "application/json", "txt": "text/plain"}


def write_csv(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as comma-separated values; None is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return out.getvalue()


def write_json(record: Any) -> str:
    """A record as JSON, with null for NaN and infinity."""
    from detox_engine.tables import without_nan

    return json.dumps(without_nan(record), ensure_ascii=False, allow_nan=False, indent=2)


def draw_download(label: str, make: Callable[[], str], filename: str, key: str, help: str | None = None) -> None:
    """A button that saves the text of `make()`; its ending tells the kind."""
    st.download_button(
        label,
        make,
        filename,
        KINDS[filename.rpartition(".")[2]],
        key=key,
        help=help,
        icon=":material/download:",
        on_click="ignore",
    )
