"""A direction in numbers and in tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from detox_engine.edit.low_rank import make_edit
from detox_engine.model.load import OpenModel
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import PAPER
from detox_engine.plans.read import Measure
from detox_engine.reading.lens import Reading, read_tokens
from detox_engine.study.study import Study


@dataclass(frozen=True)
class DirectionReading:
    """One direction of one layer, in numbers and in tokens."""

    layer: int
    direction: int
    singular_value: float
    share: float
    """Of the variance of the layer's centred differences."""
    polarity: float
    reading: Reading


def read_directions(
    model: OpenModel,
    study: Study,
    layers: Sequence[int],
    rank: int,
    top: int = 10,
    measure: Measure = "product",
    through_norm: bool = False,
    method: str = PAPER,
) -> tuple[DirectionReading, ...]:
    """The first `rank` directions that a method found in each of `layers`, in tokens, layer by layer, strongest first.

    Raises:
        InputError: the study is of another model, or has no such layer or direction.
    """
    study.require_fit(model)
    bases = make_edit(study.of(method), EditPlan(tuple(layers), rank)).bases
    found = []
    for layer, basis in bases.items():
        subspace = study.of(method)[layer]
        shares = subspace.shares
        found.extend(
            DirectionReading(
                layer,
                direction,
                float(subspace.singular_values[direction]),
                float(shares[direction]),
                float(subspace.polarity[direction]),
                reading,
            )
            for direction, reading in enumerate(read_tokens(basis, model, top, measure, through_norm))
        )
    return tuple(found)
