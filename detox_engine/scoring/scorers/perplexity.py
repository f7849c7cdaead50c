"""Perplexity of text that the model reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detox_engine.estimates import Tally
from detox_engine.scoring.scorer import READS_AS_BEFORE, ScorerKind

if TYPE_CHECKING:
    from detox_engine.scoring.trial import Trial


@dataclass(frozen=True)
class Perplexity:
    """e to the power of the mean surprise of a token of the text called `text`; every token counts once."""

    text: str = "neutral"
    name: str = "perplexity"
    title: str = "Perplexity of neutral text"
    sentence: str = (
        "How many tokens the model is as good as undecided between when it reads neutral text: e to the power of "
        "the mean surprise of a token. An edit that leaves the language intact leaves it where it was."
    )
    unit: str = "perplexity"
    range: tuple[float, float] = (1.0, math.inf)

    def measure(self, trial: Trial) -> Tally:
        read = trial.read(self.text)
        return Tally(read.surprise, np.broadcast_to(read.tokens, read.surprise.shape).astype(float), exponential=True)


SCORER = ScorerKind(
    name="perplexity",
    title="Perplexity",
    sentence="perplexity of neutral text",
    question=READS_AS_BEFORE,
    items="texts",
    needs=("neutral",),
    role="cost",
    called="Perplexity of neutral text",
    place=2,
    make=lambda options, context: (Perplexity(),),
)
