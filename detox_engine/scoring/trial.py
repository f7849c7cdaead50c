"""Several edits of one model side by side: what they write and how they read, each computed once for all scorers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detox_engine.edit.change import Change
from detox_engine.errors import Progress, ignore_progress
from detox_engine.forward.compare import Comparison, Continuation, generate
from detox_engine.forward.likelihood import Likelihoods, Span, read_likelihoods
from detox_engine.model.load import OpenModel
from detox_engine.plans.sampling import SamplingPlan


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
    ) -> None:
        """
        Args:
            edits: the first is None, the model as it is, which drift is measured from.
            texts: name -> what is read under that name.
        """
        self.model, self.edits = model, tuple(edits)
        self.prompts, self.sampling, self.texts, self.progress = tuple(prompts), sampling, texts, progress
        self._read: dict[str, Likelihoods] = {}
        self._scored: dict[str, NDArray[np.float64]] = {}

    @cached_property
    def continuations(self) -> list[list[list[Continuation]]]:
        """`[prompt][sample][edit]`."""
        return generate(self.model, self.prompts, self.edits, self.sampling, self.progress)

    def read(self, name: str) -> Likelihoods:
        """How every edit predicts the text called `name`."""
        if name not in self._read:
            self._read[name] = self.read_spans(self.texts[name], f"Reading {name} text")
        return self._read[name]

    def read_spans(
        self,
        spans: Sequence[Span],
        stage: str,
        edits: Sequence[Change | None] | None = None,
        listed: Sequence[int] = (),
    ) -> Likelihoods:
        """How these edits, all of the trial by default, predict spans; see `read_likelihoods`."""
        under = self.edits if edits is None else edits
        return read_likelihoods(self.model, spans, under, self.progress, stage, listed)

    def score(self, scorer: TextScorer) -> NDArray[np.float64]:
        """`[edits, prompts, samples]` the score of each continuation by itself; NaN of an empty one."""
        if scorer.name not in self._scored:
            texts = [side.text for prompt in self.continuations for sample in prompt for side in sample]
            shape = len(self.prompts), self.sampling.samples, len(self.edits)
            self._scored[scorer.name] = np.array(score_texts(scorer, texts)).reshape(shape).transpose(2, 0, 1)
        return self._scored[scorer.name]
