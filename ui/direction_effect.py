"""What removing one direction changes, as HTML and as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ui.downloads import Table
from ui.effects import interval, judge, number, signed, unit_of, way
from ui.text import escape

if TYPE_CHECKING:
    from detox_engine.evaluation import Score
    from ui.direction_work import Effect

SHOWN = ("profanity", "drift")


def effect_html(found: Effect) -> str:
    """Toxicity and drift: before, and how they change without the direction and without random ones instead."""
    return f'<div class="effect">{"".join(_score_html(score) for score in found.scores if score.name in SHOWN)}</div>'


def _score_html(score: Score) -> str:
    effect, verdict = score.effect, judge(score.effect, score.lower_is_better)
    rows = "".join(
        f"<dt>{name}</dt><dd>{value}</dd>"
        for name, value in (
            ("Before", f"{number(effect.before.mean)} {unit_of(score.name)}"),
            ("Change without it", interval(effect.difference, signed)),
            ("Without random ones", interval(effect.control_difference, signed)),
        )
    )
    return (
        f'<div class="score"><h4>{escape(score.title)}<span class="aside">{way(score.lower_is_better)}</span></h4>'
        f'<p class="{verdict.kind}">{escape(verdict.words)}</p><dl>{rows}</dl></div>'
    )


def list_effect(found: Effect) -> Table:
    """Each score before, after and with random directions removed, and its changes, with their intervals."""
    rows = [
        (score.name, what, estimate.mean, estimate.low, estimate.high, estimate.n)
        for score in found.scores
        for what, estimate in (
            ("before", score.effect.before),
            ("after", score.effect.after),
            ("random", score.effect.control),
            ("change", score.effect.difference),
            ("random change", score.effect.control_difference),
        )
    ]
    return ("score", "what", "mean", "low", "high", "n"), rows
