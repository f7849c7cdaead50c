"""A synthetic world of the paper's factor model, and along what it is changed (arXiv 2405.13967, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from detox_engine.errors import InputError
from detox_engine.plans.option import option, option_of

Along = Literal["pairs", "noise", "flipped"]
"""The options of a `FactorPlan` that a curve of worlds can run along."""
MOST_CONTEXTS, MOST_FACTORS, SMALLEST_HIDDEN = 10, 5, 16
"""The mean, all contexts and all toxic factors are orthogonal: together they fill the smallest hidden size."""


@dataclass(frozen=True)
class FactorPlan:
    """What embeddings of pairs are drawn from; lengths of vectors are in strengths of a toxic factor."""

    pairs: int = option(500, "Pairs of texts to draw.", "--pairs", link="pairs", low=5, high=2000, step=5)
    hidden: int = option(
        64,
        "Dimensions of an embedding.",
        "--hidden",
        link="hidden",
        low=SMALLEST_HIDDEN,
        high=256,
        step=16,
        title="Hidden size",
    )
    contexts: int = option(
        8,
        "Context factors: directions along which texts differ by what they are about, alike on both sides of a pair.",
        "--contexts",
        link="contexts",
        low=0,
        high=MOST_CONTEXTS,
        step=1,
        title="Context factors",
    )
    factors: int = option(
        2,
        "Toxic factors: directions that toxic texts alone have. Their number is the true rank.",
        "--factors",
        link="factors",
        low=1,
        high=MOST_FACTORS,
        step=1,
        title="Toxic factors (true rank)",
    )
    rank: int = option(
        2,
        "How many directions are asked for; a real study does not know the true rank.",
        "--rank",
        link="rank",
        low=1,
        high=10,
        step=1,
        title="Rank asked for",
    )
    noise: float = option(
        0.3,
        "Standard deviation of the noise in each dimension of each text, where a toxic factor has strength 1.",
        "--noise",
        link="noise",
        low=0.0,
        high=3.0,
        step=0.05,
    )
    flipped: float = option(
        0.0,
        "Share of the pairs whose labels are wrong: their sides are swapped.",
        "--flipped",
        link="flipped",
        low=0.0,
        high=0.5,
        step=0.05,
        title="Share of flipped labels",
    )
    lean: float = option(
        3.0,
        "How much further along the mean direction toxic texts lie than civil ones, where a toxic factor has "
        "strength 1.",
        "--lean",
        link="lean",
        low=0.0,
        high=10.0,
        step=0.5,
        title="Toxic texts lean on the mean by",
    )
    longer: float = option(
        0.0,
        "By what share toxic texts are longer than civil ones (below 0: shorter). With a sink, that shifts their mean "
        "over tokens.",
        "--longer",
        link="longer",
        low=-0.5,
        high=1.0,
        step=0.1,
        title="Toxic texts are longer by",
    )
    sink: float = option(
        0.0,
        "Size of an attention sink: what the first token's state has along the mean direction beyond other tokens' "
        "states, in multiples of such a state; 0 is no sink.",
        "--sink",
        link="sink",
        low=0.0,
        high=100.0,
        step=5.0,
        title="Sink at the first token",
    )
    seed: int = option(0, "Seed of all that is drawn.", "--seed", link="seed", low=0, step=1)

    def __post_init__(self) -> None:
        for field in fields(self):
            asked, value = option_of(type(self), field.name), getattr(self, field.name)
            high = float("inf") if asked.high is None else asked.high
            if not asked.low <= value <= high:
                name = asked.title or field.name.capitalize()
                room = f"{asked.low:g} or more" if asked.high is None else f"{asked.low:g} to {asked.high:g}"
                raise InputError(f"{name}: a synthetic world takes {room}, not {value:g}.")
