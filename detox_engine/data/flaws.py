"""What is odd about pairs, by their texts alone: repeats, sides that hardly differ, a prompt on one side only."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from math import ceil

from detox_engine.data.columns import IDENTICAL, Pair
from detox_engine.data.stream import is_uneven

DUPLICATE = "duplicate"
NEAR_DUPLICATE = "nearly a duplicate"
ALIKE = "both sides are nearly the same"
LEAK = "prompt repeated on one side only"
UNEVEN = "very different lengths"

SHARED_WORDS = 0.9
"""Two pairs are nearly the same where this share of the words of both is in both (Jaccard index), for what is said and
for the prompt: one word in twenty may be another one."""

ROUNDING = 1e-9

COMPARED = 32
"""Earlier pairs with the same rare word that a pair is compared with at most, the latest first, so that the time grows
with the number of pairs and not with its square."""

SPELLED_ALIKE = 0.8
"""Two words are one, spelled otherwise, where they share more than this of their letters (`SequenceMatcher.ratio`):
“colour” and “color”, but not “crap” and “crab”."""

SHORTEST_PROMPT = 3
"""Words that a prompt has at least, for a side that holds them to repeat it and not to speak of the same thing."""

_WORDS = re.compile(r"""[^\W_]+|[^\w\s.,;:!?…"“”„‘«»()\[\]{}/–—-]""")
"""Words, and signs that are no punctuation: an emoji says something, and so do the asterisks of “you ****”."""


def find_flaws(pairs: Sequence[Pair]) -> tuple[frozenset[str], ...]:
    """What is odd about each pair, to filter by: a set of the names above, mostly empty.

    A duplicate repeats an earlier pair, prompt and both sides; nearly one is it with `SHARED_WORDS` in common, in any
    order. Sides are nearly the same where they differ in no word but by case, punctuation or spelling. A prompt is
    repeated where a side holds all of it, and the other does not. Uneven sides are those of `is_uneven`. A source that
    is read leaves pairs with identical sides out already. The time is linear in the number of pairs.
    """
    seen: set[Pair] = set()
    near = _find_near_duplicates(pairs)
    flaws = []
    for index, pair in enumerate(pairs):
        same, repeats = pair.toxic.strip() == pair.civil.strip(), pair in seen
        found = {
            DUPLICATE: repeats,
            NEAR_DUPLICATE: index in near and not repeats,
            IDENTICAL: same,
            ALIKE: not same and _are_alike(pair),
            LEAK: sum(find_repeated_prompt(pair)) == 1,
            UNEVEN: is_uneven(pair),
        }
        flaws.append(frozenset(flaw for flaw, holds in found.items() if holds))
        seen.add(pair)
    return tuple(flaws)


def find_repeated_prompt(pair: Pair) -> tuple[bool, bool]:
    """Whether the toxic and the civil side hold the whole prompt, a second time."""
    prompt = _words(pair.prompt)
    if len(prompt) < SHORTEST_PROMPT:
        return False, False
    sought = f" {' '.join(prompt)} "
    toxic, civil = (sought in f" {' '.join(_words(side))} " for side in (pair.toxic, pair.civil))
    return toxic, civil


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", text).casefold().replace("'", "").replace("’", "")
    return _WORDS.findall(plain)


def _are_alike(pair: Pair) -> bool:
    toxic, civil = _words(pair.toxic), _words(pair.civil)
    return len(toxic) == len(civil) and all(map(_spelled_alike, toxic, civil))


@lru_cache(100_000)
def _spelled_alike(one: str, other: str) -> bool:
    if one == other:
        return True
    # A number is no misspelling of another one. The quick ratios are upper bounds of the real one.
    if one.isdigit() or other.isdigit():
        return False
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return all(ratio() > SPELLED_ALIKE for ratio in (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio))


def _find_near_duplicates(pairs: Sequence[Pair]) -> set[int]:
    """Indices of the pairs that are nearly an earlier one.

    By prefix filtering (Chaudhuri et al. 2006; Bayardo et al. 2007): sets with a Jaccard index of s or more share a
    word among the first |A| − ⌈s |A|⌉ + 1 of each in any one order of the words. The rarest come first, so that few
    pairs share one and are compared.
    """
    sides = [_tagged(pair.toxic, pair.civil) for pair in pairs]
    prompts = [_tagged(pair.prompt) for pair in pairs]
    frequency = Counter(word for words in sides for word in words)
    holders: dict[str, list[int]] = defaultdict(list)
    found = set()
    for index, words in enumerate(sides):
        rarest = sorted(words, key=lambda word: (frequency[word], word))
        rarest = rarest[: len(words) - ceil(SHARED_WORDS * len(words) - ROUNDING) + 1]
        earlier = {other for word in rarest for other in holders[word][-COMPARED:]}
        if any(_overlap(words, sides[other]) and _overlap(prompts[index], prompts[other]) for other in earlier):
            found.add(index)
        for word in rarest:
            holders[word].append(index)
    return found


def _tagged(*texts: str) -> frozenset[str]:
    """The words of all `texts`, each with the number of its text, so that the same word in two of them is two."""
    return frozenset(f"{number} {word}" for number, text in enumerate(texts) for word in _words(text))


def _overlap(one: frozenset[str], other: frozenset[str]) -> bool:
    shared = len(one & other)
    return shared >= SHARED_WORDS * (len(one) + len(other) - shared) - ROUNDING
