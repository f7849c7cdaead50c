"""Scores with intervals: percentile bootstrap over prompts, sentences or documents, paired between edits."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

INTERVAL = (2.5, 97.5)
"""Percentiles that bound a 95 % interval."""

ABSURD = 1e6
"""From here on a number says little but that it is far too large, and no digit of it is of use."""

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

    def select(self, rows: Sequence[int]) -> "Tally":
        """The tally of these edits, in this order; one may stand in it more than once."""
        chosen = list(rows)
        return Tally(self.totals[chosen], self.counts[chosen], self.exponential)

    def score(self, totals: NDArray, counts: NDArray) -> NDArray[np.float64]:
        """The score of sums, elementwise; NaN where nothing was counted."""
        ratios = np.divide(totals, counts, out=np.full(np.shape(totals), np.nan), where=counts > 0)
        if not self.exponential:
            return ratios
        with np.errstate(over="ignore"):  # a perplexity beyond every number is infinite, and shown so
            return np.exp(ratios)


@dataclass(frozen=True)
class Control:
    """A score under random subspaces of the edit's rank on its layers."""

    kind: str
    """How they were drawn: `plain` or `matched`."""
    level: Estimate
    """Mean over the draws; its interval resamples the items and the draws."""
    difference: Estimate
    """Level − before, paired item by item."""
    draws: tuple[float, ...]
    """The score under each draw."""
    beyond: Estimate | None = None
    """After − level, paired item by item: how much further the edit goes. None in files of earlier versions."""


@dataclass(frozen=True)
class Effect:
    """A score before the edit, after it, and under its controls."""

    before: Estimate
    after: Estimate
    difference: Estimate
    """After − before, paired item by item."""
    controls: tuple[Control, ...]
    """One of each kind, one or more."""

    @property
    def control(self) -> Control:
        """The first, for whoever shows one; `kind` tells which it is."""
        return self.controls[0]


def estimate_effect(tally: Tally, resamples: int, seed: int, kinds: Sequence[str] = ("plain",)) -> Effect:
    """The effect of an edit from a tally whose rows are: unedited, edited, and as many random draws of each kind.

    All quantities are computed on the same resamples, so that a difference keeps what its two sides share.
    """
    scores = tally.scores
    drawn = _resample(tally, resamples, seed)
    used = [int((row > 0).sum()) for row in tally.counts]
    both = [int(((tally.counts[0] > 0) & (row > 0)).sum()) for row in tally.counts]
    draws = (scores.size - 2) // len(kinds)
    choice = _draw_weights(np.random.default_rng([seed, 1]), draws, resamples)

    def estimate_control(kind: str, rows: slice) -> Control:
        level = (drawn[:, rows] * choice).sum(1) / choice.sum(1)
        mean = float(scores[rows].mean())
        return Control(
            kind,
            _bound(mean, level, min(used[rows])),
            _bound(mean - scores[0], level - drawn[:, 0], min(both[rows])),
            tuple(scores[rows].tolist()),
            _bound(scores[1] - mean, drawn[:, 1] - level, min(used[1], *used[rows])),
        )

    starts = range(2, scores.size, draws)
    return Effect(
        before=_bound(scores[0], drawn[:, 0], used[0]),
        after=_bound(scores[1], drawn[:, 1], used[1]),
        difference=_bound(scores[1] - scores[0], drawn[:, 1] - drawn[:, 0], both[1]),
        controls=tuple(
            estimate_control(kind, slice(start, start + draws)) for kind, start in zip(kinds, starts, strict=True)
        ),
    )


def mean_of_numbers(values: Iterable[float]) -> float:
    """The mean of those values that are numbers; NaN where none is."""
    numbers = [value for value in values if not math.isnan(value)]
    return fmean(numbers) if numbers else math.nan


def estimate_means(values: NDArray[np.float64], resamples: int, seed: int) -> tuple[Estimate, ...]:
    """The mean of each row of `values` `[rows, items]`, on the same items drawn with replacement for every row."""
    drawn = _resample(Tally(values, np.ones_like(values)), resamples, seed)
    return tuple(
        _bound(mean, column, values.shape[1]) for mean, column in zip(values.mean(axis=1), drawn.T, strict=True)
    )


def estimate_share(share: float, count: int) -> Estimate:
    """A share of `count` with its 95 % interval (Wilson 1927), which stays within 0 and 1."""
    z = 1.959964
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    return Estimate(share, middle - half, middle + half, count)


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
