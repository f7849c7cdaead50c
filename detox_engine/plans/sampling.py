"""How continuations are written."""

import math
from dataclasses import dataclass

from detox_engine.errors import InputError
from detox_engine.plans.option import option

MOST_NEW_TOKENS, MOST_SAMPLES = 1024, 100


@dataclass(frozen=True)
class SamplingPlan:
    """How continuations are written; before and after share all of it, the luck included."""

    max_new_tokens: int = option(
        20, "Longest continuation in tokens.", "--max-new-tokens", link="tokens", low=1, high=MOST_NEW_TOKENS, step=5
    )
    samples: int = option(
        1, "Continuations written for each prompt.", "--samples", link="samples", low=1, high=MOST_SAMPLES, step=1
    )
    greedy: bool = option(
        False, "Always take the most probable token instead of drawing one.", "--greedy/--no-greedy", link="greedy"
    )
    temperature: float = option(
        1.0,
        "Below 1 the draw favours probable tokens, above 1 it evens them out.",
        "--temperature",
        link="temperature",
        low=0.05,
        high=5.0,
        step=0.1,
    )
    top_p: float = option(
        1.0,
        "Draw only from the most probable tokens that together have this probability.",
        "--top-p",
        link="top_p",
        low=0.05,
        high=1.0,
        step=0.05,
    )
    seed: int = option(
        0,
        "Seed of the draws; the same seed gives before and after the same luck.",
        "--seed",
        link="luck",
        low=0,
        step=1,
    )

    chat: bool = option(
        False,
        "Give each prompt to the model as what a person says, by its chat template, so that it answers.",
        "--chat/--no-chat",
        link="chat",
    )

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.samples < 1:
            raise InputError("A continuation needs at least 1 new token and 1 sample for each prompt.")
        if self.max_new_tokens > MOST_NEW_TOKENS or self.samples > MOST_SAMPLES:
            raise InputError(
                f"Continuations of up to {MOST_NEW_TOKENS:,} tokens and up to {MOST_SAMPLES} samples of each prompt "
                f"are written, not {self.max_new_tokens:,} and {self.samples:,}."
            )
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise InputError(f"The temperature must be a finite number above 0, not {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise InputError(f"Top-p must lie above 0 and at most at 1, not {self.top_p}.")
