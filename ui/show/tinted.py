"""A text whose tokens are coloured by a number: of its own, or by how far they lie along directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ui.words.rude_words import mask_pieces, mask_token
from ui.words.text import escape, pieces_html

if TYPE_CHECKING:
    from detox_engine.reading.token_lens import ProjectionScale, TokenProjections

SIDES = ("Before the edit", "After the edit")

LONG = 300
"""Tokens from which on a text scrolls in a box of its own."""
STRONGEST = 58
"""Per cent of colour at the end of the scale, so that letters stay readable on it."""


def tinted_html(
    pieces: Sequence[str], shares: Sequence[float], said: Sequence[str], hatched: Sequence[bool] = ()
) -> str:
    """Consecutive pieces of a text, each coloured by its share of the scale and with words for whoever points at it.

    Args:
        shares: 1 is the end of the scale toward toxic, −1 that toward civil.
        hatched: which have no colour of the scale; none where it is empty.
    """
    spans, waiting = [], 0
    for place, piece in enumerate(pieces_html(pieces)):
        if not piece:
            # Part of a character, which its last token stands for: a box in between would tear the script apart.
            waiting += 1
            continue
        side = "civil" if shares[place] < 0 else "toxic"
        side += " hatched" if len(hatched) and hatched[place] else ""
        colour = f"--share: {STRONGEST * min(1.0, abs(shares[place])):.0f}%"
        tip = escape(said[place])
        if waiting:
            tip += f" · the last of {waiting + 1} tokens here"
        waiting = 0
        inner = piece.replace("\n", '<span class="break">↵</span>\n')
        spans.append(f'<span class="k {side}" style="{colour}" data-tip="{tip}">{inner}</span>')
    # Whoever has no mouse scrolls a box that can be focused.
    kind = '"lit long" tabindex="0"' if len(spans) > LONG else '"lit"'
    return f'<p class={kind} dir="auto">{"".join(spans)}</p>'


@dataclass(frozen=True)
class Measure:
    """What colours a token: its projection on one direction, or its length on the subspace of the first ones."""

    signed: bool
    """Whether it is the projection, which has a sign: above 0 is toward toxic."""
    number: int
    """The direction, from 0, or how many directions the length is taken on."""

    @property
    def words(self) -> str:
        return f"along direction {self.number + 1}" if self.signed else f"length on {self.number} directions"


@dataclass(frozen=True, eq=False)
class Lit:
    """A text in one state, measured at every layer."""

    title: str
    tokens: tuple[str, ...]
    pieces: tuple[str, ...]
    values: np.ndarray
    """`[layers, tokens]`."""
    shares: np.ndarray
    """The same divided by where the colours of each layer end: 1 is the end of the scale, −1 that of the other side."""
    next: Sequence[Sequence[Sequence]]
    """`[layers][tokens]` the most probable next tokens there; of fewer tokens than the text where it is long, and
    empty until they have been read."""
    sinks: np.ndarray
    """`[layers, tokens]` bool, which states are attention sinks'."""

    @cached_property
    def _masked(self) -> list[str]:
        return mask_pieces(self.tokens, self.pieces, shown=False)

    def name(self, place: int, shown: bool) -> str:
        """A token where it cannot be blurred: masked where it is part of a rude word of the text."""
        return self.tokens[place] if shown else self._masked[place]


def light(found: TokenProjections, follows: Sequence[Sequence], scale: ProjectionScale, measure: Measure) -> list[Lit]:
    """The states of one text: before the edit and, where there is one, after it.

    Args:
        follows: `[sides][layers][tokens]` the most probable next tokens; empty until they have been read.
    """
    ends = ends_of(scale, measure)
    states = []
    for after, title in enumerate(SIDES[: 1 if found.after is None else 2]):
        measured = (found.along if measure.signed else found.norms)(measure.number, bool(after))
        values = measured.numpy()
        follow = follows[after] if follows else ()
        sinks = np.zeros(values.shape, dtype=bool) if found.sinks is None else found.sinks.numpy()
        shares = np.where(sinks, 0, values / ends[:, None])
        states.append(Lit(title, found.text.tokens, found.text.pieces, values, shares, follow, sinks))
    return states


def ends_of(scale: ProjectionScale, measure: Measure) -> np.ndarray:
    """`[layers]` where the colours end."""
    ends = scale.directions[:, measure.number] if measure.signed else scale.norms[:, measure.number - 1]
    return np.maximum(ends.numpy(), 1e-9)


def texts_html(name: str, states: Sequence[Lit], layer: int, signed: bool, shown: bool) -> str:
    """One text in each of its states beside one another, each token coloured."""
    blocks = "".join(
        f'<section class="{("before", "after")[place]}"><h4>{lit.title}</h4>{lit_html(lit, layer, signed, shown)}'
        "</section>"
        for place, lit in enumerate(states)
    )
    return f'<div class="lens"><h3 class="card">{name}</h3><div class="sides">{blocks}</div></div>'


def lit_html(lit: Lit, layer: int, signed: bool, shown: bool) -> str:
    """The text with each token coloured by its value at `layer`, and words on each for whoever points at it."""
    said = [say_token(lit, layer, place, signed, shown) for place in range(len(lit.pieces))]
    return tinted_html(lit.pieces, lit.shares[layer], said, lit.sinks[layer])


def say_token(lit: Lit, layer: int, place: int, signed: bool, shown: bool, link: str = " · ") -> str:
    """A cell in plain words: the token, its number, and what the model would write next there."""
    token = lit.name(place, shown)
    value = say_value(lit.values[layer, place], signed)
    if lit.sinks[layer, place]:
        value = f"an attention sink, outside the scale ({value})"
    parts = [f"“{token}”, layer {layer}", value]
    if follow := say_next(lit, layer, place, shown):
        parts.append(f"next here: {follow}")
    return link.join(parts)


def say_next(lit: Lit, layer: int, place: int, shown: bool) -> str:
    """The most probable next tokens there; nothing where they have not been read."""
    if not lit.next or place >= len(lit.next[layer]):
        return ""
    return ", ".join(f"{mask_token(score.token, shown)} {say_chance(score.score)}" for score in lit.next[layer][place])


def say_chance(probability: float) -> str:
    return f"{probability:.0%}" if probability >= 0.005 else "<1%"


def say_value(value: float, signed: bool) -> str:
    if not signed:
        return f"length {value:.2f}"
    if abs(value) < 0.005:
        return "0.00, toward neither side"
    return f"{abs(value):.2f} toward {'toxic' if value > 0 else 'civil'}"


def scale_html(signed: bool, ends: float) -> str:
    """The colour scale of a layer: where it ends, in the measure's own unit."""
    low = f"{ends:.2f} toward civil" if signed else "0"
    high = f"{ends:.2f} toward toxic" if signed else f"length {ends:.2f}"
    kind = "signed" if signed else "length"
    return f'<div class="lens-scale"><span>{low}</span><i class="{kind}"></i><span>{high} or more</span></div>'
