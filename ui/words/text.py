"""Texts and tokens of others as escaped HTML, with toxic words marked so that they can be blurred.

In HTML a toxic word is a span of class “rude”, which the style sheet blurs unless the person shows words. Where
there is no HTML (charts, tables) `mask` leaves its first letter: i••••.
"""

import html
import re
import textwrap
from collections.abc import Sequence

from ui.words.rude_words import _rude_spans, is_rude_token, mask

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def escape(text: str, quote: bool = True) -> str:
    """`text` as HTML that shows exactly its characters: no markup, no control or direction characters at work.

    Args:
        quote: whether quotes are escaped too; charts, which know little HTML, show them as they are.
    """
    return html.escape(_CONTROL.sub(lambda match: _picture(match[0]), text), quote)


def _picture(character: str) -> str:
    return chr(0x2400 + ord(character)) if ord(character) < 0x20 else "�"


def plain(text: str) -> str:
    """`text` as Markdown that shows exactly its characters."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", _CONTROL.sub(lambda match: _picture(match[0]), text))


def chart_label(prompt: str) -> str:
    """The end of a prompt as a chart's label, which would otherwise read markup in it."""
    short = prompt if len(prompt) <= 80 else "…" + prompt[-80:]
    return short.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")


def chart_html(text: str) -> str:
    """A text as a chart shows it, its lines below one another."""
    return escape(text, quote=False).replace("\n", "<br>")


def hover_label(text: str, shown: bool) -> str:
    """A text as a chart's hover says it: masked, wrapped, and with no markup at work."""
    lines = textwrap.wrap(mask(text, shown), 60, max_lines=5, placeholder=" …") or [" "]
    return chart_html("\n".join(lines))


def text_html(text: str) -> str:
    """A text of others as HTML, its rude words marked."""
    return pieces_html([text])[0]


ENDING = "So the model ends the word that this token begins."
"""What is said of such an ending to whoever points at it."""


def token_html(token: str, word: str = "") -> str:
    """A single token, as the lens shows it, as HTML; and, paler, what the model ends the word with that it begins."""
    ending = word.removeprefix(token)
    shown = escape(token) + (f'<i class="ending" title="{ENDING}">{escape(ending)}</i>' if ending else "")
    return f'<span class="rude">{shown}</span>' if is_rude_token(word or token) else shown


def pieces_html(pieces: Sequence[str]) -> list[str]:
    """Consecutive pieces of one text as HTML; a rude word is marked even where it runs over several pieces."""
    joined = "".join(pieces)
    spans = _rude_spans(joined)
    rendered, start = [], 0
    for piece in pieces:
        end = start + len(piece)
        parts, at = [], start
        for low, high in spans:
            low, high = max(low, start), min(high, end)
            if low < high:
                parts.append(escape(joined[at:low]))
                parts.append(f'<span class="rude">{escape(joined[low:high])}</span>')
                at = high
        parts.append(escape(joined[at:end]))
        rendered.append("".join(parts))
        start = end
    return rendered
