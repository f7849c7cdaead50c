"""Pairs as a list: each prompt with its toxic and its civil text side by side, and what was noticed about them."""

from __future__ import annotations

from collections.abc import Sequence

from detox_engine.data.columns import Pair
from ui.words.text import escape, text_html


def filter_pairs(pairs: Sequence[Pair], flaws: Sequence[Sequence[str]], words: str, only_flawed: bool) -> Sequence[int]:
    """Indices of the pairs that hold all of `words` in any of their texts, and a flaw if that is asked for."""
    wanted = words.casefold().split()
    if not wanted and not only_flawed:
        return range(len(pairs))
    return [
        index
        for index, pair in enumerate(pairs)
        if (flaws[index] or not only_flawed)
        and all(word in f"{pair.prompt} {pair.toxic} {pair.civil}".casefold() for word in wanted)
    ]


def pairs_html(pairs: Sequence[tuple[Pair, Sequence[str]]]) -> str:
    """A table of pairs, each with its flaws, as HTML; their texts are escaped and their rude words marked."""
    prompts = any(pair.prompt for pair, _ in pairs)
    head = ("<th>Prompt</th>" if prompts else "") + '<th class="toxic">Toxic</th><th class="civil">Civil</th>'
    rows = "".join(_row_html(pair, flaws, prompts) for pair, flaws in pairs)
    return f'<table class="pairs"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _row_html(pair: Pair, flaws: Sequence[str], prompts: bool) -> str:
    prompt = f'<td dir="auto">{text_html(pair.prompt)}</td>' if prompts else ""
    noticed = "".join(f'<span class="flaw">{escape(flaw)}</span>' for flaw in flaws)
    return (
        f'<tr>{prompt}<td dir="auto">{text_html(pair.toxic.strip())}{noticed}</td>'
        f'<td dir="auto">{text_html(pair.civil.strip())}</td></tr>'
    )
