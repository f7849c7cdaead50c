"""What a scorer is: it describes itself, and measures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from detox_engine.estimates import Tally

if TYPE_CHECKING:
    from detox_engine.trial import Trial


class TextScorer(Protocol):
    """Scores a text by itself, whoever wrote it."""

    name: str
    sentence: str

    def score(self, texts: Sequence[str]) -> list[float]:
        """The probability that each text is toxic, 0 to 1."""
        ...


class Scorer(Protocol):
    """Measures every edit of a trial."""

    name: str
    """Unique among the scorers of an evaluation."""
    title: str
    sentence: str
    """What it measures, for people."""
    range: tuple[float, float]
    lower_is_better: bool

    def measure(self, trial: "Trial") -> Tally:
        """Totals and counts `[edits, items]`, one row for each edit of the trial."""
        ...
