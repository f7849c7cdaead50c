"""Which directions are read, where they are looked for, and how texts are laid out along them or in two dimensions."""

from dataclasses import dataclass
from typing import Literal

from detox_engine.errors import InputError
from detox_engine.plans.edit import SUGGESTION
from detox_engine.plans.layers import LAYERS
from detox_engine.plans.option import option

Measure = Literal["causal", "lens", "product"]
"""How a direction is read as tokens: by what its removal changes, through the logit lens, or by the plain product with
the unembedding."""
MapMethod = Literal["pca", "umap"]
MapFrame = Literal["before", "both"]
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


@dataclass(frozen=True)
class MapPlan:
    """How the embeddings of a layer are laid out in two dimensions."""

    method: MapMethod = option(
        "pca",
        "How texts are laid out: pca, a flat shadow, or umap, which keeps neighbours near.",
        "--method",
    )
    frame: MapFrame = option(
        "before",
        "What the layout is fitted on: the texts before the edit, or both before and after.",
        "--frame",
        link="map_frame",
        words={"before": "The texts before the edit", "both": "All states that are there"},
    )
    neighbours: int = option(
        15, "Neighbours that UMAP keeps near each text.", "--neighbours", link="neighbours", low=2, high=200, step=1
    )
    spread: float = option(
        0.1,
        "Least distance between two texts in UMAP's layout; 0 packs them.",
        "--spread",
        link="spread",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    seed: int = option(0, "Seed of UMAP's draws.", "--seed", link="map_seed", low=0, high=2**32 - 1, step=1)

    def __post_init__(self) -> None:
        if self.method not in ("pca", "umap"):
            raise InputError(f"The method of a map is pca or umap, not “{self.method}”.")
        if self.frame not in ("before", "both"):
            raise InputError(f"A map is fitted on before or on both, not on “{self.frame}”.")
        if self.neighbours < 2:
            raise InputError(f"UMAP needs 2 neighbours or more, not {self.neighbours}.")
        if not 0 <= self.spread <= 1:
            raise InputError(f"The least distance of UMAP lies between 0 and 1, not at {self.spread}.")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"The seed of UMAP lies between 0 and {2**32 - 1}, not at {self.seed}.")
