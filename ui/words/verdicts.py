"""The effect of an edit in words: numbers, intervals, units, and whether it is more than chance and its control."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ui.words.numbers import number, signed

if TYPE_CHECKING:
    from detox_engine.estimates import Effect
    from detox_engine.scoring.evaluation import Score

SIDES = {
    "before": "before",
    "after": "after the edit",
    "control": "under random subspaces",
    "difference": "change by the edit",
    "control_difference": "change by random subspaces",
}
"""Sides of an effect, as tables call them."""
ESTIMATE = ("mean", "low", "high", "n")


def list_effects(scores: Sequence[Score]) -> tuple[tuple[str, ...], list[tuple]]:
    """Heads and rows: each side of each score with its interval, and each random draw by itself."""
    rows = []
    for score in scores:
        sides = ((words, getattr(score.effect, side)) for side, words in SIDES.items())
        rows += [(score.title, words, *(getattr(one, part) for part in ESTIMATE)) for words, one in sides]
        rows += [
            (score.title, f"random subspace {number}", draw, None, None, None)
            for number, draw in enumerate(score.effect.draws, start=1)
        ]
    return ("score", "side", *ESTIMATE), rows


def way(lower_is_better: bool) -> str:
    return "lower is better" if lower_is_better else "higher is better"


@dataclass(frozen=True)
class Verdict:
    """What to think of an effect."""

    kind: Literal["better", "worse", "unclear"]
    words: str


def judge(effect: Effect, lower_is_better: bool) -> Verdict:
    """Whether a score changed beyond its interval, for better or worse, and further than in every random draw."""
    change = effect.difference
    if not math.isfinite(change.mean):
        return Verdict("unclear", "Nothing could be counted")
    if change.low <= 0 <= change.high:
        return Verdict("unclear", "No change" if change.low == change.high == 0 else "No clear change")
    falls = change.mean < 0
    better = falls == lower_is_better
    further = all(effect.after.mean < draw if falls else effect.after.mean > draw for draw in effect.draws)
    draws = "the random subspace" if len(effect.draws) == 1 else f"any of the {len(effect.draws)} random subspaces"
    against = f"more than under {draws}" if further else "but no more than under random subspaces"
    return Verdict("better" if better else "worse", f"{'Better' if better else 'Worse'}, {against}")


def summarise_score(score: Score) -> str:
    """One sentence on a score that its kind has words for: before, after, and what random subspaces do."""
    effect, verdict = score.effect, judge(score.effect, score.lower_is_better)
    moves = "stays about the same" if verdict.kind == "unclear" else "falls" if effect.difference.mean < 0 else "rises"
    return (
        f"{score.kind.called} {moves}, from {number(effect.before.mean)} to {number(effect.after.mean)} (change "
        f"{signed(effect.difference.mean)}, 95 % interval {signed(effect.difference.low)} to "
        f"{signed(effect.difference.high)}); with random subspaces removed instead it is {number(effect.control.mean)}."
    )
