"""How embeddings are taken, and what of them a study keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from detox_engine.errors import InputError
from detox_engine.plans.choice import CHOICE, Choice, choice_of
from detox_engine.plans.option import option
from detox_engine.plans.sources import PairSpec

Pooling = Literal["mean", "continuation", "last"]


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
    method: Choice = option(
        Choice("detox"), "Method that finds the directions, by its name.", "--method", link="method", form=CHOICE
    )
    """A name alone is a choice with the options that are usual."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", choice_of(self.method))
        if self.max_length < 1:
            raise InputError(f"The longest text must have 1 token or more, not {self.max_length}.")
        if self.keep < 1:
            raise InputError(f"The number of kept directions must be 1 or more, not {self.keep}.")
        if self.pooling not in ("mean", "continuation", "last"):
            raise InputError(f"Pooling is mean, continuation or last, not “{self.pooling}”.")

    def with_options(self, options: Mapping[str, Any]) -> FitPlan:
        """This plan, the options of its method out of those of every method, by name."""
        return replace(self, method=self.method.among(options))
