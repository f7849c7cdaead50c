"""How far an edit moves the model's predictions on text that the model reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detox_engine.estimates import Tally
from detox_engine.scoring.scorer import READS_AS_BEFORE, ScorerKind

if TYPE_CHECKING:
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
    unit: str = "nats per token"
    is_change: bool = True

    def measure(self, trial: Trial) -> Tally:
        read = trial.read(self.text)
        return Tally(read.divergence, np.broadcast_to(read.tokens, read.divergence.shape).astype(float))


SCORER = ScorerKind(
    name="drift",
    title="Drift",
    sentence="how far next-token predictions move on neutral text",
    question=READS_AS_BEFORE,
    items="texts",
    needs=("neutral",),
    place=3,
    make=lambda options, context: (Drift(),),
)
