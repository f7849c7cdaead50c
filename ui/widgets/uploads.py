"""Files that a person hands to the page, kept by the hash of their content so that a study can name them."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from detox_engine.disk import write_whole
from detox_engine.errors import InputError
from ui.session import state
from ui.session.folders import uploads_folder
from ui.words.text import plain


def pick_file(path: str, key: str, label: str, types: Sequence[str]) -> str:
    """An upload, kept over page changes by the place of its copy, the view's part `path`; empty before there is one.

    Raises:
        InputError: it cannot be kept.
    """
    upload = st.file_uploader(label, type=types, key=f"{key}_upload")
    if upload is not None:
        file = str(store_upload(upload.name, upload.getvalue()))
        if file != state.view()[path]:
            state.put(path, file)
    elif state.view()[path]:
        st.caption(plain(f"In use: {Path(state.view()[path]).name}"))
    return state.view()[path]


def store_upload(name: str, content: bytes) -> Path:
    """The file that holds `content`, written whole or not at all, under a name like the one it came with.

    Raises:
        InputError: the folder cannot be written.
    """
    safe = Path(re.sub(r"[^\w.\- ]", "_", Path(name).name).strip(". ") or "pairs")
    folder = uploads_folder() / hashlib.sha256(content).hexdigest()[:16]
    file = folder / f"{safe.stem[:80]}{safe.suffix[:12].lower()}"
    if file.is_file():
        return file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(file, content)
    except OSError as error:
        raise InputError(f"The upload cannot be kept in {folder} ({error.strerror}): make room there.") from None
    return file
