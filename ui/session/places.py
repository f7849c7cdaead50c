"""Who may name folders and files of the server: those who sit at it, and others where that was switched on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import streamlit as st

from detox_engine.errors import InputError
from detox_engine.plans.sources import AT_HAND, is_path
from ui.session.folders import PATHS, write_upload

KEEP = "DETOX_KEEP_RESULTS"
"""Set to `on`, it keeps what visitors of a server find on its disk, for all of them."""
LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))


def allows_paths() -> bool:
    """Whether a visitor may name folders and files of this machine: where it is their own, or it was switched on."""
    return _is_own_machine() or os.environ.get(PATHS) == "on"


def keeps_results() -> bool:
    """Whether what is found stays on disk for all: where visitors sit at this machine, or it was switched on."""
    return _is_own_machine() or os.environ.get(KEEP) == "on"


def _is_own_machine() -> bool:
    """Whether nobody reaches the dashboard but who sits at this machine."""
    return st.get_option("server.address") in LOCAL


def check_names(names: Iterable[str]) -> None:
    """Raise an InputError where one of `names` is a folder or a file of this machine, and nobody may name these.

    Uploads are no such files: who knows the hash of their content has been given it.
    """
    for name in names:
        if is_path(name) and write_upload(name) is None and not allows_paths():
            raise InputError(
                f"“{name[:80]}” is a folder or file of the server, and these are switched off, as others can reach it: "
                f"upload the file, or name something on the Hub ({PATHS}=on switches them on)."
            )


def check_opened(names: Iterable[str]) -> None:
    """As `check_names`, where something is about to be opened: an id of the Hub can be the name of a file here too."""
    for name in names:
        there = Path(name)
        if not allows_paths() and write_upload(name) is None and name not in AT_HAND:
            check_names((name,))
            if there.exists() or (there.parent != Path() and there.parent.exists()):
                raise InputError(f"“{name[:80]}” is a file or folder of the server, and these are switched off.")
