"""The two ways a journey ends early on purpose, and how it tells how far it is."""

import re
from collections.abc import Callable

_BREAKS = re.compile(r"[\s\x00-\x1f\x7f\x85\u2028\u2029]*[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029][\s\x00-\x1f\x7f]*")
_LONG_WORDS = re.compile(r"(\S{250})\S{50,}")
"""What nobody would read to its end, such as a number of thousands of digits; paths are shorter."""
LONGEST_SENTENCE = 1500
"""Characters of a sentence; what it quotes is cut before that."""


class InputError(ValueError):
    """Something the person gave cannot be used.

    The message is one sentence for that person: what is wrong, where, and what to do. The command line prints
    it and exits with code 2; the pages show it. Nothing has been changed on disk when it is raised. Whatever names and
    texts of others it holds, it stays one line.
    """

    def __init__(self, sentence: str) -> None:
        told = _LONG_WORDS.sub(r"\1…", _BREAKS.sub(" ", sentence))
        super().__init__(told if len(told) <= LONGEST_SENTENCE else f"{told[: LONGEST_SENTENCE - 1]}…")


class Cancelled(Exception):
    """The person stopped a running step; raised from inside a progress callback, never shown as an error."""


LONGEST = 300
"""Characters of what another library says that a sentence has room for."""


def first_line(error: BaseException) -> str:
    """What another library says of its error, as far as it fits into a sentence."""
    told = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return told if len(told) <= LONGEST else f"{told[:LONGEST]}…"


Progress = Callable[[str, int, int], None]
"""Called as `progress(stage, done, total)`, from the thread that works; raises `Cancelled` to stop the work."""


def ignore_progress(stage: str, done: int, total: int) -> None:
    """The progress of a caller that does not watch."""
