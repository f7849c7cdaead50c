"""Pairs that a direction sets apart, as HTML: each token coloured by what it adds to its text's place along it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from ui.show.downloads import Table
from ui.show.tinted import tinted_html
from ui.words.numbers import signed
from ui.words.rude_words import mask_pieces
from ui.words.text import text_html

if TYPE_CHECKING:
    from detox_engine.data.columns import Pair
    from detox_engine.reading.pairs import CarriedText, TellingPairs


@dataclass(frozen=True, eq=False)
class CarriedPair:
    """A pair, how far a direction sets it apart, and the tokens that do so."""

    index: int
    pair: Pair
    times: float
    """The difference over the typical one of all pairs; below 0 the toxic text lies nearer to the civil pole."""
    toxic: CarriedText
    civil: CarriedText


def pairs_html(found: TellingPairs[CarriedPair], shown: bool) -> str:
    """The pairs that a direction sets apart most, and folded away those that it hardly sets apart or turns round."""
    end = find_end(found.pairs)

    def listed(pairs: Sequence[CarriedPair]) -> str:
        return "".join(carried_html(one, end, shown) for one in pairs)

    folded = (
        ("Hardly set apart", found.least),
        ("The other way round: the toxic text lies nearer to the civil pole", found.against),
    )
    rest = "".join(
        f"<details><summary>{title} ({len(pairs)})</summary>{listed(pairs)}</details>"
        for title, pairs in folded
        if pairs
    )
    most = f"<h4>Set apart most</h4>{listed(found.most)}" if found.most else ""
    return f'<div class="pairs-apart">{most}{rest}</div>'


def find_end(pairs: Sequence[CarriedPair]) -> float:
    """Where colours end: the largest contribution of a token that is not its text's first.

    Many models park attention on the first token, in a state of enormous norm.
    """
    found = [
        abs(value) for one in pairs for side in (one.toxic, one.civil) for value in side.contributions[1:].tolist()
    ]
    return max(found, default=0.0) or 1.0


def carried_html(one: CarriedPair, end: float, shown: bool) -> str:
    """A pair with the tokens of its two texts coloured; its prompt, which both share, is not.

    Args:
        end: where the colours end, see `find_end`.
        shown: whether toxic words are shown in what a token says when it is pointed at.
    """
    prompt = f'<div class="prompt">{text_html(one.pair.prompt)}</div>' if one.pair.prompt else ""
    sides = "".join(
        f'<div class="side {name.lower()}"><b>{name}</b> <span class="aside">{signed(total, decimals=2)}</span>'
        f"{_side_html(carried, len(one.pair.prompt), end, shown)}</div>"
        for name, carried in (("Toxic", one.toxic), ("Civil", one.civil))
        for total in [float(carried.contributions.sum())]
    )
    return (
        f'<div class="pair"><div class="times">{abs(one.times):.1f} × the typical difference</div>{prompt}{sides}</div>'
    )


def _side_html(carried: CarriedText, prompt: int, end: float, shown: bool) -> str:
    """The part of a text that follows its prompt of so many characters."""
    text = carried.text
    ends = list(accumulate(len(piece) for piece in text.pieces))
    first = next((place for place, last in enumerate(ends) if last > prompt), len(ends))
    if first == len(ends):
        return '<p class="aside">Cut off before it begins.</p>'
    added = carried.contributions[first:].tolist()
    said = [
        f"“{token}” adds {signed(value, decimals=2)}"
        for token, value in zip(mask_pieces(text.tokens, text.pieces, shown)[first:], added, strict=True)
    ]
    cut = f'<p class="aside">Its last {text.cut:,} tokens were cut off.</p>' if text.cut else ""
    return tinted_html(text.pieces[first:], [value / end for value in added], said) + cut


def list_tokens(pairs: Sequence[CarriedPair]) -> Table:
    """Every token of the pairs' texts as a row, those of the prompts included."""
    heads = ("pair", "times", "side", "place", "token", "contribution", "projection")
    rows = [
        (one.index + 1, one.times, side, place, *numbers)
        for one in pairs
        for side, carried in (("toxic", one.toxic), ("civil", one.civil))
        for place, numbers in enumerate(
            zip(carried.text.tokens, carried.contributions.tolist(), carried.projections.tolist(), strict=True), 1
        )
    ]
    return heads, rows
