"""Which words are blurred, and what stands in their place where nothing can be blurred."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from detox_engine.data.rude_words import HARMLESS, INSULTS, RUDE_FROM

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_MOST_KNOWN = 200_000

_HARMLESS_BEFORE = {
    "bloody": frozenset(
        """bandage bandages battle battles body bodies clothes coup diarrhea diarrhoea discharge end face feud
        footprints
        hand hands handkerchief head history knee knees knife knives mary massacre mess nose noses revolution rags scene
        shirt stool stools sunday sword trail urine war wars wound wounds""".split()  # noqa: SIM905
    ),
    "cock": frozenset("a-doodle-doo crow crowed crowing crows fight fighting robin tail".split()),  # noqa: SIM905
    "dick": frozenset(["cheney", "van", "whittington"]),
    "tit": frozenset(["for"]),
}
"""Words that are rude unless one of these follows."""
_RUDE_TOGETHER = frozenset([("shut", "up")])
"""Pairs of words that are rude only side by side."""
_SHORTEST = 3
"""Letters of a word that only the scorer takes for rude: it is unsure of so few as “sh”."""
_ENDINGS = frozenset(["ing", "ass", "ist", "ish", "ers"]) - INSULTS
"""Ends of many words, which the scorer takes for rude where they stand alone, as tokens do."""

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
            (word, word in INSULTS or (score >= RUDE_FROM and _can_be_rude(word)))
            for word, score in zip(new, scores, strict=True)
        )
    return {word: _known.get(word, False) for word in words}


def _can_be_rude(word: str) -> bool:
    """Whether the scorer may be believed that a word is rude."""
    return word not in HARMLESS and word not in _ENDINGS and len(word) >= _SHORTEST


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
    rude, words = find_rude_words([text]), [match[0].lower() for match in found]
    spans = []
    for place, (match, word) in enumerate(zip(found, words, strict=True)):
        after = words[place + 1] if place + 1 < len(words) else ""
        # “Bloody” at the end of a sentence says a colour as often as not.
        is_rude = (word in rude or (word == "bloody" and after)) and after not in _HARMLESS_BEFORE.get(word, ())
        before = words[place - 1] if place else ""
        is_rude = is_rude or (word, after) in _RUDE_TOGETHER or (before, word) in _RUDE_TOGETHER
        if is_rude or word in _added:
            spans.append(match.span())
    return spans


def mask_pieces(tokens: Sequence[str], pieces: Sequence[str], shown: bool) -> list[str]:
    """The tokens of a text for where there is no blur: those that are part of a rude word keep their first letter.

    Args:
        pieces: the parts of the text that the tokens stand for, in order; together they are the text.
    """
    if shown:
        return list(tokens)
    spans, masked, start = _rude_spans("".join(pieces)), [], 0
    for token, piece in zip(tokens, pieces, strict=True):
        end = start + len(piece)
        is_rude = any(low < end and start < high for low, high in spans)
        masked.append(_cover(token) if is_rude and any(map(str.isalpha, token)) else token)
        start = end
    return masked


def mask(text: str, shown: bool) -> str:
    """`text` for where there is no blur: rude words keep their first letter, unless words are shown."""
    if shown:
        return text
    for start, end in reversed(_rude_spans(text)):
        text = text[: start + 1] + "•" * (end - start - 1) + text[end:]
    return text


def mask_token(token: str, shown: bool) -> str:
    """A token for where there is no blur."""
    return token if shown or not is_rude_token(token) else _cover(token)


def _cover(token: str) -> str:
    """A token's first letter, and dots for the others."""
    first = next((index for index, character in enumerate(token) if character.isalpha()), 0)
    return token[: first + 1] + "•" * (len(token) - first - 1)
