"""The picks of the Spectrum."""

from dataclasses import dataclass
from typing import Literal

from ui.session.picks import Picks, pick

Scale = Literal["shares", "cumulative", "values"]
SCALES = {"shares": "Share", "cumulative": "Added up", "values": "Raw value"}


@dataclass(frozen=True)
class SpectrumPicks(Picks):
    """What is shown of the singular values."""

    scale: Scale = pick("shares", "scale", words=SCALES)
