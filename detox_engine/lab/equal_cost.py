"""Edits of one cost: the strength at which each moves the model's predictions, or its perplexity, equally far.

Methods compared at one strength are compared at different costs: a direction that the model uses much costs more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import Progress, ignore_progress
from detox_engine.forward.likelihood import Span, match_divergence, read_likelihoods
from detox_engine.model.load import OpenModel
from detox_engine.plans.evaluation import Cost

STRENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""What every edit is read at first; no stronger one is tried."""
ROUNDS = 4
"""How often a strength is read where the last one puts it."""
WITHIN = 0.05
"""Two costs whose ratio is as near to 1 are the same."""
STAGE = "Matching costs"


@dataclass(frozen=True)
class Priced:
    """The strength of an edit, and what it costs there on neutral text."""

    strength: float
    kl: float
    """KL(unedited ‖ edited) of the next-token distributions, in nats a token."""
    perplexity: float
    """What the perplexity is multiplied by."""
    reached: bool
    """Whether the cost is the wanted one; else even the strongest edit that was tried costs less."""


def match_costs(
    model: OpenModel,
    spans: Sequence[Span],
    edits: Sequence[LowRankEdit],
    cost: Cost,
    wanted: float,
    progress: Progress = ignore_progress,
) -> tuple[Priced, ...]:
    """For each edit the strength at which it costs `wanted`, within 5 %, on these texts.

    Read at the strengths `STRENGTHS`, then where a power law between the two around the wanted cost puts it, again and
    again. All edits and strengths share a pass.

    Args:
        wanted: in nats a token for `kl`; for `perplexity` the share by which it rises.
    """
    read: list[dict[float, tuple[float, float]]] = [{} for _ in edits]

    def ask(asked: Sequence[tuple[int, float]]) -> None:
        rows = [None, *(replace(edits[place], strength=strength) for place, strength in asked)]
        found = read_likelihoods(model, spans, rows, progress, STAGE)
        tokens = found.tokens.sum()
        moved = found.divergence.sum(1) / tokens
        rises = np.exp((found.surprise.sum(1) - found.surprise[0].sum()) / tokens) - 1
        for (place, strength), divergence, rise in zip(asked, moved[1:], rises[1:], strict=True):
            read[place][strength] = float(divergence), float(rise)

    def costs(place: int) -> dict[float, float]:
        return {strength: both[cost == "perplexity"] for strength, both in read[place].items()}

    def nearest(place: int) -> float:
        return min(costs(place).items(), key=lambda each: abs(each[1] / wanted - 1))[0]

    ask([(place, strength) for place in range(len(edits)) for strength in STRENGTHS])
    for _ in range(ROUNDS):
        far = [place for place in range(len(edits)) if abs(costs(place)[nearest(place)] / wanted - 1) > WITHIN]
        guesses = [(place, match_divergence(costs(place), wanted)[0]) for place in far]
        new = [(place, guess) for place, guess in guesses if guess > 0 and guess not in read[place]]
        if not new:
            break
        ask(new)

    def tell(place: int) -> Priced:
        strength = nearest(place)
        divergence, rise = read[place][strength]
        reached = abs(costs(place)[strength] / wanted - 1) <= WITHIN
        return Priced(strength, divergence, 1 + rise, reached)

    return tuple(map(tell, range(len(edits))))
