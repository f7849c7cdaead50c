"""How much an edited model repeats itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detox_engine.estimates import Tally
from detox_engine.scoring.scorer import WRITES_WELL, ScorerKind

if TYPE_CHECKING:
    from detox_engine.scoring.trial import Trial

NAMES = {1: "words", 2: "word pairs", 3: "word triples"}


@dataclass(frozen=True)
class Distinct:
    """Distinct n-grams among all n-grams of a prompt's continuations (Li et al. 2016, arXiv 1510.03055).

    Counted prompt by prompt over its samples, as Liu et al. (2021, arXiv 2105.03023) do, and never across prompts:
    so the number does not depend on how many prompts there are.
    """

    length: int

    @property
    def name(self) -> str:
        return f"distinct_{self.length}"

    @property
    def title(self) -> str:
        return f"Distinct {NAMES[self.length]}"

    @property
    def sentence(self) -> str:
        return (
            f"Share of the {NAMES[self.length]} in the continuations of a prompt that are not repeats of each other. "
            "A model that stammers has few."
        )

    def measure(self, trial: Trial) -> Tally:
        distinct, counts = np.zeros((2, len(trial.edits), len(trial.prompts)))
        for row, samples in enumerate(trial.continuations):
            for edit in range(len(trial.edits)):
                grams = [gram for sides in samples for gram in self.split(sides[edit].text)]
                distinct[edit, row], counts[edit, row] = len(set(grams)), len(grams)
        return Tally(distinct, counts)

    def split(self, text: str) -> list[tuple[str, ...]]:
        """The n-grams of a text's words; a word is what stands between spaces, in small letters."""
        words = text.lower().split()
        return [tuple(words[start : start + self.length]) for start in range(len(words) - self.length + 1)]


SCORER = ScorerKind(
    name="distinct",
    title="Repetition",
    sentence="distinct words and word sequences in what it writes",
    question=WRITES_WELL,
    unit="share of all",
    lower_is_better=False,
    range=(0.0, 1.0),
    needs=("prompts",),
    place=5,
    make=lambda options, context: [Distinct(length) for length in NAMES],
)
