"""Edits of one cost: the strength at which each moves the model's predictions, or its perplexity, equally far.

Methods compared at one strength are compared at different costs: a direction that the model uses much costs more.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detox_engine.edit.change import Change
from detox_engine.errors import Progress, ignore_progress
from detox_engine.forward.likelihood import Span, match_divergence, read_likelihoods
from detox_engine.model.load import OpenModel
from detox_engine.plans.lab.experiments import Cost

ROUNDS = 6
"""How often a strength is read where those before put it."""
WITHIN = 0.05
"""Two costs whose ratio is as near to 1 are the same."""
STAGE = "Matching costs"
TOKENS = 2048
"""Of neutral text, by which costs are matched."""


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
    edits: Sequence[Change],
    cost: Cost,
    wanted: float,
    progress: Progress = ignore_progress,
) -> tuple[Priced, ...]:
    """For each edit the strength at which it costs `wanted`, within 5 %, on these texts.

    Each is read as strong as it is usually (`Change.usual`), then where a power law puts the wanted cost, again and
    again: through the two strengths around it, or of a square through the one that there is. Never stronger than
    `Change.strongest`. All edits share a pass; what cannot be done by halves is read as it is.

    Args:
        wanted: in nats a token for `kl`; for `perplexity` the share by which it rises.
    """
    read: list[dict[float, tuple[float, float]]] = [{} for _ in edits]

    def ask(asked: Sequence[tuple[int, float]]) -> None:
        costs = price_edits(model, spans, [edits[place].at_strength(strength) for place, strength in asked], progress)
        for (place, strength), found in zip(asked, costs, strict=True):
            read[place][strength] = found.kl, found.perplexity - 1

    def costs(place: int) -> dict[float, float]:
        return {strength: both[cost == "perplexity"] for strength, both in read[place].items()}

    def nearest(place: int) -> float:
        return min(costs(place).items(), key=lambda each: abs(each[1] / wanted - 1))[0]

    scaling = [place for place, edit in enumerate(edits) if edit.strongest > edit.usual]
    ask([(place, edit.usual) for place, edit in enumerate(edits)])
    for _ in range(ROUNDS):
        far = [place for place in scaling if abs(costs(place)[nearest(place)] / wanted - 1) > WITHIN]
        guesses = [(place, guess_strength(costs(place), wanted, edits[place].strongest)) for place in far]
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


def guess_strength(costs: Mapping[float, float], wanted: float, strongest: float) -> float:
    """Where the wanted cost lies by what is known: strength -> its cost there; at most `strongest`."""
    known, most = max(costs.items())
    if most >= wanted:
        return match_divergence(costs, wanted)[0]
    if most <= 0:
        return strongest
    # A little further than a square puts it, so that the wanted cost soon lies between two strengths.
    return min(strongest, 1.1 * known * math.sqrt(wanted / most))


def price_edits(
    model: OpenModel, spans: Sequence[Span], edits: Sequence[Change], progress: Progress = ignore_progress
) -> tuple[Priced, ...]:
    """What each edit costs on these texts as it is."""
    if not edits:
        return ()
    found = read_likelihoods(model, spans, [None, *edits], progress, STAGE)
    tokens = found.tokens.sum()
    moved = found.divergence.sum(1) / tokens
    rises = np.exp((found.surprise.sum(1) - found.surprise[0].sum()) / tokens)
    return tuple(
        Priced(edit.strength, float(divergence), float(rise), True)
        for edit, divergence, rise in zip(edits, moved[1:], rises[1:], strict=True)
    )
