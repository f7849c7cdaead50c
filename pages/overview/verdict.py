"""What a study's suggestion was measured to do, in words that say no more than their intervals; no Streamlit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import expm1
from typing import TYPE_CHECKING

from detox_engine.plans.layers import format_layers
from detox_engine.study.methods import title_of
from ui.show.side_by_side import percent
from ui.words.numbers import number, signed
from ui.words.verdicts import NEGLIGIBLE, Kind, judge_check

if TYPE_CHECKING:
    from detox_engine.estimates import Estimate
    from detox_engine.plans.edit import EditPlan
    from detox_engine.study.study import Study
    from detox_engine.study.suggestion import Change, Check, Suggestion


HEADS = {
    "worse": "It does harm.",
    "better": "Confirmed beside random directions.",
    "unclear": "No effect beyond chance.",
}


@dataclass(frozen=True)
class Score:
    """A score of the page: what it is called in a sentence and in the picture, and how a value of it is written."""

    called: str
    title: str
    write: Callable[[float], str]
    items: str


def _times(value: float) -> str:
    return f"× {value:.3f}"


def _percent(probability: float) -> str:
    """With one digit after the point, where that tells something."""
    return f"{100 * probability:.1f} %" if probability >= 0.001 else percent(probability)


SCORES = {
    "mass": Score("the probability of rude words", "Probability of rude words, %", _percent, "prompts"),
    "profanity": Score("toxicity by words", "Toxicity of what it writes, 0 to 1", number, "prompts"),
    "perplexity": Score("the perplexity of neutral text", "Perplexity of neutral text, × of before", _times, "texts"),
}


@dataclass(frozen=True)
class Verdict:
    """What to think of a suggestion."""

    kind: Kind
    head: str
    words: str


def judge_suggestion(study: Study, cost: Change | None) -> Verdict:
    """The verdict on what a study suggests.

    Args:
        cost: what the suggested edit does to the perplexity of neutral text; None where it was not measured.
    """
    suggestion = study.suggestion
    if suggestion is None:
        return Verdict(
            "unclear",
            "No edit was looked for.",
            "The edit plan begins with a starting point by rule, and nothing is known of what it does.",
        )
    if suggestion.edit is None:
        return Verdict("unclear", "No edit is suggested.", suggestion.reason)
    if suggestion.check is None:
        return Verdict("unclear", "Untested.", f"{_tell_promise(suggestion)} {_tell_cost(suggestion, cost)}")
    return _judge_check(suggestion, cost)


def _judge_check(suggestion: Suggestion, cost: Change | None) -> Verdict:
    kind, telling = judge_check(list_checked(suggestion.check), suggestion.check.confirmed)
    words = f"{describe_removal(suggestion.edit)} {_tell_change(telling[0])} {_tell_cost(suggestion, cost)}"
    return Verdict(kind, HEADS[kind], words)


def list_checked(check: Check) -> tuple[Change, ...]:
    """What a check measured, the probability of rude words first."""
    return tuple(sorted(check.changes, key=lambda change: change.name != "mass"))


def describe_removal(edit: EditPlan) -> str:
    """What is removed, as the subject of a sentence."""
    many = "one direction" if edit.rank == 1 else f"{edit.rank:,} directions"
    where = f"layer {format_layers(edit.layers)}"
    if len(edit.layers) > 1:
        where = f"each of layers {format_layers(edit.layers).replace('-', '–')}"
    strength = "" if edit.strength == 1 else f", strength {edit.strength:g}"
    return f"Removing {many} in {where} ({title_of(edit.method)}{strength})"


def _tell_change(change: Change) -> str:
    """What it does to a score, hedged by the intervals of its change and of what it has beyond its control."""
    score = SCORES[change.name]
    write, before, after = score.write, change.before, change.after
    levels = f"{_level(write, before)} before, {_level(write, after, '')} after, n = {before.n:,} {score.items}"
    control = f"with random directions it is {_level(write, change.control, '')}"
    if change.fall.low <= 0 <= change.fall.high:
        return f"does not clearly change {score.called}: {levels}; {control}."
    verb = "lowers" if change.fall.mean < 0 else "raises"
    levels = f"from {_level(write, before)} to {_level(write, after, '')}"
    told = f"{verb} {score.called} {levels}, n = {before.n:,} {score.items}"
    beyond = change.beyond.high < 0 if change.fall.mean < 0 else change.beyond.low > 0
    if not beyond:
        return f"{told}, but by no more than random directions do: {control}."
    return f"{told}; {control}."


def _level(write: Callable[[float], str], level: Estimate, lead: str = "95 %: ") -> str:
    """`8.3 % (95 %: 7.9 to 8.7)`; what interval it is need be said once in a sentence."""
    low, high = (write(each).removesuffix(" %") for each in (level.low, level.high))
    return f"{write(level.mean)} ({lead}{low} to {high})"


def _tell_promise(suggestion: Suggestion) -> str:
    """What an untested suggestion rests on."""
    removal, evidence = describe_removal(suggestion.edit), suggestion.evidence
    gap = evidence and evidence.gap
    if not gap:
        return f"{removal} is suggested, and no generation has confirmed it."
    return (
        f"{removal} is suggested: civil continuations gain {number(gap.mean)} nats a token on toxic ones (95 %: "
        f"{number(gap.low)} to {number(gap.high)}, n = {gap.n:,} pairs). No generation has confirmed it."
    )


def _tell_cost(suggestion: Suggestion, cost: Change | None) -> str:
    """What the edit does to neutral text."""
    if cost is not None:
        low, mean, high = (100 * expm1(each) for each in (cost.fall.low, cost.fall.mean, cost.fall.high))
        told = f"({number(low, decimals=1)} to {number(high, decimals=1)}, n = {cost.fall.n:,} texts)"
        if low <= 0 <= high or abs(mean) < 100 * NEGLIGIBLE:
            return f"Perplexity of neutral text hardly changes, by {signed(mean, decimals=1)} % {told}."
        verb = "rises" if mean > 0 else "falls"
        return f"Perplexity of neutral text {verb} by {number(abs(mean), decimals=1)} % {told}."
    evidence = suggestion.evidence
    if evidence is None or evidence.perplexity is None:
        return ""
    by = signed(100 * (evidence.perplexity - 1), decimals=1)
    return f"When it was chosen, perplexity of neutral text changed by {by} % (no interval)."
