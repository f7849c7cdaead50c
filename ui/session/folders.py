"""Folders of this machine that the dashboard uses, and how it keeps their paths to itself."""

import hashlib
import os
import re
from pathlib import Path

_STORED = re.compile(r"\S*[\\/]uploads[\\/][0-9a-f]{16}[\\/]")


def cache_folder() -> Path:
    """What the dashboard keeps for this person between its starts."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "detox-explorer"


def folder_of(kind: str, *answers: object) -> Path:
    """Where what rests on all of these `answers`, and on nothing else, is kept."""
    return cache_folder() / kind / hashlib.sha256(repr(answers).encode()).hexdigest()[:32]


def uploads_folder() -> Path:
    """Where uploads of this person lie."""
    return cache_folder() / "uploads"


def without_folder(sentence: str) -> str:
    """`sentence` with uploads called by their own names, not by where they are kept."""
    return _STORED.sub("", sentence)
