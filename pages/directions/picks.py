"""The picks of the Directions page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ui.session.picks import Picks, Place, pick

if TYPE_CHECKING:
    from detox_engine.study.study import Study

MEASURES = {"product": "Product", "cosine": "Cosine"}


@dataclass(frozen=True)
class DirectionsPicks(Picks):
    """How tokens are read, and what is kept in sight."""

    measure: Literal["product", "cosine"] = pick("product", "measure", words=MEASURES)
    through_norm: bool = pick(False, "norm")
    show_all: bool = pick(False, "all")
    pins: tuple[Place, ...] = pick((), "pins")
    """In the order they were pinned."""

    def within(self, study: Study) -> DirectionsPicks:
        pins = (
            (layer, direction)
            for layer, direction in self.pins
            if layer < study.layers and direction < study.subspaces[layer].kept
        )
        return replace(self, pins=tuple(pins))

    def of_another_study(self) -> DirectionsPicks:
        return replace(self, pins=())
