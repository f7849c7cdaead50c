"""Files that a page offers: words in full, whatever is blurred on the page, and written only when asked for."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from detox_engine import disk
from ui.session import state
from ui.words.rude_words import mask

Table = tuple[Sequence[str], Iterable[Sequence[Any]]]
"""Heads and rows."""

RAW = "DETOX_RAW_CSV"
"""Set to `on`, it leaves texts in CSV files as they are, formulas too."""
KINDS = {"csv": "text/csv", "json": "application/json", "txt": "text/plain"}


def write_csv(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as comma-separated values, as spreadsheets can open it; see `disk.write_csv`."""
    return disk.write_csv(heads, rows, raw=os.environ.get(RAW) == "on")


def zip_folder(folder: Path, name: str) -> bytes:
    """The files of a folder as a ZIP with one folder called `name`."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{name}/{path.name}")
    return content.getvalue()


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


def blur_rude(words: str, key: str, part: str = "textarea:not(:focus)") -> None:
    """Blur the `part` of the widget or container `key` where it shows rude `words`; a field only until it is used."""
    if mask(words, state.shows_words()) != words:
        st.html(f"<style>.st-key-{key} {part} {{ filter: blur(0.32em); }}</style>")
