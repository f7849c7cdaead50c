"""An evaluation as HTML: its verdict, its prompts by what became of them, harmless texts, and the edit's proof."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ui.effects import interval, judge, number, signed, summarise_score, way
from ui.text import escape, text_html

if TYPE_CHECKING:
    from detox_engine.evaluation import Evaluation, Score
    from detox_engine.proof import EditProof

CALLED = {
    "profanity": "Toxicity",
    "classifier": "Toxicity by the classifier",
    "perplexity": "Perplexity of neutral text",
}
"""Scores that the verdict begins with."""


def verdict_html(evaluation: Evaluation) -> str:
    """The scores that matter most, a sentence each."""
    rows = [
        f'<li class="{judge(score.effect, score.lower_is_better).kind}">'
        f"{escape(summarise_score(score, CALLED[score.name]))}</li>"
        for score in evaluation.scores
        if score.name in CALLED
    ]
    return f'<ul class="verdicts">{"".join(rows)}</ul>' if rows else ""


def score_html(score: Score) -> str:
    """The head of a scorer's card: what it is, which way is better, and the verdict in words."""
    effect = score.effect
    verdict = judge(effect, score.lower_is_better)
    return (
        f'<div class="score"><h4 title="{escape(score.sentence)}">{escape(score.title)}'
        f'<span class="aside">{way(score.lower_is_better)}</span></h4>'
        f'<p class="{verdict.kind}">{escape(verdict.words)}</p>'
        f"<dl><dt>Edit</dt><dd>{interval(effect.difference, signed)}</dd>"
        f"<dt>Random</dt><dd>{interval(effect.control_difference, signed)}</dd></dl></div>"
    )


def moved_html(rows: Sequence[tuple[str, float, float]]) -> str:
    """Texts with how far predictions on them moved, under the edit and under random subspaces."""
    body = "".join(
        f"<tr><td>{text_html(words)}</td><td>{number(edit)}</td><td>{number(control)}</td></tr>"
        for words, edit, control in rows
    )
    heads = "<th>Text</th><th>Edit</th><th>Random</th>"
    return f'<table class="figures"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def proof_html(proof: EditProof, rank: int, hidden: int, strength: float) -> str:
    """The edit's proof: what it does to each layer's weights, and the hashes that show that nothing stays behind."""
    body = "".join(
        f"<tr><td>{change.layer}</td><td>{change.change:.2%}</td><td>{change.along_before:.2%}</td>"
        f"<td>{_rest(change.along_after)}</td></tr>"
        for change in proof.changes
    )
    titles = ("Layer", "Weights changed", "Along the removed directions before", "Along them after")
    heads = "".join(f"<th>{title}</th>" for title in titles)
    undone = proof.undone == proof.before
    hashes = "".join(
        f'<dt>{name}</dt><dd><code title="{value}">{value[7:23]}…</code> {note}</dd>'
        for name, value, note in (
            ("Before", proof.before, ""),
            ("Edited", proof.edited, "differs" if proof.edited != proof.before else "does not differ"),
            ("After undoing", proof.undone, "the same, bit for bit" if undone else "NOT the same as before"),
        )
    )
    return (
        f'<div class="proof"><table class="figures"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
        f'<p class="aside">All as shares of the norm of the layer’s value matrix. {rank} random '
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
