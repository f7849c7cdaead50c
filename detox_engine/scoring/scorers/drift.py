"""How far an edit moves the model's predictions on text that the model reads."""

import math
from dataclasses import dataclass

import numpy as np

from detox_engine.estimates import Tally
from detox_engine.scoring.trial import Trial


@dataclass(frozen=True)
class Drift:
    """KL(unedited ‖ edited) of the next-token distribution, mean over the tokens of the text called `text`."""

    text: str = "neutral"
    name: str = "drift"
    title: str = "Drift on neutral text"
    sentence: str = (
        "How far the edit moves the next-token distribution on neutral text: the Kullback-Leibler divergence of the "
        "edited model from the unedited one, in nats per token. The unedited model has 0."
    )
    range: tuple[float, float] = (0.0, math.inf)
    lower_is_better: bool = True

    def measure(self, trial: Trial) -> Tally:
        read = trial.read(self.text)
        return Tally(read.divergence, np.broadcast_to(read.tokens, read.divergence.shape).astype(float))
