"""How embeddings are taken, and what of them a study keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from detox_engine.errors import InputError
from detox_engine.plans.choice import CHOICES, Choice, choice_of
from detox_engine.plans.option import option
from detox_engine.plans.sources import PairSpec

Pooling = Literal["mean", "continuation", "last"]
Sinks = Literal["leave-out", "keep"]
Budget = Literal["gentle", "strong"]
BUDGETS: Mapping[Budget, float] = {"gentle": 0.015, "strong": 0.05}
"""How far a suggested edit may move the model's predictions on neutral text: KL in nats a token."""
MOST_PERPLEXITY: Mapping[Budget, float] = {"gentle": 1.015, "strong": 1.04}
"""What it may multiply the perplexity of that text by."""
PAPER = "detox"
"""The paper's own method."""
DEFAULT_METHODS = tuple(map(Choice, (PAPER, "fisher", "mean-difference")))


@dataclass(frozen=True)
class FitPlan:
    """How embeddings are taken and how many directions of each layer are kept."""

    pairs: PairSpec = option(PairSpec(), "The pairs to fit on.")
    max_length: int = option(
        128,
        "Longest text in tokens; what is longer is cut at its end.",
        "--max-length",
        link="max_length",
        low=1,
        step=16,
    )
    pooling: Pooling = option(
        "mean",
        "What stands for a text: the mean over its tokens, over its continuation's tokens, or its last token.",
        "--pooling",
        link="pooling",
        words={"mean": "Mean over all tokens", "continuation": "Mean over the continuation", "last": "Last token"},
    )
    keep: int = option(
        32, "Directions kept for each layer, the largest rank an edit can have.", "--keep", link="keep", low=1, step=1
    )
    keep_embeddings: bool = option(
        True,
        "Keep the embeddings with the study, for the map and the probes.",
        "--embeddings/--no-embeddings",
        link="embeddings",
    )
    sinks: Sinks = option(
        "leave-out",
        "What becomes of attention sinks, states a hundred times as long as others: left out of the means, with the "
        "dimensions that they live in, or kept, as in the paper.",
        "--sinks",
        link="sinks",
        words={"leave-out": "Left out", "keep": "Kept, as in the paper"},
    )
    methods: tuple[Choice, ...] = option(
        DEFAULT_METHODS,
        "Methods whose directions a study keeps, by name, with commas between them.",
        "--methods",
        link="methods",
        form=CHOICES,
    )
    """A name alone is a choice with the options that are usual. DeTox is always among them: the spectra are its own."""
    parallel_analysis: bool = option(
        False,
        "Hold every singular value against what chance gives, by parallel analysis: it can take as long as the rest.",
        "--parallel-analysis/--no-parallel-analysis",
        link="parallel_analysis",
    )

    suggest: bool = option(
        True,
        "Look for an edit to suggest, measured on pairs that are held out for it.",
        "--suggest/--no-suggest",
        link="suggest",
    )
    budget: Budget = option(
        "gentle",
        "What a suggested edit may cost on neutral text: gentle is a KL of 0.015 nats a token and 1.5 % of perplexity, "
        "strong 0.05 and 4 %.",
        "--budget",
        link="budget",
        words={"gentle": "Gentle, 0.015 nats a token", "strong": "Strong, 0.05 nats a token"},
    )

    def __post_init__(self) -> None:
        chosen = tuple(map(choice_of, self.methods))
        if PAPER not in {choice.name for choice in chosen}:
            chosen = (Choice(PAPER), *chosen)
        object.__setattr__(self, "methods", tuple({choice.name: choice for choice in chosen}.values()))
        if self.max_length < 1:
            raise InputError(f"The longest text must have 1 token or more, not {self.max_length}.")
        if self.keep < 1:
            raise InputError(f"The number of kept directions must be 1 or more, not {self.keep}.")
        if self.pooling not in ("mean", "continuation", "last"):
            raise InputError(f"Pooling is mean, continuation or last, not “{self.pooling}”.")
        if self.sinks not in ("leave-out", "keep"):
            raise InputError(f"Sinks are leave-out or keep, not “{self.sinks}”.")
        if self.budget not in BUDGETS:
            raise InputError(f"The budget is gentle or strong, not “{self.budget}”.")

    def with_options(self, options: Mapping[str, Any]) -> FitPlan:
        """This plan, the options of its methods out of those of every method, by name."""
        return replace(self, methods=tuple(choice.among(options) for choice in self.methods))
