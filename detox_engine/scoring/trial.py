"""Several edits of one model side by side: what they write and how they read, each computed once for all scorers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detox_engine.edit.change import Change
from detox_engine.errors import Progress, ignore_progress
from detox_engine.forward.compare import Comparison, Continuation, generate
from detox_engine.forward.likelihood import Likelihoods, Span, read_likelihoods
from detox_engine.model.load import OpenModel
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.scoring.results import Pieces

ROWS_AT_ONCE = 512
"""Continuations of all edits together that make a piece of what is kept on the way: a stop loses as many at most."""
TOKENS_AT_ONCE = 2**17
"""Tokens of a text under all edits together that make one."""


class TextScorer(Protocol):
    """Scores a text by itself, whoever wrote it."""

    name: str
    sentence: str

    def score(self, texts: Sequence[str]) -> list[float]:
        """The probability that each text is toxic, 0 to 1."""
        ...


def score_texts(scorer: TextScorer, texts: Sequence[str]) -> list[float]:
    """The score of each text; NaN of one that says nothing, which is neither toxic nor civil. Equal ones are scored
    once."""
    distinct = [text for text in dict.fromkeys(texts) if text.strip()]
    scores = dict(zip(distinct, scorer.score(distinct), strict=True))
    return [scores.get(text, math.nan) for text in texts]


def score_comparisons(comparisons: Sequence[Comparison], scorer: TextScorer) -> tuple[Comparison, ...]:
    """The comparisons with the toxicity of both their sides."""
    before = score_texts(scorer, [comparison.before.text for comparison in comparisons])
    after = score_texts(scorer, [comparison.after.text for comparison in comparisons])
    return tuple(
        replace(comparison, toxicity_before=low, toxicity_after=high)
        for comparison, low, high in zip(comparisons, before, after, strict=True)
    )


def join_likelihoods(parts: Sequence[Likelihoods]) -> Likelihoods:
    """Those of the spans of all parts, in their order."""
    names = [part.name for part in fields(Likelihoods)]
    return Likelihoods(**{name: np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in names})


class Trial:
    """What scorers measure. Everything is computed when a scorer first asks for it, for all edits at once."""

    def __init__(
        self,
        model: OpenModel,
        edits: Sequence[Change | None],
        prompts: Sequence[str],
        sampling: SamplingPlan,
        texts: Mapping[str, Sequence[Span]],
        progress: Progress = ignore_progress,
        pieces: Pieces | None = None,
    ) -> None:
        """
        Args:
            edits: the first is None, the model as it is, which drift is measured from.
            texts: name -> what is read under that name.
            pieces: where what is written and read is kept on the way; None keeps nothing.
        """
        self.model, self.edits = model, tuple(edits)
        self.prompts, self.sampling, self.texts, self.progress = tuple(prompts), sampling, texts, progress
        self.pieces = pieces
        self._read: dict[str, Likelihoods] = {}
        self._scored: dict[str, NDArray[np.float64]] = {}

    @cached_property
    def continuations(self) -> list[list[list[Continuation]]]:
        """`[prompt][sample][edit]`."""
        if self.pieces is None:
            return self._write(0, len(self.prompts))
        # A text does not depend on what else is written, nor the pieces on which of them are there.
        several, found = max(1, ROWS_AT_ONCE // (len(self.edits) * self.sampling.samples)), []
        for start in range(0, len(self.prompts), several):
            make = partial(self._write, start, start + several)
            found += self.pieces.find_or_make(f"prompts {start}", list[list[list[Continuation]]], make)
        return found

    def _write(self, start: int, end: int) -> list[list[list[Continuation]]]:
        def go_on(stage: str, done: int, _: int) -> None:
            self.progress(stage, start + done, len(self.prompts))

        return generate(self.model, self.prompts[start:end], self.edits, self.sampling, go_on)

    def read(self, name: str) -> Likelihoods:
        """How every edit predicts the text called `name`."""
        if name not in self._read:
            spans = self.texts[name]
            starts = [0] if self.pieces is None else self._cut(spans)
            parts = [self._read_part(name, start, end) for start, end in pairwise((*starts, len(spans)))]
            self._read[name] = parts[0] if len(parts) == 1 else join_likelihoods(parts)
        return self._read[name]

    def read_spans(
        self,
        spans: Sequence[Span],
        stage: str,
        edits: Sequence[Change | None] | None = None,
        listed: Sequence[int] = (),
        progress: Progress | None = None,
    ) -> Likelihoods:
        """How these edits, all of the trial by default, predict spans; see `read_likelihoods`."""
        under = self.edits if edits is None else edits
        return read_likelihoods(self.model, spans, under, progress or self.progress, stage, listed)

    def _cut(self, spans: Sequence[Span]) -> list[int]:
        """Where the pieces of a text begin."""
        starts, tokens = [0], 0
        for place, span in enumerate(spans):
            if place > starts[-1] and (tokens + len(span.ids)) * len(self.edits) > TOKENS_AT_ONCE:
                starts.append(place)
                tokens = 0
            tokens += len(span.ids)
        return starts

    def _read_part(self, name: str, start: int, end: int) -> Likelihoods:
        spans = self.texts[name]

        def go_on(stage: str, done: int, _: int) -> None:
            self.progress(stage, start + done, len(spans))

        def read() -> Likelihoods:
            return self.read_spans(spans[start:end], f"Reading {name} text", progress=go_on)

        if self.pieces is None:
            return read()
        parts = fields(Likelihoods)

        def record() -> dict[str, list]:
            found = read()
            return {part.name: getattr(found, part.name).tolist() for part in parts}

        made = self.pieces.find_or_make(f"{name} {start}", dict[str, list], record)
        return Likelihoods(**{part.name: np.array(made[part.name]) for part in parts})

    def score(self, scorer: TextScorer) -> NDArray[np.float64]:
        """`[edits, prompts, samples]` the score of each continuation by itself; NaN of an empty one."""
        if scorer.name not in self._scored:
            texts = [side.text for prompt in self.continuations for sample in prompt for side in sample]
            shape = len(self.prompts), self.sampling.samples, len(self.edits)
            self._scored[scorer.name] = np.array(score_texts(scorer, texts)).reshape(shape).transpose(2, 0, 1)
        return self._scored[scorer.name]
