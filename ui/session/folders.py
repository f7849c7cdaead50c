"""Folders of this machine that the dashboard uses, and how it keeps their paths to itself."""

import os
import re
from pathlib import Path

_STORED = re.compile(r"\S*[\\/]uploads[\\/][0-9a-f]{16}[\\/]")


def cache_folder() -> Path:
    """What the dashboard keeps for this person between its starts."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "detox-explorer"


def uploads_folder() -> Path:
    """Where uploads of this person lie."""
    return cache_folder() / "uploads"


def without_folder(sentence: str) -> str:
    """`sentence` with uploads called by their own names, not by where they are kept."""
    return _STORED.sub("", sentence)
