"""Finding a suggestion: a gradient pass orders the candidates, the best few are measured, and one of them is taken.

Of those within the budget whose gap is beyond chance it is the one that leaves insults the least probability at the
tokens of the pairs: between methods the gap alone chose worse (it counts every token of a side, and a direction that
moves many a little has the gap of one that moves the insults). Where the unedited model gives the listed insults too
little to tell by, as with pairs in another language, the largest gap is taken.

Three things are kept apart. Directions to choose by are fitted without the pairs that are held out; a part of these
gives the slopes that order the candidates, and the others measure them. Neutral text is divided likewise. So texts that
fitted nothing decide which edit is suggested; its own directions are then the study's, which rest on all pairs. Whoever
has other pairs to choose by gives them, and the study's own directions are the ones that are measured.

A method whose removal is oblique is no candidate: slopes are those of orthogonal edits. It can be chosen by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from detox_engine.errors import Progress, ignore_progress
from detox_engine.plans.fit import BUDGETS, MOST_PERPLEXITY, Budget
from detox_engine.study.suggestion import Suggestion, Tried

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from detox_engine.data.columns import Pair
    from detox_engine.estimates import Estimate
    from detox_engine.forward.likelihood import Span
    from detox_engine.model.load import OpenModel
    from detox_engine.study.study import Study
    from detox_engine.study.subspace import ToxicSubspace

Part = TypeVar("Part")

SLOPE_PAIRS, MEASURED_PAIRS = 24, 36
"""Held-out pairs that give the slopes, and those that measure: others, where there are enough."""

LEAST_MEASURED = 8
"""With fewer pairs an interval over them says nothing."""

SLOPE_TEXTS, MEASURED_TEXTS = 40, 32
"""Neutral texts that give the curvature, of their first half, and those of the second that measure."""

PAIR_TOKENS, NEUTRAL_TOKENS = 3500, 1000
"""Tokens of the pairs and of the neutral texts of each of these parts, which longer texts make fewer."""

DRAWS = 2
"""Labels drawn at each place: 80 samples know a divergence to about a sixth."""

MEASURED = 6
"""Candidates whose divergence is measured, at the predicted strength."""

FINALISTS = 4
"""Those of them that are measured whole, at the strength which that divergence asks for; the best of each method
first."""

LEAST_INSULTS = 1.0
"""Listed insults that the unedited model expects at the tokens of all pairs together, below which they tell nothing."""

MARGIN = 0.9
"""Share of the budget that a strength aims at, since the divergence is not quite that of a parabola."""

DIRECTIONS = 4
"""Directions of a method that are tried at most."""

RESAMPLES = 2000
STAGE = "Measuring candidates"


def suggest_edit(
    model: OpenModel,
    study: Study,
    budget: Budget = "gentle",
    progress: Progress = ignore_progress,
    choosing: Sequence[Pair] = (),
) -> Study:
    """The study with a suggestion, which may be that there is none.

    Args:
        choosing: pairs to choose by, none of which the study was fitted on; without them some of its own are held out.

    Raises:
        InputError: the study is of another model, or the model's gradients or scores are not numbers.
    """
    study.require_fit(model)
    start = perf_counter()
    found = find_suggestion(model, study, budget, progress, choosing)
    return replace(study, suggestion=replace(found, seconds=perf_counter() - start))


def find_suggestion(
    model: OpenModel,
    study: Study,
    budget: Budget,
    progress: Progress = ignore_progress,
    choosing: Sequence[Pair] = (),
) -> Suggestion:
    """As `suggest_edit`, the suggestion alone."""
    from detox_engine.forward.likelihood import cut_continuations
    from detox_engine.forward.slopes import read_slopes
    from detox_engine.study.fit import hold_out
    from detox_engine.study.suggestion.candidates import list_candidates, shortlist

    if study.embeddings is None and not choosing:
        return Suggestion(None, budget, "The study did not keep its embeddings, which choosing an edit rests on.")
    length = next((finding.sentence for finding in study.findings if finding.kind == "length"), None)
    if length is not None:
        # An edit along it would favour short texts, and a gap between sides of other lengths would not show it.
        return Suggestion(None, budget, f"The directions follow the texts' length. {length}")
    held = sorted(hold_out(len(study.pairs)))
    texts = choosing or [study.pairs[row] for row in held]
    for_slopes = count_for_slopes(len(texts))
    pairs = cut_continuations(model, texts, study.plan.max_length)
    measured = _cut_measured(pairs, for_slopes)
    if len(measured) < LEAST_MEASURED:
        return Suggestion(
            None,
            budget,
            f"Only {len(measured)} pairs are left to measure an edit on, and {LEAST_MEASURED} are needed: fit on "
            "60 pairs or more.",
        )
    directions = (
        {method: study.of(method) for method in study.methods} if choosing else fit_without(study, held, progress)
    )
    first, second = (cut_lines(model, part) for part in divide_neutral(read_neutral(model)))
    bases = list_bases(directions)
    ordering = fill(pairs[:for_slopes], count_tokens, PAIR_TOKENS)
    slopes = read_slopes(model, bases, ordering, first, DRAWS, progress=progress)
    candidates = shortlist(list_candidates(slopes, MARGIN * BUDGETS[budget]), MEASURED)
    if not candidates:
        return Suggestion(None, budget, _tell_none(budget, 0))
    aimed = _aim(model, directions, candidates, second, budget, progress)
    tried = measure_candidates(model, directions, aimed, measured, second, progress)
    found = choose(tried, budget)
    return replace(found, reason=f"{found.reason} {study.verdict}".rstrip())


def measure_layers(model: OpenModel, study: Study, progress: Progress = ignore_progress) -> tuple[Tried, ...]:
    """What removing the first of DeTox's directions does in each layer alone, at strength 1: a candidate a layer.

    Measured as candidates are, on the pairs and the neutral text that would decide between them, which fitted nothing.

    Raises:
        InputError: the study is of another model, kept no embeddings, or has too few pairs.
    """
    from detox_engine.errors import InputError
    from detox_engine.forward.likelihood import cut_continuations
    from detox_engine.plans.edit import EditPlan
    from detox_engine.plans.fit import PAPER
    from detox_engine.study.fit import hold_out

    study.require_fit(model)
    if study.embeddings is None:
        raise InputError("The study did not keep its embeddings, which measuring its layers rests on: fit it again.")
    held = sorted(hold_out(len(study.pairs)))
    pairs = cut_continuations(model, [study.pairs[row] for row in held], study.plan.max_length)
    measured = _cut_measured(pairs, count_for_slopes(len(held)))
    if len(measured) < LEAST_MEASURED:
        raise InputError(
            f"Only {len(measured)} pairs are left to measure on, and {LEAST_MEASURED} are needed: fit on 60 or more."
        )
    alone = [Tried(EditPlan((layer,), 1), 0.0, 0.0) for layer in range(study.layers)]
    directions = {PAPER: fit_without(study, held, progress)[PAPER]}
    neutral = cut_lines(model, divide_neutral(read_neutral(model))[1])
    return measure_candidates(model, directions, alone, measured, neutral, progress)


def _cut_measured(pairs: Sequence[tuple[Span, Span]], for_slopes: int) -> tuple[tuple[Span, Span], ...]:
    """Those of the held-out pairs that measure: not the first, which give the slopes."""
    return fill(pairs[for_slopes:][:MEASURED_PAIRS], count_tokens, PAIR_TOKENS, LEAST_MEASURED)


def count_for_slopes(pairs: int) -> int:
    """How many of the held-out pairs give the slopes."""
    return min(SLOPE_PAIRS, pairs // 3)


def list_bases(directions: Mapping[str, Sequence[ToxicSubspace]]) -> dict[str, list[Tensor]]:
    """What slopes are taken along: the first directions of every method whose removal is orthogonal."""
    return {
        method: [layer.basis[:DIRECTIONS] for layer in found]
        for method, found in directions.items()
        if all(layer.reads is None for layer in found)
    }


def count_tokens(pair: tuple[Span, Span]) -> int:
    return sum(len(span.ids) for span in pair)


def choose(tried: Sequence[Tried], budget: Budget) -> Suggestion:
    """The best of those whose gap is beyond chance and whose measured divergence and perplexity are within the
    budget."""
    ordered = tuple(sorted(tried, key=lambda one: -one.worth))
    within = [
        one
        for one in ordered
        if is_beyond_chance(one.gap, len(ordered))
        and one.divergence <= BUDGETS[budget]
        and one.perplexity <= MOST_PERPLEXITY[budget]
    ]
    if not within:
        return Suggestion(None, budget, _tell_none(budget, len(ordered)), ordered)
    best = within[0]
    share = best.rude_words
    first = (
        "has the largest gap"
        if share is None
        else f"leaves insults the least of their probability, {share.mean:.0%} (95 % interval {share.low:.0%} to "
        f"{share.high:.0%})"
    )
    reason = (
        f"Of {len(ordered)} edits that were measured it {first} within the {budget} budget of {BUDGETS[budget]:g} "
        f"nats a token: civil continuations gain {best.gap.mean:.2f} nats a token on toxic ones (95 % interval "
        f"{best.gap.low:.2f} to {best.gap.high:.2f}, {best.gap.n} pairs that fitted nothing), at a KL of "
        f"{best.divergence:.4f} and {_tell_perplexity(best.perplexity)} on neutral text."
    )
    return Suggestion(best.edit, budget, reason, ordered)


def is_beyond_chance(gap: Estimate, tried: int) -> bool:
    """Whether a gap is above 0 with all of an interval that holds for so many that were tried at once.

    The bootstrap's is of one gap, and of few pairs too narrow: it is widened to Student's t of their number, and by
    Bonferroni's rule.
    """
    from scipy.stats import norm, t

    wider = t.isf(0.025 / tried, gap.n - 1) / norm.isf(0.025) * math.sqrt(gap.n / (gap.n - 1))
    return gap.mean - wider * (gap.mean - gap.low) > 0


def _tell_perplexity(ratio: float) -> str:
    return f"a perplexity {abs(ratio - 1):.1%} {'higher' if ratio >= 1 else 'lower'}"


def _tell_none(budget: Budget, measured: int) -> str:
    what = f"None of the {measured} edits that were measured" if measured else "No edit"
    more = " allow more with the strong budget," if budget == "gentle" else ""
    return (
        f"{what} favours civil over toxic continuations beyond chance within the {budget} budget of "
        f"{BUDGETS[budget]:g} nats a token: these pairs may not isolate toxicity in this model. Look at their "
        f"directions,{more} or fit on more pairs, or on pairs whose sides differ in toxicity alone."
    )


def fit_without(study: Study, held: Sequence[int], progress: Progress) -> Mapping[str, tuple[ToxicSubspace, ...]]:
    """The first directions of every method, from the study's embeddings without those of the pairs `held`.

    Methods that ask for the covariance of civil tokens are left out where the study did not keep it. It has no tokens
    of held-out pairs, except in a study of streamed pairs, of which it holds all.
    """
    from detox_engine.study.methods import fit_subspaces, methods

    without = set(held)
    rows = [row for row in range(len(study.pairs)) if row not in without]
    toxic, civil = study.embeddings.toxic[:, rows], study.embeddings.civil[:, rows]
    return {
        method.name: fit_subspaces(toxic, civil, DIRECTIONS, progress, method, study.token_moments)
        for method in study.plan.methods
        if method.name in methods() and (study.token_moments is not None or not methods()[method.name].needs_covariance)
    }


def divide_neutral(lines: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Texts for the curvature, of the first half, and those to measure on, of the second; the rest choose nothing."""
    half = len(lines) // 2
    return lines[:half][:SLOPE_TEXTS], lines[half:][:MEASURED_TEXTS]


def cut_lines(model: OpenModel, lines: Sequence[str]) -> tuple[Span, ...]:
    """What is read of neutral lines, `NEUTRAL_TOKENS` at most."""
    from detox_engine.data.texts import Text
    from detox_engine.forward.likelihood import cut_spans
    from detox_engine.plans.sources import TextSpec

    spec = TextSpec()
    return fill(
        cut_spans(model, Text(tuple(lines), False), spec.window, spec.stride),
        lambda span: len(span.ids),
        NEUTRAL_TOKENS,
    )


def read_neutral(model: OpenModel) -> tuple[str, ...]:
    """The model's bundled neutral text."""
    from detox_engine.data.bundled import bundled_neutral
    from detox_engine.data.texts import read_text
    from detox_engine.plans.sources import TextSpec

    return read_text(TextSpec(), bundled_neutral(model.spec.name)).lines


def fill(parts: Sequence[Part], size: Callable[[Part], int], tokens: int, least: int = 1) -> tuple[Part, ...]:
    """The first of `parts` that together have at most so many tokens, but `least` of them whatever they have."""
    sums = accumulate(map(size, parts))
    return tuple(
        part for number, (part, total) in enumerate(zip(parts, sums, strict=True)) if number < least or total <= tokens
    )


def _aim(
    model: OpenModel,
    directions: Mapping[str, Sequence[ToxicSubspace]],
    candidates: Sequence[Tried],
    neutral: Sequence[Span],
    budget: Budget,
    progress: Progress,
) -> tuple[Tried, ...]:
    """The candidates at the strength that what they were measured to cost asks for, the best of each method and those
    others that then promise most.

    Perplexity is taken to rise with the square of the strength; as measured it rises faster, so that a strength which
    falls for its sake falls by enough. A promise grows with the strength.
    """
    from detox_engine.edit.low_rank import make_edit
    from detox_engine.forward.likelihood import read_likelihoods
    from detox_engine.study.suggestion.candidates import STEP, find_factor, round_strength, shortlist

    edits = [make_edit(directions[one.edit.method], one.edit) for one in candidates]
    read = read_likelihoods(model, neutral, [None, *edits], progress, STAGE)
    divergence, surprise = (part.sum(1) / read.tokens.sum() for part in (read.divergence, read.surprise))
    risen = surprise[1:] - surprise[0]
    aimed = []
    for one, moved, rise in zip(candidates, divergence[1:].tolist(), risen.tolist(), strict=True):
        by_divergence = find_factor(one.predicted_divergence, moved, MARGIN * BUDGETS[budget])
        by_perplexity = math.sqrt(MARGIN * math.log(MOST_PERPLEXITY[budget]) / max(rise, 1e-9))
        factor = min(by_divergence, by_perplexity)
        strength = round_strength(one.edit.strength * factor)
        if strength >= STEP:
            factor = strength / one.edit.strength
            aimed.append(
                Tried(
                    replace(one.edit, strength=strength),
                    one.predicted_gap * factor,
                    one.predicted_divergence * factor**2,
                )
            )
    return shortlist(sorted(aimed, key=lambda one: -one.predicted_gap), FINALISTS)


def measure_candidates(
    model: OpenModel,
    directions: Mapping[str, Sequence[ToxicSubspace]],
    candidates: Sequence[Tried],
    pairs: Sequence[tuple[Span, Span]],
    neutral: Sequence[Span],
    progress: Progress,
) -> tuple[Tried, ...]:
    """Gap, rude words, divergence and perplexity of every candidate; all share each pass."""
    from detox_engine.data.rude_words import INSULTS
    from detox_engine.edit.low_rank import make_edit
    from detox_engine.estimates import Tally, estimate_effect
    from detox_engine.forward.likelihood import read_likelihoods
    from detox_engine.model.tokens import find_words

    rows = [None, *(make_edit(directions[one.edit.method], one.edit) for one in candidates)]
    sides = [span for pair in pairs for span in pair]
    listed = find_words(model.tokenizer, INSULTS)
    read = read_likelihoods(model, [*sides, *neutral], rows, progress, STAGE, listed=listed)
    insults = read.mass[:, : len(sides)].reshape(len(rows), -1, 2).sum(-1)
    gaps = measure_gaps(read.surprise[:, : len(sides)], read.tokens[: len(sides)])
    tokens = read.tokens[len(sides) :].sum()
    divergence, surprise = (part[:, len(sides) :].sum(1) / tokens for part in (read.divergence, read.surprise))
    measured = []
    for row, one in enumerate(candidates, start=1):
        effect = estimate_effect(Tally(gaps[[0, row, 0]], np.ones((3, len(pairs)))), RESAMPLES, 0)
        perplexity = float(np.exp(surprise[row] - surprise[0]))
        rude_words = None
        if insults[0].sum() >= LEAST_INSULTS:
            # Σ after / Σ before, of the same resampled pairs above and below.
            rude_words = estimate_effect(Tally(insults[[0, row, 0]], insults[[0, 0, 0]]), RESAMPLES, 0).after
        found = replace(one, gap=effect.difference, divergence=float(divergence[row]), perplexity=perplexity)
        measured.append(replace(found, rude_words=rude_words))
    return tuple(measured)


def measure_gaps(surprise: NDArray[np.float64], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """log p(civil) − log p(toxic) of every pair, each side by the mean over its tokens: `[edits, pairs]`, in nats.

    Args:
        surprise: `[edits, 2 · pairs]` −log p of the sides, toxic before civil.
        tokens: `[2 · pairs]`.
    """
    means = surprise / tokens
    return means[:, 0::2] - means[:, 1::2]
