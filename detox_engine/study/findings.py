"""Whether pairs isolate toxicity: what speaks against it, each finding a sentence with its number and what to do.

Directions show what the two sides of the pairs differ in, whatever that is. Where the sides differ in length too, or do
not differ reliably, or some are swapped, repeated or hold the prompt twice, the directions show that as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detox_engine.data.columns import IDENTICAL, Pair
from detox_engine.data.flaws import ALIKE, DUPLICATE, LEAK, NEAR_DUPLICATE, find_flaws, find_repeated_prompt
from detox_engine.data.stream import list_numbers
from detox_engine.estimates import INTERVAL, Estimate, estimate_share
from detox_engine.forward.embedded_pairs import Embeddings
from detox_engine.forward.sinks import Sinks
from detox_engine.plans.layers import format_layers

LEAST_PAIRS = 20
"""Of fewer pairs nothing is said that an interval has to bear: it would be as wide as the scale."""

MOST = 0.5
"""Length explains most of a direction where, with 97.5 % confidence, its part is larger than the constant one."""

NOTICED = 0.1
"""Share of the square of the projections that length explains at least, with the same confidence: two slopes fit a
little of any noise, and where the sides have nothing in common that little is most of what they have."""

TELLS_APART = 0.8
UNEQUAL = 1.5
LITTLE = 0.25
"""Length alone tells the sides apart where one of them is the longer one in more than the first share of the pairs, and
has so many times the tokens of the other, in the median. It is let be where length surely explains little all the same,
less than the last share, as far as the pairs' own lengths tell."""

SEPARATED = 0.6
"""Share of unseen pairs that a probe gets right at least, at the lower end of the interval; 0.5 is chance. Pairs that
are about toxicity reach 0.9 and more (see `reading.probe`), those with labels drawn at random 0.5."""

PROBED = 3
"""Layers that are probed, evenly over the upper half: above the middle they hardly differ."""

RIDGES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
"""Penalties of the probe to choose from, in mean squares of a dimension: small ones suit pairs of which few dimensions
hold the most, as where attention sinks are kept."""

OUTLYING = 3.5
"""Robust standard deviations below the median from which a score stands out (Iglewicz and Hoaglin 1993)."""

DECIDING_SHARE = 0.25
"""Where more of the pairs than this have swapped sides, sides without a difference or a prompt on one side only, what
the pairs have in common may be that."""

ALWAYS_DECIDING = {
    "length": "length",
    "separation": "sides that do not separate",
    "readability": "directions that do not read",
}
DECIDING_BY_SHARE = {
    "flips": "swapped sides",
    "identical": "sides without a difference",
    "leak": "prompts on one side only",
}
"""The kinds that speak against pairs, by themselves or where they concern many, each in words."""

RESAMPLES = 500


@dataclass(frozen=True)
class Finding:
    """Something about the pairs of a study, or about the model that read them, that its reader has to know."""

    kind: str
    """`length`, `separation`, `readability`, `flips`, `identical`, `leak`, `duplicates` or `sinks`."""
    value: float
    """The number of the sentence: pairs for what single pairs have, a share for what they have together, tokens for
    sinks."""
    sentence: str
    """What was found and what to do about it."""


def describe_verdict(findings: Sequence[Finding], pairs: int) -> str:
    """That the pairs, of which `pairs` were judged, do not isolate toxicity, and why; empty where they do.

    They do not where length explains most of the directions or cannot be told from toxicity, where unseen pairs do not
    separate, where the directions do not read, and where more than `DECIDING_SHARE` of the pairs are swapped, without a
    difference, or have their prompt on one side only. Duplicates and sinks are worth knowing and decide nothing.
    """
    against = [ALWAYS_DECIDING[finding.kind] for finding in findings if finding.kind in ALWAYS_DECIDING]
    against += [
        DECIDING_BY_SHARE[finding.kind]
        for finding in findings
        if finding.kind in DECIDING_BY_SHARE and finding.value > DECIDING_SHARE * pairs
    ]
    return f"These pairs do not isolate toxicity ({', '.join(against)})." if against else ""


def judge_pairs(
    pairs: Sequence[Pair],
    embeddings: Embeddings,
    directions: Sequence[Tensor],
    numbers: Sequence[int] = (),
    unit: str = "pair",
) -> tuple[Finding, ...]:
    """What is to be said about these pairs; nothing where they are as they should be.

    Args:
        embeddings: of these pairs; their lengths are judged where all are known.
        directions: the first direction `[hidden]` of every layer.
        numbers: each pair's line or row in its source, as `unit` says; their places here, from 1, by default.
    """
    numbers = numbers or range(1, len(pairs) + 1)
    found: list[Finding | None] = []
    if len(pairs) >= LEAST_PAIRS:
        upper = range(len(directions) // 2, len(directions))
        if embeddings.lengths is not None and (embeddings.lengths > 0).all():
            along = [(embeddings.toxic[layer] - embeddings.civil[layer]) @ directions[layer] for layer in upper]
            found.append(judge_lengths(torch.stack(along).numpy(), embeddings.lengths.numpy(), tuple(upper)))
        probed = sorted({round(float(layer)) for layer in np.linspace(upper[0], upper[-1], PROBED)})
        scores = score_unseen(embeddings.toxic[probed] - embeddings.civil[probed])
        unseparated = judge_separation(scores)
        # Where the sides do not separate, no pair stands out against the others.
        found.append(unseparated or judge_flips(scores, numbers, unit))
    found.extend(judge_texts(pairs, numbers, unit))
    return tuple(finding for finding in found if finding is not None)


def judge_lengths(along: NDArray, lengths: NDArray, layers: tuple[int, ...]) -> Finding | None:
    """Whether the first directions of `layers` follow the length of the texts, or may do so.

    Args:
        along: `[layers, pairs]` projections of the differences toxic − civil.
        lengths: `[2, pairs]` tokens of the toxic and the civil texts.
    """
    share, explained = estimate_length_share(along, lengths)
    if share.low > MOST and explained.low > NOTICED:
        return Finding(
            "length",
            share.mean,
            f"Length explains {share.mean:.0%} ({share.low:.0%} to {share.high:.0%}) of what the pairs have in common "
            f"along the first directions of layers {format_layers(layers)}: use pairs whose two sides are about "
            "equally long.",
        )
    toxic, civil = lengths.astype(float)
    longer = float(((toxic > civil) + (toxic == civil) / 2).mean())
    side = "toxic" if longer >= 0.5 else "civil"
    ahead = estimate_share(max(longer, 1 - longer), len(toxic))
    times = float(np.median(toxic / civil if side == "toxic" else civil / toxic))
    if ahead.low > TELLS_APART and times >= UNEQUAL and not share.high < LITTLE:
        return Finding(
            "length",
            ahead.mean,
            f"The {side} side is the longer one in {ahead.mean:.0%} of the pairs, {times:.1f} times as long in the "
            "median, so that toxicity cannot be told from length: use pairs whose two sides are about equally long.",
        )
    return None


def estimate_length_share(along: NDArray, lengths: NDArray) -> tuple[Estimate, Estimate]:
    """How much of the projections `[layers, pairs]` of the differences is due to length: medians over layers.

    The projection of a pair is modelled as a + b₁ (1/n⁺ − 1/n⁻) + b₂ (n⁺ − n⁻) + noise for n⁺ and n⁻ tokens: a mean
    over tokens holds what is in one token as 1/n, and what grows along the text as n. a is what is left between
    the sides at equal length. The intervals are of a bootstrap over pairs, which all layers share.

    Returns:
        The length's part of what the pairs have in common, m / (m + a²) for m the mean square of both slopes' terms,
        which is 0 where length changes nothing, and 1 where nothing is left between sides of one length. And its part
        of all, 1 − mean square of (projection − the slopes' terms) / mean square of the projection. Where all pairs
        have the same two differences neither is known, and their intervals are unbounded.
    """
    toxic, civil = lengths.astype(float)
    count, layers = len(toxic), len(along)
    terms = np.stack([1 / toxic - 1 / civil, toxic - civil], axis=1)
    spread = terms.std(0)
    varying = spread > 1e-9 * np.abs(terms).max(0)
    if not varying.any():
        unknown = Estimate(float("nan"), float("-inf"), float("inf"), count)
        return unknown, unknown
    design = np.column_stack([np.ones(count), terms[:, varying] / spread[varying]])
    width, wide = design.shape[1], along.T.astype(float)
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    weights = np.vstack([np.ones(count), drawn])
    # The normal equations of every resample and layer at once.
    gram = (weights @ (design[:, :, None] * design[:, None]).reshape(count, -1)).reshape(-1, width, width)
    cross = (weights @ (design[:, :, None] * wide[:, None]).reshape(count, -1)).reshape(-1, width, layers)
    # In a resample both terms can be the same, or constant.
    gram[:, 1:, 1:] += 1e-6 * count * np.eye(width - 1)
    solved = np.linalg.solve(gram, cross)
    slopes = solved[:, 1:]
    of_length = np.einsum("ril,rij,rjl->rl", slopes, gram[:, 1:, 1:], slopes)
    constant = count * solved[:, 0] ** 2
    size = weights @ wide**2
    shares = of_length / np.maximum(of_length + constant, np.finfo(float).tiny)
    explained = (2 * (slopes * cross[:, 1:]).sum(1) - of_length) / np.maximum(size, np.finfo(float).tiny)
    return _bound(np.median(shares, axis=1), count), _bound(np.median(explained, axis=1), count)


def score_unseen(differences: Tensor) -> NDArray:
    """How far each pair is toxic to a probe of all other pairs, by differences `[layers, pairs, hidden]`: `[pairs]`.

    The probe is ridge regression of 1 on the differences and of −1 on their negatives, all layers side by side and of
    the same mean square: a linear discriminant of pairs, w = (TᵀT + r I)⁻¹ Tᵀ1, shrunk toward the mean difference as
    far as suits the pairs (r of `RIDGES` with the least squared error). Leaving a pair out needs no fit of its own
    (PRESS, Allen 1974): its score is (ŷ − h) / (1 − h) for the fitted ŷ and the pair's leverage h.
    """
    wide = differences.double()
    sizes = wide.square().mean((1, 2), keepdim=True).sqrt()
    wide = wide / torch.where(sizes > 0, sizes, 1)
    values, vectors = torch.linalg.eigh((wide @ wide.mT).sum(0))
    values, sums = values.clamp(min=0), vectors.sum(0)
    found = []
    for ridge in RIDGES:
        shrunk = values / (values + ridge * wide.shape[1])
        leverage = vectors.square() @ shrunk
        found.append((vectors @ (shrunk * sums) - leverage) / (1 - leverage))
    return min(found, key=lambda scores: float((1 - scores).square().sum())).numpy()


def judge_separation(scores: NDArray) -> Finding | None:
    """Whether a probe tells the toxic side of pairs that it has not seen, from the scores of `score_unseen`."""
    right = estimate_share(float(((scores > 0) + (scores == 0) / 2).mean()), len(scores))
    if right.low > SEPARATED:
        return None
    return Finding(
        "separation",
        right.mean,
        f"In only {right.mean:.0%} ({right.low:.0%} to {right.high:.0%}) of the pairs that it has not seen a probe "
        "tells the toxic side from the civil one, where chance is 50%: see that the columns are the right ones, or use "
        "pairs that differ in toxicity more than in anything else.",
    )


def judge_flips(scores: NDArray, numbers: Sequence[int], unit: str) -> Finding | None:
    """Pairs whose sides lie the other way round, and far from all others, by the scores of `score_unseen`."""
    middle = np.median(scores)
    deviation = 1.4826 * np.median(np.abs(scores - middle))
    flipped = (scores < 0) & (middle - scores > OUTLYING * deviation)
    return _count(
        "flips",
        [number for number, flip in zip(numbers, flipped, strict=True) if flip],
        len(scores),
        unit,
        "differ in the opposite direction to all others",
        "look whether their sides are swapped",
    )


def judge_texts(pairs: Sequence[Pair], numbers: Sequence[int], unit: str) -> tuple[Finding | None, ...]:
    """What the texts alone tell: sides that hardly differ, a prompt on one side only, repeats."""
    flaws = find_flaws(pairs)

    def having(*names: str) -> list[int]:
        return [number for number, found in zip(numbers, flaws, strict=True) if not found.isdisjoint(names)]

    leaking = [pair for pair, found in zip(pairs, flaws, strict=True) if LEAK in found]
    sides = {find_repeated_prompt(pair)[0] for pair in leaking}
    where = {(True,): "the toxic", (False,): "the civil"}.get(tuple(sides), "one")
    word_for_word = len(having(DUPLICATE))
    count, total = len(pairs), having(DUPLICATE, NEAR_DUPLICATE)
    nearly = "" if word_for_word == len(total) else f" ({word_for_word:,} of them word for word)"
    return (
        _count(
            "identical",
            having(IDENTICAL, ALIKE),
            count,
            unit,
            "have sides that differ in no word, or only in spelling, case or punctuation",
            "leave them out, or correct the side that is wrong",
        ),
        _count(
            "leak",
            having(LEAK),
            count,
            unit,
            f"repeat their prompt on {where} side only",
            "take it off, since the directions would hold it",
        ),
        _count(
            "duplicates",
            total,
            count,
            unit,
            f"repeat an earlier one{nearly}",
            "leave them out, since what they say counts several times",
        ),
    )


def judge_sinks(left_out: Sequence[int], tokens: int, sinks: Sinks | None) -> tuple[Finding, ...]:
    """How much was kept out of the directions as attention sinks, in one sentence; nothing where there was none.

    Args:
        left_out: by layer, tokens that were left out of the means, of `tokens` in all.
    """
    if sinks is None:
        return ()
    layers, parts = tuple(layer for layer, count in enumerate(left_out) if count), []
    if layers:
        size = max(float(sinks.sizes[layer]) for layer in layers)
        where = f"layer{'' if len(layers) == 1 else 's'} {format_layers(layers)}"
        parts.append(
            f"up to {max(left_out):,} of {tokens:,} tokens, with states as long as {size:,.0f} medians, are left out "
            f"of the means of {where}"
        )
    if sinks.dimensions:
        one = len(sinks.dimensions) == 1
        names = f"dimension{'' if one else 's'} {', '.join(map(str, sinks.dimensions))}"
        parts.append(f"{names} {'is' if one else 'are'} kept out of every direction")
    if not parts:
        return ()
    return (Finding("sinks", max(left_out, default=0), f"Attention sinks: {', and '.join(parts)}."),)


def _count(kind: str, numbers: Sequence[int], total: int, unit: str, have: str, do: str) -> Finding | None:
    """A finding about single pairs, by their numbers."""
    if not numbers:
        return None
    shown = list_numbers(numbers, len(numbers), unit)
    return Finding(kind, len(numbers), f"{len(numbers):,} of {total:,} pairs {have} ({shown}): {do}.")


def _bound(values: NDArray, count: int) -> Estimate:
    """The first of `values` with the interval of the others, which are resamples of it."""
    low, high = np.percentile(values[1:], INTERVAL)
    return Estimate(float(values[0]), float(low), float(high), count)
