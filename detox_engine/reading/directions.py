"""A direction in numbers and in tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from detox_engine.edit.low_rank import make_edit
from detox_engine.errors import Progress, ignore_progress
from detox_engine.model.load import OpenModel
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import PAPER
from detox_engine.plans.read import Measure
from detox_engine.reading.causal import read_causally, run_clean
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
    measure: Measure = "lens",
    method: str = PAPER,
    progress: Progress = ignore_progress,
) -> tuple[DirectionReading, ...]:
    """The first `rank` directions that a method found in each of `layers`, in tokens, layer by layer, strongest first.

    Raises:
        InputError: the study is of another model, has no such layer or direction, or the model cannot be run (see
            `run_clean`).
    """
    study.require_fit(model)
    bases = make_edit(study.of(method), EditPlan(tuple(layers), rank)).bases
    clean = run_clean(model, tuple(bases), progress=progress) if measure == "causal" else None
    found = []
    for place, (layer, basis) in enumerate(bases.items()):

        def tell(stage: str, done: int, total: int, before: int = place) -> None:
            progress(stage, before * total + done, len(bases) * total)

        if clean is None:
            readings = read_tokens(basis, model, top, measure, judge=True)
        else:
            readings = read_causally(model, clean, layer, basis, top, study.massive_dimensions, tell)
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
            for direction, reading in enumerate(readings)
        )
    return tuple(found)
