"""Directions as HTML: the tokens at both poles as bars, and what the numbers mean in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ui.show.downloads import Table
from ui.words.numbers import signed
from ui.words.text import escape, token_html

if TYPE_CHECKING:
    from detox_engine.reading.causal import CausalReading
    from detox_engine.reading.directions import DirectionReading
    from detox_engine.reading.lens import Reading, TokenScore

TELLS, PARTLY = 0.6, 0.25
"""Polarities from which on a direction tells toxic from civil, or does so in part."""


def describe_polarity(polarity: float) -> str:
    """What a polarity, 0 to 1, says about a direction."""
    if polarity >= TELLS:
        return "Tells toxic from civil."
    if polarity >= PARTLY:
        return "Partly tells toxic from civil."
    return "Varies within toxic text rather than between the sides."


def meaning_html(entry: DirectionReading, pairs: int, agreeing: int | None, sure: bool) -> str:
    """A direction's numbers as small meters, and what they mean in words.

    Args:
        agreeing: pairs whose toxic text lies nearer to the toxic pole; None where the embeddings were not kept.
        sure: whether it is more than chance which pole is the toxic one.
    """
    words = [describe_polarity(entry.polarity)]
    if agreeing is not None:
        words.append(f"In {agreeing:,} of {pairs:,} pairs the toxic text lies nearer to the toxic pole.")
    if not sure:
        words.append("<b>Which pole is the toxic one is uncertain.</b>")
    return (
        f'<p class="meaning">{" ".join(words)}</p><div class="numbers">'
        f"{_meter('Share of variance', entry.share, f'{entry.share:.1%}')}"
        f"{_meter('Polarity', entry.polarity, f'{entry.polarity:.2f}')}"
        f'<div class="meter"><span>Singular value</span><b>{entry.singular_value:.2f}</b></div></div>'
    )


def _meter(label: str, share: float, value: str) -> str:
    return (
        f'<div class="meter"><span>{label}</span><b>{value}</b>'
        f'<div class="track"><i style="width: {min(1.0, share):.1%}"></i></div></div>'
    )


def poles_html(reading: Reading, left: str = "Toxic pole", right: str = "Civil pole", sided: bool = True) -> str:
    """Both ends of a direction as lists of bars on one scale; `sided` gives them the toxic and the civil colour."""
    longest = max((abs(end.score) for end in (*reading.toxic_pole, *reading.civil_pole)), default=0.0) or 1.0
    kinds = ("toxic", "civil") if sided else ("plain", "plain")
    return (
        f'<div class="poles">{_pole_html(left, kinds[0], reading.toxic_pole, longest)}'
        f"{_pole_html(right, kinds[1], reading.civil_pole, longest)}</div>"
    )


def _pole_html(title: str, kind: str, ends: Sequence[TokenScore], longest: float) -> str:
    rows = "".join(
        f'<li{_describe_chance(end)}><span class="token">{token_html(end.token)}</span>'
        f'<span class="bar"><i style="width: {abs(end.score) / longest:.1%}"></i></span>'
        f'<span class="score">{signed(end.score, decimals=2)}</span></li>'
        for end in ends
    )
    return f'<section class="{kind}"><h4>{escape(title)}</h4><ol>{rows}</ol></section>'


def _describe_chance(end: TokenScore) -> str:
    """The interval of a score that has one, for whoever points at it; what could be chance is pale."""
    low, high = getattr(end, "low", None), getattr(end, "high", None)
    if low is None:
        return ""
    pale = "" if end.is_read else ' class="pale"'
    return f'{pale} title="95 % interval {signed(low, decimals=2)} to {signed(high, decimals=2)}"'


def list_effects(found: CausalReading) -> Table:
    """Every listed token of a causal reading as a row."""
    rows = [
        (pole, end.token, end.score, end.low, end.high, end.is_read)
        for pole, ends in (("toxic", found.toxic_pole), ("civil", found.civil_pole))
        for end in ends
    ]
    return ("pole", "token", "score", "low", "high", "is_read"), rows


def list_readings(found: Sequence[DirectionReading]) -> Table:
    """Every token of every direction as a row."""
    heads = ("layer", "direction", "singular_value", "share", "polarity", "pole", "token", "score")
    rows = [
        (one.layer, one.direction, one.singular_value, one.share, one.polarity, pole, end.token, end.score)
        for one in found
        for pole, ends in (("toxic", one.reading.toxic_pole), ("civil", one.reading.civil_pole))
        for end in ends
    ]
    return heads, rows
