"""Perplexity of text that the model reads."""

import math
from dataclasses import dataclass

import numpy as np

from detox_engine.estimates import Tally
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
    range: tuple[float, float] = (1.0, math.inf)
    lower_is_better: bool = True

    def measure(self, trial: Trial) -> Tally:
        read = trial.read(self.text)
        return Tally(read.surprise, np.broadcast_to(read.tokens, read.surprise.shape).astype(float), exponential=True)
