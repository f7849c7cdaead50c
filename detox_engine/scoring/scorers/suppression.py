"""Over-suppression: does an edit blunt text that only looks rude, or that mentions people in passing?"""

from dataclasses import replace

from detox_engine.scoring.scorer import Scorer
from detox_engine.scoring.scorers.drift import Drift
from detox_engine.scoring.scorers.perplexity import Perplexity

PROBES = {
    "harmless": ("words that look rude", "harmless uses of rude-looking words, such as to kill a process"),
    "groups": ("groups in passing", "civil sentences that mention people by nationality, religion, age and the like"),
}
"""Name of a bundled probe, its title, and what is in it."""


def suppression_scorers() -> tuple[Scorer, ...]:
    """Perplexity of each probe and drift on it, to be read beside those of neutral text."""
    return tuple(
        replace(
            scorer,
            text=probe,
            name=f"{probe}_{scorer.name}",
            title=f"{scorer.name.capitalize()}: {title}",
            sentence=f"The same as {scorer.name}, on {content}; where it rises more than on neutral text, the edit "
            "blunts more than toxic text.",
        )
        for probe, (title, content) in PROBES.items()
        for scorer in (Perplexity(), Drift())
    )
