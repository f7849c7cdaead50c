"""A text whose tokens are coloured by a number."""

from __future__ import annotations

from collections.abc import Sequence

from ui.words.text import escape, pieces_html

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
