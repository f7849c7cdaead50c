"""The same colour for the same thing on every page, told apart by people with colour blindness too."""

from __future__ import annotations

from dataclasses import dataclass

SYMBOLS = ("circle", "diamond")
"""Of toxic and of civil texts: colour alone does not tell the sides apart."""


@dataclass(frozen=True)
class Palette:
    """Colours for one theme, after Okabe and Ito; the style sheet has the same."""

    toxic: str
    civil: str
    edited: str
    quiet: str
    line: str
    background: str
    ramp: tuple[str, ...]
    """From nothing to most, for heatmaps."""

    @property
    def is_dark(self) -> bool:
        return self.background != "#ffffff"

    @property
    def ink(self) -> str:
        """What is farthest from the background."""
        return "#ffffff" if self.is_dark else "#15161d"


LIGHT = Palette(
    "#d55e00",
    "#0072b2",
    "#009e73",
    "#5c5f70",
    "#d9dae3",
    "#ffffff",
    ("#f6f5f9", "#fbd9bd", "#ef9a58", "#d55e00", "#7a3300"),
)
DARK = Palette(
    "#ff9a4d",
    "#56b4e9",
    "#2fc79a",
    "#a6a9ba",
    "#3a3d4c",
    "#15161d",
    ("#1d1f29", "#54331d", "#a45a22", "#ff9a4d", "#ffe1c7"),
)


def palette(theme: str | None) -> Palette:
    """The colours for Streamlit's theme type “light” or “dark”."""
    return DARK if theme == "dark" else LIGHT


def see_through(colour: str, opacity: float) -> str:
    """A colour of a palette for an area behind which something is to be seen."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def mix(first: str, second: str, share: float) -> str:
    """The colour that lies between two of a palette, `share` of the way to the second."""
    ends = [[int(colour[start : start + 2], 16) for start in (1, 3, 5)] for colour in (first, second)]
    return "#" + "".join(f"{round(low + share * (high - low)):02x}" for low, high in zip(*ends, strict=True))
