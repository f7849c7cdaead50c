"""The effect of an edit in words: numbers, intervals, units, and whether it is more than chance and its control."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from detox_engine.plans.edit import describe_edit
from detox_engine.plans.evaluation import RANDOM
from detox_engine.plans.layers import format_layers
from ui.words.numbers import number, signed
from ui.words.text import escape

if TYPE_CHECKING:
    from detox_engine.estimates import Control, Effect, Estimate
    from detox_engine.scoring.evaluation import Score
    from detox_engine.study.study import Study
    from detox_engine.study.suggestion import Change

Kind = Literal["better", "worse", "unclear"]
"""What has changed for better or worse, and what cannot be told."""
CONTROLS = {"plain": "Random", "matched": "Matched"}
"""Kinds of control where there is room for a word."""
ESTIMATE = ("mean", "low", "high", "n")


def list_sides(effect: Effect) -> list[tuple[str, Estimate]]:
    """Sides of an effect, as tables call them."""
    return [
        ("before", effect.before),
        ("after the edit", effect.after),
        *((f"under {RANDOM[control.kind]}", control.level) for control in effect.controls),
        ("change by the edit", effect.difference),
        *((f"change by {RANDOM[control.kind]}", control.difference) for control in effect.controls),
    ]


def list_effects(scores: Sequence[Score]) -> tuple[tuple[str, ...], list[tuple]]:
    """Heads and rows: each side of each score with its interval, and each random draw by itself."""
    rows = []
    for score in scores:
        sides = list_sides(score.effect)
        rows += [(score.title, words, *(getattr(one, part) for part in ESTIMATE)) for words, one in sides]
        rows += [
            (score.title, name_draw(control.kind, number), draw, None, None, None)
            for control in score.effect.controls
            for number, draw in enumerate(control.draws, start=1)
        ]
    return ("score", "side", *ESTIMATE), rows


def list_changes(changes: Sequence[Change]) -> tuple[tuple[str, ...], list[tuple]]:
    """Heads and rows: each side of each change, with its interval."""
    sides = {
        "before": "before",
        "after": "after the edit",
        "control": "under random subspaces",
        "fall": "change by the edit",
        "beyond": "after the edit, less random subspaces",
    }
    return ("score", "side", *ESTIMATE), [
        (change.name, words, *(getattr(getattr(change, side), part) for part in ESTIMATE))
        for change in changes
        for side, words in sides.items()
    ]


def name_control(kind: str) -> str:
    """A kind of control, at the beginning of a sentence or in a legend."""
    return f"{RANDOM[kind][:1].upper()}{RANDOM[kind][1:]}"


def name_draw(kind: str, number: int) -> str:
    """A random draw of a control, counted from 1."""
    return RANDOM[kind].replace("subspaces", f"subspace {number}")


def tell_suggestion(study: Study) -> str:
    """What a study suggests and how far that is borne out, or that it suggests nothing, in a few words."""
    suggestion = study.suggestion
    if suggestion is None:
        return f"Starting point: layers {format_layers(study.suggested_layers)}, rank {study.suggested_rank}"
    if suggestion.edit is None:
        return "Nothing is suggested"
    return f"Suggested, {suggestion.status}: {describe_edit(suggestion.edit)}"


def tell_evidence(study: Study) -> str:
    """What a suggestion rests on, or why there is none and what its edit plan begins with."""
    suggestion = study.suggestion
    if suggestion is None:
        return "A starting point by rule: no edit was looked for."
    if suggestion.edit is None:
        return f"The edit plan begins with a starting point, since no edit is suggested. {suggestion.reason}"
    if suggestion.check is None:
        return f"{suggestion.reason} No generation has confirmed it yet."
    found = suggestion.check
    falls = "; ".join(
        f"{SCORES[change.name]} goes from {number(change.before.mean)} to {number(change.after.mean)}, and under its "
        f"control to {number(change.control.mean)}"
        for change in found.changes
    )
    return f"{suggestion.reason} A generation has {suggestion.status} it: {falls}."


SCORES = {"profanity": "toxicity by words", "mass": "the probability of rude words"}
"""The scores of a check, within a sentence."""


def tell_probe(layer: int, before: Estimate, after: Estimate | None) -> str:
    """How well a linear probe tells the sides at a layer, and whether it still does after the edit."""
    told = f"{before.mean:.1%} of unseen texts (95 %: {before.low:.1%} to {before.high:.1%}, n = {before.n:,} pairs)"
    if before.low <= CHANCE:
        return f"At layer {layer} a linear probe tells the sides no better than chance: {told}."
    words = f"At layer {layer} a linear probe tells {told}"
    if after is None:
        return f"{words} before the edit."
    return f"{words}; after the edit {tell_left(after)}."


def tell_left(after: Estimate) -> str:
    """What a probe tells after the edit, and whether that is any more than chance."""
    left = "no more than chance" if after.low <= CHANCE else "so toxicity can still be read there"
    return f"{after.mean:.1%} ({after.low:.1%} to {after.high:.1%}), {left}"


CHANCE = 0.5
"""The share of texts that is right where nothing is known."""


def way(lower_is_better: bool) -> str:
    return "lower is better" if lower_is_better else "higher is better"


def finding_html(kind: Kind, head: str, words: str) -> str:
    """What a page has found, above its picture: a few words, where there are any, and what they rest on."""
    lead = f"<b>{escape(head, quote=False)}</b> " if head else ""
    return f'<p class="finding {kind}" role="status">{lead}{escape(words, quote=False)}</p>'


SHIPPING: dict[str, Kind] = {"ship": "better", "do not ship": "worse", "too little evidence": "unclear"}
"""A verdict on an edit -> how it is shown."""


def judge_check(changes: Sequence[Change], confirmed: bool) -> tuple[Kind, list[Change]]:
    """What a check comes to, and those of its changes that say so: harm before all, then what fell."""
    risen = [change for change in changes if change.fall.low > 0]
    fallen = [change for change in changes if change.fell]
    kind: Kind = "worse" if risen else "better" if confirmed else "unclear"
    return kind, risen or fallen or list(changes)


@dataclass(frozen=True)
class Verdict:
    """What to think of an effect."""

    kind: Kind
    words: str


NEGLIGIBLE = 0.005
"""Share of what a score was below which nobody would call its change better or worse, however sure it is."""


def moves(effect: Effect) -> bool:
    """Whether a score changed by more than chance and by enough to be told."""
    change = effect.difference
    is_clear = not change.low <= 0 <= change.high
    return is_clear and abs(change.mean) >= NEGLIGIBLE * abs(effect.before.mean)


def judge(effect: Effect, lower_is_better: bool) -> Verdict:
    """Whether a score changed beyond its interval, for better or worse, and further than in every random draw."""
    change = effect.difference
    if not math.isfinite(change.mean):
        return Verdict("unclear", "Nothing could be counted")
    if change.low <= 0 <= change.high:
        return Verdict("unclear", "No change" if change.low == change.high == 0 else "No clear change")
    if not moves(effect):
        return Verdict("unclear", "A negligible change")
    falls = change.mean < 0
    better = falls == lower_is_better

    def goes_further(control: Control) -> bool:
        return all(effect.after.mean < draw if falls else effect.after.mean > draw for draw in control.draws)

    failed = [RANDOM[control.kind] for control in effect.controls if not goes_further(control)]
    if failed:
        against = f"but no more than under {' and '.join(failed)}"
    else:
        against = f"more than under {' and '.join(map(_count_draws, effect.controls))}"
    # What random subspaces do as well is no merit of the edit; a harm is one whoever else does it.
    kind = "worse" if not better else "unclear" if failed else "better"
    return Verdict(kind, f"{'Better' if better else 'Worse'}, {against}")


def _count_draws(control: Control) -> str:
    words, count = RANDOM[control.kind], len(control.draws)
    return f"the {words.replace('subspaces', 'subspace')}" if count == 1 else f"any of the {count} {words}"


def summarise_score(score: Score) -> str:
    """One sentence on a score that its kind has words for: before, after, and what random subspaces do."""
    effect = score.effect
    way = "stays about the same" if not moves(effect) else "falls" if effect.difference.mean < 0 else "rises"
    return (
        f"{score.kind.called} {way}, from {number(effect.before.mean)} to {number(effect.after.mean)} (change "
        f"{signed(effect.difference.mean)}, 95 % interval {signed(effect.difference.low)} to "
        f"{signed(effect.difference.high)}); "
        + ", ".join(
            f"with {RANDOM[control.kind]} removed instead it is {number(control.level.mean)}"
            for control in effect.controls
        )
        + "."
    )
