"""What a scorer is: it describes itself, and measures."""

from typing import TYPE_CHECKING, Protocol

from detox_engine.estimates import Tally

if TYPE_CHECKING:
    from detox_engine.scoring.trial import Trial


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
