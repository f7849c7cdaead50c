"""A direction in numbers and in tokens."""

from dataclasses import dataclass

from detox_engine.reading.lens import Reading


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
