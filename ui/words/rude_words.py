"""Which words are blurred, and what stands in their place where nothing can be blurred."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from detox_engine.data.rude_words import HARMLESS, INSULTS, RUDE_FROM

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_MOST_KNOWN = 200_000

_known: dict[str, bool] = {}
_added: set[str] = set()
"""Words that a person wants blurred too."""


def list_words(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return [word.lower() for word in _WORD.findall(text)]


def find_rude_words(texts: Iterable[str]) -> frozenset[str]:
    """The words of `texts`, in small letters, that are to be blurred."""
    return frozenset(word for word, rude in rate_words(texts).items() if rude or word in _added)


def add_words(text: str) -> None:
    """Blur the words of `text` too, in place of those that were added before."""
    words = set(list_words(text))
    if words != _added:
        _added.clear()
        _added.update(words)
        is_rude_token.cache_clear()


def learn_words(rated: Mapping[str, bool]) -> None:
    """Take over what `rate_words` found in an earlier process, so that the scorer need not be loaded for it."""
    _known.update(rated)


def rate_words(texts: Iterable[str]) -> dict[str, bool]:
    """Each word of `texts`, in small letters, and whether it is to be blurred."""
    words = {word for text in texts for word in list_words(text)}
    new = [word for word in words if word not in _known]
    if new:
        from detox_engine.scoring.scorers.profanity import ProfanityScorer

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
