"""What an edit changes, in one picture: what is to fall beside what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from detox_engine.auto.verdict import PROBES, can_read
from ui.show.colours import Palette
from ui.show.effects import OFFSETS, add_side, percent_of_before
from ui.show.figures import LEGEND, finish
from ui.words.verdicts import name_control

if TYPE_CHECKING:
    from detox_engine.scoring.records import KeptEvaluation

ROWS = {
    "profanity": "Toxicity",
    "mass": "Probability of<br>rude words",
    "perplexity": "Perplexity of<br>neutral text",
    "harmless_perplexity": "Perplexity of text<br>that looks rude",
    "groups_perplexity": "Perplexity of text<br>that mentions groups",
    "fluency": "Perplexity of<br>what it writes",
}
"""Score -> what its row is called: first what is to fall, then what it costs."""


def verdict_figure(evaluation: KeptEvaluation, colours: Palette) -> go.Figure:
    """The change of each score, in % of what it was, by the edit and by its controls."""
    reads = evaluation.find("perplexity")
    found = {name: score for name in ROWS if (score := evaluation.find(name)) is not None}
    rows = [(name, score) for name, score in found.items() if name not in PROBES or can_read(score, reads)]
    kinds = evaluation.plan.kinds
    figure = go.Figure()
    for side, offset in zip(("after", *kinds), OFFSETS[len(kinds) - 1], strict=True):
        placed = [(place + offset, score) for place, (_, score) in enumerate(rows)]
        name = "The edit" if side == "after" else name_control(side)
        add_side(figure, side, placed, name, "%{x:.1f} %, %{customdata}", percent_of_before, colours)
    figure.add_vline(x=0, line={"color": colours.quiet, "width": 1})
    figure.update_xaxes(title="Change, % of what it was", zeroline=False)
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=[ROWS[name] for name, _ in rows], range=[len(rows) - 0.5, -0.5]
    )
    return finish(figure, 90 + 58 * len(rows), across=colours.line, up="", showlegend=True, legend=LEGEND)


def list_scores(evaluation: KeptEvaluation) -> tuple[tuple[str, ...], list[tuple]]:
    """Heads and rows of every score: before, after, change, and the levels of its controls."""
    kinds = evaluation.plan.kinds
    heads = ("score", "before", "after", "change", "change_low", "change_high", *kinds)
    rows = []
    for score in evaluation.scores:
        effect = score.effect
        change = effect.difference
        levels = (control.level.mean for control in effect.controls)
        sides = (effect.before.mean, effect.after.mean, change.mean, change.low, change.high)
        rows.append((score.name, *sides, *levels))
    return heads, rows
