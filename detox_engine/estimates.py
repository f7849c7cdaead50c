"""Scores with intervals: percentile bootstrap over prompts, sentences or documents, paired between edits."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

INTERVAL = (2.5, 97.5)
"""Percentiles that bound a 95 % interval."""

WEIGHTS_AT_ONCE = 2**22
"""Bootstrap weights held in memory at a time."""


@dataclass(frozen=True)
class Estimate:
    """A score and its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int
    """Items that it rests on: prompts, sentences, windows of text or documents."""


@dataclass(frozen=True, eq=False)
class Tally:
    """What a scorer counted, item by item, under each edit; its score is the ratio of the two sums.

    A mean has counts of 1. A perplexity has summed surprise over tokens, and is e to the power of the ratio.
    """

    totals: NDArray[np.float64]
    """`[edits, items]`."""
    counts: NDArray[np.float64]
    """`[edits, items]`; 0 where an item has nothing to count."""
    exponential: bool = False

    @property
    def scores(self) -> NDArray[np.float64]:
        """`[edits]`."""
        return self.score(self.totals.sum(1), self.counts.sum(1))

    @property
    def items(self) -> NDArray[np.float64]:
        """`[edits, items]` each item's own score; NaN where it has nothing to count."""
        return self.score(self.totals, self.counts)

    def score(self, totals: NDArray, counts: NDArray) -> NDArray[np.float64]:
        """The score of sums, elementwise; NaN where nothing was counted."""
        ratios = np.divide(totals, counts, out=np.full(np.shape(totals), np.nan), where=counts > 0)
        return np.exp(ratios) if self.exponential else ratios


@dataclass(frozen=True)
class Effect:
    """A score before the edit, after it, and under random subspaces of the same rank on the same layers."""

    before: Estimate
    after: Estimate
    control: Estimate
    """Mean over the random draws; its interval resamples the items and the draws."""
    difference: Estimate
    """After − before, paired item by item."""
    control_difference: Estimate
    """Control − before, paired likewise."""
    draws: tuple[float, ...]
    """The score under each random draw."""


def estimate_effect(tally: Tally, resamples: int, seed: int) -> Effect:
    """The effect of an edit from a tally whose rows are: unedited, edited, and one or more random draws.

    All quantities are computed on the same resamples, so that a difference keeps what its two sides share.
    """
    scores = tally.scores
    drawn = _resample(tally, resamples, seed)
    choice = _draw_weights(np.random.default_rng([seed, 1]), scores.size - 2, resamples)
    control = (drawn[:, 2:] * choice).sum(1) / choice.sum(1)
    mean = float(scores[2:].mean())
    used = [int((row > 0).sum()) for row in tally.counts]
    both = [int(((tally.counts[0] > 0) & (row > 0)).sum()) for row in tally.counts]
    return Effect(
        before=_bound(scores[0], drawn[:, 0], used[0]),
        after=_bound(scores[1], drawn[:, 1], used[1]),
        control=_bound(mean, control, min(used[2:])),
        difference=_bound(scores[1] - scores[0], drawn[:, 1] - drawn[:, 0], both[1]),
        control_difference=_bound(mean - scores[0], control - drawn[:, 0], min(both[2:])),
        draws=tuple(scores[2:].tolist()),
    )


def estimate_means(values: NDArray[np.float64], resamples: int, seed: int) -> tuple[Estimate, ...]:
    """The mean of each row of `values` `[rows, items]`, on the same items drawn with replacement for every row."""
    drawn = _resample(Tally(values, np.ones_like(values)), resamples, seed)
    return tuple(
        _bound(mean, column, values.shape[1]) for mean, column in zip(values.mean(axis=1), drawn.T, strict=True)
    )


def _bound(mean: float, drawn: NDArray, n: int) -> Estimate:
    finite = drawn[np.isfinite(drawn)]
    low, high = np.percentile(finite, INTERVAL) if finite.size else (np.nan, np.nan)
    return Estimate(float(mean), float(low), float(high), n)


def _resample(tally: Tally, resamples: int, seed: int) -> NDArray[np.float64]:
    """`[resamples, edits]` scores of the items drawn with replacement, the same items for every edit."""
    items = tally.totals.shape[1]
    generator = np.random.default_rng([seed, 0])
    rows = max(1, WEIGHTS_AT_ONCE // max(1, items))
    parts = []
    for start in range(0, resamples, rows):
        weights = _draw_weights(generator, items, min(rows, resamples - start))
        parts.append(tally.score(weights @ tally.totals.T, weights @ tally.counts.T))
    return np.concatenate(parts)


def _draw_weights(generator: np.random.Generator, items: int, resamples: int) -> NDArray[np.float64]:
    """`[resamples, items]` how often each item is drawn in each resample."""
    return generator.multinomial(items, np.full(items, 1 / items), size=resamples).astype(np.float64)
