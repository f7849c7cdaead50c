"""The picks of the Directions page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from detox_engine.plans.layers import format_directions, parse_directions
from detox_engine.plans.option import Form
from detox_engine.plans.read import Measure
from ui.session.picks import Picks, pick
from ui.session.view import Place

if TYPE_CHECKING:
    from detox_engine.study.study import Study

PINS = Form(format_directions, lambda text: tuple(dict.fromkeys(parse_directions(text))))


@dataclass(frozen=True)
class DirectionsPicks(Picks):
    """How tokens are read, and what is kept in sight."""

    measure: Measure = pick(
        "causal",
        "measure",
        "The causal reading tells what the model says less and more without the picked direction. The logit lens tells "
        "which tokens' vectors point along it. The product with them favours long vectors, often those of rare tokens.",
        words={"causal": "Causal, then logit lens", "lens": "Logit lens", "product": "Product"},
    )
    show_all: bool = pick(False, "all")
    pins: tuple[Place, ...] = pick((), "pins", form=PINS)
    """In the order they were pinned."""

    @property
    def listed(self) -> Measure:
        """How all directions of a layer are read at once; the causal reading is of one at a time."""
        return "product" if self.measure == "product" else "lens"

    def within(self, study: Study) -> DirectionsPicks:
        pins = (
            (layer, direction)
            for layer, direction in self.pins
            if layer < study.layers and direction < study.subspaces[layer].kept
        )
        return replace(self, pins=tuple(pins))

    def of_another_study(self) -> DirectionsPicks:
        return replace(self, pins=())
