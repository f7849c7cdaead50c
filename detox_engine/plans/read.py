"""Which directions are read, and where they are looked for."""

from dataclasses import dataclass
from typing import Literal

from detox_engine.errors import InputError
from detox_engine.plans.edit import SUGGESTION
from detox_engine.plans.layers import LAYERS
from detox_engine.plans.option import option

Measure = Literal["causal", "lens", "product"]
"""How a direction is read as tokens: by what its removal changes, through the logit lens, or by the plain product with
the unembedding."""
DIRECTIONS_SHOWN = 3


@dataclass(frozen=True)
class ReadPlan:
    """Which directions are read as tokens, and how."""

    layers: tuple[int, ...] = option(
        (), "Layers to read, such as 4-7, 3, all or 2,5-7.", "--layers", form=LAYERS, usual=SUGGESTION
    )
    rank: int = option(
        DIRECTIONS_SHOWN,
        "Directions to read in each layer, strongest first.",
        "--rank",
        usual=f"{DIRECTIONS_SHOWN}, or all where fewer were kept",
    )
    top: int = option(10, "Tokens listed at each pole.", "--top", low=1)
    measure: Measure = option(
        "causal",
        "How a direction is read: by what its removal changes in what follows some prompts, through the logit lens, or "
        "by its plain product with the unembedding.",
        "--measure",
    )
    method: str | None = option(
        None, "The method whose directions are read, by its name.", "--method", usual=SUGGESTION
    )

    def __post_init__(self) -> None:
        if self.top < 1:
            raise InputError(f"List 1 token or more at each pole, not {self.top}.")


@dataclass(frozen=True)
class LensPlan:
    """On which directions the tokens of a text are measured."""

    layers: tuple[int, ...] = option(
        (), "Layers to look at, such as 4-7, 3, all or 2,5-7.", "--layers", form=LAYERS, usual=SUGGESTION
    )
    rank: int | None = option(
        None, "Measure the length on the subspace of this many directions.", "--rank", usual=SUGGESTION
    )
    direction: int | None = option(
        None,
        "Measure the signed projection on this direction of each layer instead.",
        "--direction",
        usual="the length",
    )
    method: str | None = option(
        None, "The method whose directions are looked at, by its name.", "--method", usual=SUGGESTION
    )
