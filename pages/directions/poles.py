"""Directions in words and as tables: what their numbers mean, and every token at their poles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from detox_engine.estimates import estimate_share
from ui.show.downloads import Table
from ui.words.rude_words import mask_token

if TYPE_CHECKING:
    from detox_engine.reading.causal import CausalReading
    from detox_engine.reading.directions import DirectionReading

TELLS, PARTLY = 0.6, 0.25
"""Polarities from which on a direction tells toxic from civil, or does so in part."""

NAMED = 5
"""Tokens that a sentence names."""


def describe_polarity(polarity: float) -> str:
    """What a polarity, 0 to 1, says about a direction."""
    if polarity >= TELLS:
        return "Tells toxic from civil."
    if polarity >= PARTLY:
        return "Partly tells toxic from civil."
    return "Varies within toxic text rather than between the sides."


def tell_direction(
    entry: DirectionReading, pairs: int, agreeing: int | None, causal: CausalReading | None, shown: bool
) -> str:
    """Whether a direction tells toxic from civil, in how many pairs, and what it makes the model say.

    Args:
        agreeing: pairs whose toxic text lies nearer to the toxic pole; None where the embeddings were not kept.
        causal: None where it is not read, or not yet.
        shown: whether toxic words are shown rather than masked.
    """
    meaning = describe_polarity(entry.polarity)
    words = [f"Direction {entry.direction + 1} of layer {entry.layer} {meaning[:1].lower()}{meaning[1:]}"]
    if agreeing is not None:
        share = estimate_share(agreeing / pairs, pairs)
        words.append(
            f"In {agreeing:,} of {pairs:,} pairs, which it was found from, the toxic text lies nearer to its toxic "
            f"pole ({share.mean:.1%}, 95 %: {share.low:.1%} to {share.high:.1%})."
        )
    if causal is not None:
        words.append(_tell_causal(causal, shown))
    return " ".join(words)


def _tell_causal(found: CausalReading, shown: bool) -> str:
    """What its removal takes from the model, where that is more than chance and reads as words."""
    if not found.is_readable:
        return (
            f"What it makes the model say cannot be read as words: of {found.tokens:,} likely tokens its removal "
            f"changes {found.read:,} by more than a random direction does."
        )
    named = [mask_token(end.word, shown).strip("·") for end in found.toxic_pole if end.is_read][:NAMED]
    many = f"{found.read:,} of {found.tokens:,} likely tokens by more than a random direction does"
    return f"Its removal changes {many}; it takes most from {', '.join(f'“{token}”' for token in named)}."


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


def list_effects(found: CausalReading) -> Table:
    """Every listed token of a causal reading as a row."""
    rows = [
        (pole, end.token, end.ending, end.score, end.low, end.high, end.is_read)
        for pole, ends in (("toxic", found.toxic_pole), ("civil", found.civil_pole))
        for end in ends
    ]
    return ("pole", "token", "ending", "score", "low", "high", "is_read"), rows


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
