"""Parts of the Overview as HTML: the idea, the verdict, and the words of a direction."""

from __future__ import annotations

from collections.abc import Sequence

from pages.overview.opening import Words
from pages.overview.verdict import Verdict
from ui.words.text import escape, token_html

IDEAS = (
    ("①", "Provoked, a language model can go on rudely."),
    ("②", "Inside it, rude and civil texts part along a few directions: the toxic subspace."),
    ("③", "An edit takes them out of what its layers write, which should make rude words rarer and cost little else."),
)
"""What the page is about, each with the number of its picture."""


def ideas_html() -> str:
    return '<p class="idea">' + " ".join(f"<b>{sign}</b> {words}" for sign, words in IDEAS) + " Nothing is trained.</p>"


def verdict_html(verdict: Verdict) -> str:
    return f'<p class="finding {verdict.kind}" role="status"><b>{escape(verdict.head)}</b> {escape(verdict.words)}</p>'


def words_html(words: Words, layer: int) -> str:
    """What the first direction of a layer makes the model say, and what it keeps it from saying."""
    if not words.is_readable:
        return (
            f'<p class="said"><b>Direction 1 of layer {layer}</b> is not readable as words here: of {words.tokens:,} '
            f"likely tokens after {words.prompts:,} prompts, its removal changes too few by more than chance does.</p>"
        )
    less = _list_html("toxic", "Without it the model says less often", words.toxic)
    more = _list_html("civil", "and more often", words.civil)
    return f'<p class="said"><b>Direction 1 of layer {layer} in words.</b> {less} {more}</p>'


def _list_html(kind: str, lead: str, tokens: Sequence[str]) -> str:
    if not tokens:
        return ""
    # A space in front, shown as ·, tells pieces of words from whole ones, which nobody asks here.
    shown = "".join(f'<span class="word {kind}">{token_html(token.removeprefix("·"))}</span>' for token in tokens)
    return f"{lead} {shown}"
