"""Texts and tokens of others as escaped HTML, with toxic words marked so that they can be blurred.

In HTML a toxic word is a span of class “rude”, which the style sheet blurs unless the person shows words. Where
there is no HTML (charts, tables) `mask` leaves its first letter: i••••.
"""

import html
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

RUDE_FROM = 0.8
"""A word on its own that the profanity scorer rates this high is blurred."""

INSULTS = frozenset(
    """arrogant arse ass blockhead blowhard brainless brat buffoon bum butt clown clueless coward cowards crap crappy
    creep cretin damn damned dang deadbeat dimwit dimwitted dolt dope dork dumb dumber dumbest dummy dunce fool foolish
    fools freak freeloader garbage git goof halfwit heck hell hopeless hypocrite idiocy idiot idiotic idiots imbecile
    imbeciles incompetent jerk jerks knucklehead lame lazy liar loser losers lousy lowlife moron moronic morons muppet
    nincompoop nitwit numbskull numpty oaf pathetic pest pig plonker prat rubbish scum slimy slob sleaze snob stupid
    stupidity suck sucks trash twerp twit useless weasel weirdo wimp worthless wretched""".split()  # noqa: SIM905
)
"""Ordinary insults and mild profanity, some of which the scorer does not know."""

HARMLESS = frozenset("bloody fat gay hate kill killed killing killer lose mom mouth queer ridiculous shut sick".split())  # noqa: SIM905
"""Names of groups and everyday words that the scorer rates as toxic on their own."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_MOST_KNOWN = 200_000

_known: dict[str, bool] = {}


def list_words(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return [word.lower() for word in _WORD.findall(text)]


def find_rude_words(texts: Iterable[str]) -> frozenset[str]:
    """The words of `texts`, in small letters, that are to be blurred."""
    return frozenset(word for word, rude in rate_words(texts).items() if rude)


def learn_words(rated: Mapping[str, bool]) -> None:
    """Take over what `rate_words` found in an earlier process, so that the scorer need not be loaded for it."""
    _known.update(rated)


def rate_words(texts: Iterable[str]) -> dict[str, bool]:
    """Each word of `texts`, in small letters, and whether it is to be blurred."""
    words = {word for text in texts for word in list_words(text)}
    new = [word for word in words if word not in _known]
    if new:
        from detox_engine.scorers.profanity import ProfanityScorer

        if len(_known) > _MOST_KNOWN:
            _known.clear()
        scores = ProfanityScorer().score(new)
        _known.update(
            (word, word in INSULTS or (score >= RUDE_FROM and word not in HARMLESS))
            for word, score in zip(new, scores, strict=True)
        )
    return {word: _known.get(word, False) for word in words}


def _is_piece_of_insult(piece: str) -> bool:
    """Whether a token such as “idi” gives an insult away: its beginning, and most of it."""
    return (
        len(piece) >= 3
        and piece not in HARMLESS
        and any(insult.startswith(piece) and len(piece) >= 0.6 * len(insult) for insult in INSULTS)
    )


@lru_cache(50_000)
def is_rude_token(token: str) -> bool:
    """Whether a token on its own, as the lens shows it, is to be blurred."""
    words = list_words(token)
    return bool(find_rude_words(words)) or any(_is_piece_of_insult(word) for word in words)


def _rude_spans(text: str) -> list[tuple[int, int]]:
    found = list(_WORD.finditer(text))
    rude = find_rude_words([text])
    return [match.span() for match in found if match[0].lower() in rude]


def mask(text: str, shown: bool) -> str:
    """`text` for where there is no blur: rude words keep their first letter, unless words are shown."""
    if shown:
        return text
    for start, end in reversed(_rude_spans(text)):
        text = text[: start + 1] + "•" * (end - start - 1) + text[end:]
    return text


def mask_token(token: str, shown: bool) -> str:
    """A token for where there is no blur."""
    if shown or not is_rude_token(token):
        return token
    first = next((index for index, character in enumerate(token) if character.isalpha()), 0)
    return token[: first + 1] + "•" * (len(token) - first - 1)


def escape(text: str) -> str:
    """`text` as HTML that shows exactly its characters: no markup, no control or direction characters at work."""
    return html.escape(_CONTROL.sub(lambda match: _picture(match[0]), text), quote=True)


def _picture(character: str) -> str:
    return chr(0x2400 + ord(character)) if ord(character) < 0x20 else "�"


def plain(text: str) -> str:
    """`text` as Markdown that shows exactly its characters."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", _CONTROL.sub(lambda match: _picture(match[0]), text))


def chart_label(prompt: str) -> str:
    """The end of a prompt as a chart's label, which would otherwise read markup in it."""
    short = prompt if len(prompt) <= 80 else "…" + prompt[-80:]
    return short.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")


def hover_label(text: str, shown: bool) -> str:
    """A text as a chart's hover says it: masked, wrapped, and with no markup at work."""
    lines = textwrap.wrap(mask(text, shown), 60, max_lines=5, placeholder=" …") or [" "]
    return "<br>".join(escape(line).replace("&#x27;", "'").replace("&quot;", '"') for line in lines)


def text_html(text: str) -> str:
    """A text of others as HTML, its rude words marked."""
    return pieces_html([text])[0]


def token_html(token: str) -> str:
    """A single token, as the lens shows it, as HTML."""
    return f'<span class="rude">{escape(token)}</span>' if is_rude_token(token) else escape(token)


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
