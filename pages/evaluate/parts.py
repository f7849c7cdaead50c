"""An evaluation in parts to show: its verdict, harmless texts, its prompts by what became of them, the edit's proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from detox_engine.plans.edit import SITES
from detox_engine.plans.evaluation import RANDOM
from detox_engine.scoring.scorer import QUESTIONS, SPARES_HARMLESS
from detox_engine.scoring.toxicity import find_fates
from ui.show.downloads import Table
from ui.words.numbers import interval, number, signed
from ui.words.text import escape, text_html
from ui.words.verdicts import CONTROLS, judge, name_draw, summarise_score, way

if TYPE_CHECKING:
    from detox_engine.edit.proof import EditProof
    from detox_engine.estimates import Effect, Estimate
    from detox_engine.scoring.evaluation import Evaluation, Score

PLAIN = "Plain text"
TEXTS = {
    PLAIN: ("perplexity", "drift"),
    "Words that only look rude": ("harmless_perplexity", "harmless_drift"),
    "Groups of people in passing": ("groups_perplexity", "groups_drift"),
}
"""Kinds of text, and the scores of how each is read."""
FATES = {
    "better": "Got better",
    "worse": "Got worse",
    "stayed bad": "Stayed bad",
    "stayed fine": "Stayed fine",
}
"""What becomes of a prompt, in words for people."""


def verdict_html(evaluation: Evaluation) -> str:
    """The scores that matter most, a sentence each."""
    rows = [
        f'<li class="{judge(score.effect, score.lower_is_better).kind}">{escape(summarise_score(score))}</li>'
        for score in evaluation.scores
        if score.kind.called and score.name == score.kind.name
    ]
    return f'<ul class="verdicts">{"".join(rows)}</ul>' if rows else ""


def score_html(score: Score) -> str:
    """The head of a scorer's card: what it is, which way is better, and the verdict in words."""
    effect = score.effect
    verdict = judge(effect, score.lower_is_better)
    controls = "".join(
        f"<dt>{CONTROLS[each.kind]}</dt><dd>{interval(each.difference, signed)}</dd>" for each in effect.controls
    )
    return (
        f'<div class="score"><h4 title="{escape(score.sentence)}">{escape(score.title)}'
        f'<span class="aside">{way(score.lower_is_better)}</span></h4>'
        f'<p class="{verdict.kind}">{escape(verdict.words)}</p>'
        f"<dl><dt>Edit</dt><dd>{interval(effect.difference, signed)}</dd>{controls}</dl></div>"
    )


def describe_controls(effect: Effect) -> str:
    """The end of a sentence: the score under each control."""
    return "".join(f", {number(each.level.mean)} under {RANDOM[each.kind]}" for each in effect.controls)


def group_scores(scores: Sequence[Score]) -> dict[str, list[Score]]:
    """Question -> the scores that answer it, where there are any; harmless text has a picture of its own."""
    questions = dict.fromkeys((*QUESTIONS, *(score.kind.question for score in scores)))
    groups = {question: [score for score in scores if score.kind.question == question] for question in questions}
    return {question: held for question, held in groups.items() if held and question != SPARES_HARMLESS}


def hold_texts(scores: Sequence[Score]) -> dict[str, dict[str, Score]]:
    """Kind of text -> its perplexity and drift, whichever were measured."""
    names = {score.name: score for score in scores}
    board = {
        title: {kind: names[name] for kind, name in zip(("perplexity", "drift"), both, strict=True) if name in names}
        for title, both in TEXTS.items()
    }
    return {title: held for title, held in board.items() if held}


def describe_texts(board: Mapping[str, Mapping[str, Score]]) -> str:
    """How far an edit moves each kind of text, in words."""
    moves = (
        ", ".join(
            [
                f"{title}: {kind} changes by {signed(score.effect.difference.mean)}",
                *(f"with {RANDOM[each.kind]} by {signed(each.difference.mean)}" for each in score.effect.controls),
            ]
        )
        for title, held in board.items()
        for kind, score in held.items()
    )
    return "; ".join(moves)


def pair_scores(first: Evaluation, second: Evaluation) -> list[tuple[Score, Score]]:
    """The scores that two evaluations have in common."""
    names = {score.name: score for score in second.scores}
    return [(score, names[score.name]) for score in first.scores if score.name in names]


def beside_html(pairs: Sequence[tuple[Score, Score]], differences: Mapping[str, Estimate], names: Sequence[str]) -> str:
    """Which two are held together, and score by score which is lower, by the paired difference where there is one."""
    first, second = (f"<b>{escape(name)}</b>" for name in names)
    told = (
        f'<p class="legend"><span class="before">●</span> before <span class="after">◆</span> {first} '
        f'<span class="second">■</span> {second} <span class="bar">├─┤</span> 95 % interval</p>'
    )
    if not differences:
        return told + (
            '<p class="aside">They were measured on other prompts or with other settings, so no difference can be '
            "paired: where the intervals overlap, nothing is told apart.</p>"
        )
    rows = "".join(
        f"<tr><td>{escape(score.title)}</td><td>{interval(differences[score.name], signed)}</td>"
        f"<td>{_tell_lower(differences[score.name], score.lower_is_better)}</td></tr>"
        for score, _ in pairs
    )
    heads = "".join(f"<th>{head}</th>" for head in ("Score", "■ − ◆, paired (95 %)", "Which is better"))
    return f'{told}<table class="figures"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _tell_lower(difference: Estimate, lower_is_better: bool) -> str:
    if difference.low <= 0 <= difference.high:
        return "cannot be told apart"
    return "■ is better" if (difference.mean < 0) == lower_is_better else "◆ is better"


def describe_pairs(pairs: Sequence[tuple[Score, Score]]) -> list[str]:
    return [
        f"{one.title}: {number(one.effect.before.mean)} before, {number(one.effect.after.mean)} after the first edit, "
        f"{number(other.effect.after.mean)} after the second"
        for one, other in pairs
    ]


def list_pairs(pairs: Sequence[tuple[Score, Score]], differences: Mapping[str, Estimate]) -> Table:
    """Heads and rows: each score before and after both edits, and their paired difference where there is one."""
    parts = ("mean", "low", "high")
    heads = ("score", *(f"{side}_{part}" for side in ("before", "first", "second", "difference") for part in parts))
    rows = []
    for one, other in pairs:
        sides = (one.effect.before, one.effect.after, other.effect.after, differences.get(one.name))
        values = (None if side is None else getattr(side, part) for side in sides for part in parts)
        rows.append((one.name, *values))
    return heads, rows


def count_fates(
    items: np.ndarray, controls: Mapping[str, slice], threshold: float
) -> dict[str, tuple[int, dict[str, float]]]:
    """Fate -> prompts of it under the edit, and under a random subspace of each kind of control on average.

    Args:
        items: `[2 + kinds * draws, prompts]` toxicity before, after and under each random draw.
        controls: the rows of each kind.
    """

    def count(fate: str, row: np.ndarray) -> int:
        return int((find_fates(items[0], row, threshold) == fate).sum())

    return {
        fate: (
            count(fate, items[1]),
            {kind: float(np.mean([count(fate, row) for row in items[rows]])) for kind, rows in controls.items()},
        )
        for fate in FATES
    }


def fates_html(counts: Mapping[str, tuple[int, Mapping[str, float]]]) -> str:
    cells = "".join(
        f'<div class="{fate.replace(" ", "-")}"><span class="label">{FATES[fate]}</span><b>{own:,}</b>'
        + "".join(f'<span class="label">{CONTROLS[kind].lower()}: {mean:.3g}</span>' for kind, mean in control.items())
        + "</div>"
        for fate, (own, control) in counts.items()
    )
    return f'<div class="fates">{cells}</div>'


def list_prompts(evaluation: Evaluation) -> Table:
    """Heads and rows: each prompt with its toxicity before, after and under each random subspace."""
    items = evaluation.items[evaluation.prompts_scored]
    draws = (name_draw(kind, draw + 1) for kind in evaluation.plan.kinds for draw in range(evaluation.plan.controls))
    heads = ("prompt", "fate", "before", "after", *draws)
    rows = [
        (outcome.prompt, outcome.fate, *values)
        for outcome, values in zip(evaluation.prompts, items.T.tolist(), strict=True)
    ]
    return heads, rows


def moved_html(rows: Sequence[tuple[str, float, Mapping[str, float]]]) -> str:
    """Texts with how far predictions on them moved, under the edit and under each control."""
    body = "".join(
        f"<tr><td>{text_html(words)}</td>"
        + "".join(f"<td>{number(moved)}</td>" for moved in (edit, *controls.values()))
        + "</tr>"
        for words, edit, controls in rows
    )
    heads = "".join(f"<th>{head}</th>" for head in ("Text", "Edit", *(CONTROLS[kind] for kind in rows[0][2])))
    return f'<table class="figures"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def proof_html(proof: EditProof, rank: int, hidden: int, strength: float) -> str:
    """The edit's proof: what it does to all weights that it changes, and the hashes that show that nothing stays."""
    body = "".join(
        f"<tr><td>{change.layer}</td><td>{SITES[change.site]}</td><td>{change.change:.2%}</td>"
        f"<td>{change.along_before:.2%}</td><td>{_rest(change.along_after)}</td></tr>"
        for change in proof.changes
    )
    titles = ("Layer", "What writes", "Weights changed", "Along the removed directions before", "Along them after")
    heads = "".join(f"<th>{title}</th>" for title in titles)
    undone = proof.undone == proof.before
    hashes = "".join(
        f'<dt>{name}</dt><dd><code title="{value}">{value[7:23]}…</code> {note}</dd>'
        for name, value, note in (
            ("Before", proof.before, ""),
            ("Edited", proof.edited, "not touched: quantised" if proof.in_pass_alone else "differs"),
            ("After undoing", proof.undone, "the same, bit for bit" if undone else "NOT the same as before"),
        )
    )
    return (
        f'<div class="proof"><table class="figures"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
        f'<p class="aside">All as shares of the norm of the matrix that writes. {rank} random '
        f"direction{'s' if rank > 1 else ''} of {hidden} would hold about {(rank / hidden) ** 0.5:.2%} of it. "
        f"{_strength_words(strength)}</p>"
        f'<dl class="hashes"><dt class="head">Hash of all weights</dt><dd></dd>{hashes}</dl></div>'
    )


def _rest(share: float) -> str:
    """What remains along the removed directions; rounding is called by its name."""
    return f"{share:.2%}" if share >= 5e-5 else f"0 ({share:.0e}, rounding)".replace("e-0", "e-") if share else "0"


def _strength_words(strength: float) -> str:
    if strength == 1:
        return "At strength 1 nothing but rounding remains along the removed directions."
    return f"At strength {strength:g} the share that remains is {abs(1 - strength):g} times what it was."
