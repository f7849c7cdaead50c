"""Folders of this machine that the dashboard uses, and how it keeps their paths to itself."""

import hashlib
import os
import re
from pathlib import Path

from detox_engine.disk import write_whole
from detox_engine.errors import InputError

_STORED = re.compile(r"\S*[\\/]uploads[\\/][0-9a-f]{64}[\\/]")
_UPLOAD = re.compile(r"upload:([0-9a-f]{64})/([\w\- ][\w.\- ]{0,99})")
PATHS = "DETOX_SERVER_PATHS"
"""Set to `on`, it lets whoever reaches a server name folders and files of it."""


def cache_folder() -> Path:
    """What the dashboard keeps for this person between its starts."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "detox-explorer"


def folder_of(kind: str, *answers: object) -> Path:
    """Where what rests on all of these `answers`, and on nothing else, is kept."""
    return cache_folder() / kind / hashlib.sha256(repr(answers).encode()).hexdigest()[:32]


MOST_WORDS = 4000
"""Characters of the words that are blurred too."""


def _words_file() -> Path:
    return cache_folder() / "words_to_blur.txt"


def read_words() -> str:
    """The words that whoever sits at this machine wants blurred too."""
    try:
        return _words_file().read_text(encoding="utf-8")[:MOST_WORDS]
    except (OSError, ValueError):
        return ""


def write_words(text: str) -> None:
    """Keep the words that are blurred too.

    Raises:
        InputError: the disk takes nothing.
    """
    try:
        _words_file().parent.mkdir(parents=True, exist_ok=True)
        write_whole(_words_file(), text[:MOST_WORDS])
    except OSError as error:
        raise InputError(
            f"The words to blur hold for this visit alone: they cannot be kept ({error.strerror})."
        ) from None


def uploads_folder() -> Path:
    """Where uploads of this person lie."""
    return cache_folder() / "uploads"


def without_folder(sentence: str) -> str:
    """`sentence` with uploads called by their own names, not by where they are kept."""
    return _STORED.sub("", sentence)


def write_upload(file: str) -> str | None:
    """How a link names an upload: by the hash of its content and its own name; None for anything else."""
    folder = Path(file).parent
    if folder.parent != uploads_folder():
        return None
    told = f"upload:{folder.name}/{Path(file).name}"
    return told if _UPLOAD.fullmatch(told) else None


def read_upload(told: str) -> str | None:
    """Where an upload lies that a link names, whether or not it does; None where it names none."""
    found = _UPLOAD.fullmatch(told)
    return None if found is None else str(uploads_folder() / found[1] / found[2])
