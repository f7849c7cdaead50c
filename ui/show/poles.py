"""The two ends of a direction as HTML: its tokens as bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ui.words.numbers import signed
from ui.words.text import escape, token_html

if TYPE_CHECKING:
    from detox_engine.reading.lens import Reading, TokenScore


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
        f'<li{_describe_chance(end)}><span class="token">{token_html(end.token, end.word)}</span>'
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
