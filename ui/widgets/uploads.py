"""Files that a person hands to the page, kept once by the hash of their content, so that a study can name them.

Whoever knows that hash has been given the file, by its owner or in a link: nothing lists what others have uploaded.
"""

import hashlib
import re
import time
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from detox_engine.disk import write_whole
from detox_engine.errors import InputError
from ui.session import state
from ui.session.folders import uploads_folder
from ui.words.text import plain

MOST_DAYS, MOST_BYTES = 30, 2 * 2**30
"""How long an upload is kept that nobody uses, and how many of all of them are."""
OPENED = "uploads that were opened"


def pick_file(path: str, key: str, label: str, types: Sequence[str]) -> str:
    """An upload, kept over page changes by the place of its copy, the view's part `path`; empty before there is one.

    Raises:
        InputError: it cannot be kept.
    """
    upload = st.file_uploader(label, type=types, key=f"{key}_upload")
    if upload is not None:
        file = str(store_upload(upload.name, upload.getvalue()))
        open_upload(file)
        if file != state.view()[path]:
            state.put(path, file)
    elif state.view()[path]:
        st.caption(plain(f"In use: {Path(state.view()[path]).name}"))
    return state.view()[path]


def open_upload(file: str) -> None:
    """Let this session look into an upload: its own, or one from a link that its person asked to open."""
    st.session_state.setdefault(OPENED, set()).add(file)


def is_open(file: str) -> bool:
    """Whether this session may look into an upload without being asked."""
    return file in st.session_state.get(OPENED, ())


def store_upload(name: str, content: bytes) -> Path:
    """The file that holds `content`, written whole or not at all, under a name like the one it came with.

    Raises:
        InputError: the folder cannot be written.
    """
    safe = Path(re.sub(r"[^\w.\- ]", "_", Path(name).name).strip(". ") or "pairs")
    folder = uploads_folder() / hashlib.sha256(content).hexdigest()
    file = folder / f"{safe.stem[:80]}{safe.suffix[:12].lower()}"
    try:
        if not file.is_file():
            prune(uploads_folder())
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(file, content)
        file.touch()
    except OSError as error:
        with_reason = error.strerror or "it cannot be written"
        raise InputError(f"The upload {safe.name} cannot be kept ({with_reason}): make room on the server.") from None
    return file


def prune(folder: Path, most_days: float = MOST_DAYS, most_bytes: int = MOST_BYTES) -> None:
    """Take away uploads that nobody has used for long, and the oldest where all of them are too many."""
    files = sorted((path for path in folder.glob("*/*") if path.is_file()), key=lambda path: path.stat().st_mtime)
    left = sum(path.stat().st_size for path in files)
    oldest = time.time() - 86_400 * most_days
    for path in files:
        found = path.stat()
        if found.st_mtime >= oldest and left <= most_bytes:
            break
        left -= found.st_size
        path.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
