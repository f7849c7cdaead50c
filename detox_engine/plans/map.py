"""How texts are laid out in two dimensions."""

from dataclasses import dataclass
from typing import Literal

from detox_engine.errors import InputError
from detox_engine.plans.option import option

Method = Literal["pca", "umap"]
Frame = Literal["before", "both"]


@dataclass(frozen=True)
class MapPlan:
    """How the embeddings of a layer are laid out in two dimensions."""

    method: Method = option(
        "pca",
        "How texts are laid out: pca, a flat shadow, or umap, which keeps neighbours near.",
        "--method",
    )
    frame: Frame = option(
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
