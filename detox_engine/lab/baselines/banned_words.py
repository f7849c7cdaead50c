"""Banned words: those of the toxic pole made less probable, or barred, at each next token.

What a critic names first: why look for directions, where a list of words could be struck out? The words are read off
the very direction that DeTox removes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from detox_engine.errors import InputError
from detox_engine.lab.baseline import BaselineKind, Made, Setup
from detox_engine.plans.option import option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase


BARRED = 10.0
"""The strength at which a word is as good as barred: 100 nats less."""


@dataclass(frozen=True)
class BannedWordsOptions:
    """How many words are barred."""

    words: int = option(
        50,
        "Of banned words: how many tokens of the toxic pole, with what is the same word in other letters.",
        "--banned-words",
        low=1,
        high=5000,
        title="Words",
    )

    def __post_init__(self) -> None:
        if not 1 <= self.words <= 5000:
            raise InputError(f"Bar 1 to 5,000 words, not {self.words:,}.")


def make(setup: Setup, words: int) -> Made:
    from detox_engine.edit.change import Penalty
    from detox_engine.reading.directions import read_directions

    edit = setup.edit
    method = setup.study.suggested_edit.method
    middle = edit.layers[len(edit.layers) // 2]
    (found,) = read_directions(setup.model, setup.study, (middle,), 1, words, "causal", method, setup.progress)
    tokens = find_same_words(setup.model.tokenizer, [token.id for token in found.reading.toxic_pole])
    if not tokens:
        raise InputError(f"The first direction of layer {middle} reads as no words that could be barred.")
    return Made(Penalty(tokens), {"layer": middle, "tokens": len(tokens)})


def find_same_words(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[int, ...]:
    """These tokens that hold a letter, and all that are the same word, with a space before it or other capitals."""
    from detox_engine.model.tokens import show_token

    def bare(id: int) -> str:
        return show_token(tokenizer, id).strip("· ").lower()

    asked = {word for word in map(bare, ids) if any(letter.isalpha() for letter in word)}
    return tuple(id for id in range(len(tokenizer)) if bare(id) in asked)


BASELINE = BaselineKind(
    name="banned-words",
    title="Banned words",
    sentence="the words of the toxic pole made less probable at each next token, or barred",
    options=BannedWordsOptions,
    make=make,
    whole=True,
    shown_at=BARRED,
    place=1,
)
