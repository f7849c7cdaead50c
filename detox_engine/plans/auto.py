"""What a run from a model to a verdict is given: what it is fitted and judged on, and what an edit may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from detox_engine.errors import InputError
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.fit import Budget, FitPlan
from detox_engine.plans.option import option, sentence
from detox_engine.plans.sources import BUNDLED, ModelSpec, PairSpec, TextSpec

LICENCE = "The base model's licence as the Hub writes it, such as apache-2.0."


@dataclass(frozen=True)
class NamedModel(ModelSpec):
    """A model whose name is an argument of its own."""

    name: str = option(BUNDLED, sentence(ModelSpec, "name"))


@dataclass(frozen=True)
class AutoPlan:
    """From a model to a verdict."""

    pairs: PairSpec = option(PairSpec(), "The pairs to fit on.")
    prompts: str = option(BUNDLED, sentence(EvaluationPlan, "prompts"), "--prompts")
    neutral: TextSpec = option(TextSpec(), "Neutral text to read.")
    minutes: float | None = option(
        None,
        "Minutes that all of it may take: as many prompts are evaluated as fit in.",
        "--budget",
        low=1,
        high=10_000,
        step=5,
        usual="as long as the usual evaluation takes",
    )
    cost: Budget = option(
        "gentle",
        sentence(FitPlan, "budget"),
        "--cost",
        words={"gentle": "Gentle, 0.015 nats a token", "strong": "Strong, 0.05 nats a token"},
    )
    licence: str | None = option(None, LICENCE, "--licence", usual="what the base model's files say")
    perplexity_limit: float = option(
        1.05,
        "What an edit that is worth shipping multiplies the perplexity of neutral text by at most.",
        "--perplexity-limit",
        low=1.0,
        high=10.0,
        step=0.01,
    )

    def __post_init__(self) -> None:
        if self.minutes is not None and not (math.isfinite(self.minutes) and self.minutes > 0):
            raise InputError(f"A run needs more than 0 minutes, not {self.minutes}.")
        if not (math.isfinite(self.perplexity_limit) and self.perplexity_limit >= 1):
            raise InputError(f"The limit of perplexity is a finite number from 1, not {self.perplexity_limit}.")
