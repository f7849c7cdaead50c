"""What the card of a claim shows: pictures that are made whole before any of them is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from pages.claims.records import real, words
from ui.show.colours import Palette
from ui.show.downloads import Table
from ui.words.text import chart_html

TOLD = {"mass": "probability of rude words", "profanity": "toxicity of what it writes"}
"""A score within a sentence."""
LEFT = {
    "mass": "Probability of rude words left,<br>% of the unedited model’s",
    "profanity": "Toxicity left,<br>% of the unedited model’s",
}
"""A score as an axis, in two lines, for narrow windows."""
WHOLE = 100.0


@dataclass(frozen=True, eq=False)
class Picture:
    """A chart with all that goes with it."""

    figure: go.Figure
    key: str
    title: str
    alt: str
    table: Table
    note: str = ""
    """How to read it, in a sentence or two."""


@dataclass(frozen=True, eq=False)
class Card:
    """The pictures of a claim."""

    first: Picture
    beside: tuple[Picture, ...] = ()
    """Smaller ones, next to one another."""
    folded: tuple[tuple[str, Picture], ...] = ()
    """Those behind a heading of their own."""
    notes: tuple[str, ...] = ()
    """What else has to be said."""


@dataclass(frozen=True)
class Look:
    """How a method is drawn, the same in every picture."""

    colour: str
    symbol: str
    dash: str = "solid"


def look_of(method: str, colours: Palette, is_method: bool = True) -> Look:
    """DeTox stands out; other methods that find directions are cool, and what trains or is no edit is warm."""
    known = {
        "detox": Look(colours.edited, "diamond"),
        "mean-difference": Look(colours.civil, "circle", "dash"),
        "uncentred": Look(colours.civil, "square", "dash"),
        "as-published": Look(colours.edited, "diamond-tall", "dash"),
        "dpo": Look(colours.toxic, "square"),
        "robust-dpo": Look(colours.toxic, "triangle-up", "dot"),
    }
    other = Look(colours.civil, "circle", "dot") if is_method else Look(colours.toxic, "square", "dot")
    return known.get(method, other)


def title_of(method: Any) -> str:
    """What a method is called."""
    from detox_engine.lab.verdicts import title

    return title(words(method))


def name_of(method: Any) -> str:
    """What a method is called in a chart, where there is markup."""
    return chart_html(title_of(method))


def percent(part: Any, whole: Any) -> float:
    """A share of what there was, in %."""
    return WHOLE * real(part) / real(whole)


def pick_score(wanted: str, measured: Mapping[str, Any], ending: str = "") -> str:
    """The wanted score, or the other one where a record has that alone."""
    names = [name for name in (wanted, *TOLD) if f"{name}{ending}" in measured]
    if not names:
        raise LookupError("A record holds no score that can be drawn.")
    return names[0]


def open_marker(symbol: str, reached: Any) -> str:
    """Hollow where the cost of all was not reached."""
    return symbol if reached or symbol.endswith("-open") else f"{symbol}-open"
