"""What the lesson shows as HTML: a list of numbers, words of mean directions, and what edits do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ui.words.numbers import number
from ui.words.text import escape, text_html, token_html

if TYPE_CHECKING:
    from pages.learn.work import Change, Mean

FIRST_NUMBERS = 12


def embedding_html(text: str, values: Sequence[float]) -> str:
    """A text, and the first numbers of its embedding."""
    first = values[:FIRST_NUMBERS]
    numbers = ", ".join(number(value, decimals=2) for value in first)
    return (
        f'<div class="lesson-embedding"><p dir="auto">{text_html(text)}</p><p aria-hidden="true">↓</p>'
        f"<p><code>{numbers}, …</code></p>"
        f'<p class="aside">The first {len(first)} of {len(values)} numbers.</p></div>'
    )


def mean_html(found: Mean) -> str:
    """The words along the mean direction, layer by layer."""
    rows = "".join(
        f'<tr><th scope="row">{layer}</th><td>'
        + " ".join(f"<code>{token_html(end.token)}</code>" for end in reading.toxic_pole)
        + "</td></tr>"
        for layer, reading in zip(found.layers, found.readings, strict=True)
    )
    return (
        '<table class="figures lesson-words"><thead><tr><th scope="col">Layer</th>'
        f'<th scope="col">Words furthest along its mean direction</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def changes_html(rows: Sequence[tuple[str, Change, Change]]) -> str:
    """Rude words and perplexity, before and after, for each edit by its name."""
    cells = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{_change_html(rude)}</td><td>{_change_html(cost)}</td></tr>'
        for name, rude, cost in rows
    )
    return (
        '<table class="figures lesson-changes"><thead><tr><th scope="col">Edit</th>'
        '<th scope="col">Probability of rude words</th><th scope="col">Perplexity of ordinary text</th></tr></thead>'
        f"<tbody>{cells}</tbody></table>"
    )


def _change_html(change: Change) -> str:
    low, high = (number(each, decimals=2) for each in (change.low, change.high))
    return (
        f"{number(change.before, change.after)} → <b>{number(change.after, change.before)}</b>"
        f'<br><span class="aside">× {number(change.ratio, decimals=2)} (95 %: {low} to {high})</span>'
    )
