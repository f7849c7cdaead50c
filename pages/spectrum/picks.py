"""The picks of the Spectrum."""

from dataclasses import dataclass
from typing import Literal

from ui.session.picks import Picks, pick

Scale = Literal["shares", "cumulative", "values"]
All = Literal["heatmap", "curves"]
SCALES = {"shares": "Share", "cumulative": "Added up", "values": "Raw value"}


@dataclass(frozen=True)
class SpectrumPicks(Picks):
    """What is shown of the singular values."""

    scale: Scale = pick("shares", "scale", words=SCALES)
    all: All = pick("heatmap", "spectra", words={"heatmap": "As a heatmap", "curves": "Laid over one another"})
    """How the spectra of all layers are drawn at once."""
