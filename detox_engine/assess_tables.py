"""What `detox evaluate` and `detox sweep` print for people."""

import math
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from detox_engine.specs import format_layers
from detox_engine.tables import describe_edit, plain

if TYPE_CHECKING:
    from detox_engine.estimates import Estimate
    from detox_engine.evaluation import Evaluation
    from detox_engine.frontier import Choice
    from detox_engine.sweep import Sweep


def evaluation_table(evaluation: "Evaluation", suggested: bool) -> RenderableType:
    """One row for each scorer, its control beside it, and the edit's proof below."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("scorer")
    for title in ("before", "after", "random control", "after − before", "n"):
        table.add_column(title, justify="right")
    for score in evaluation.scores:
        effect = score.effect
        sides = (effect.before, effect.after, effect.control, effect.difference)
        table.add_row(plain(score.name), *map(show_estimate, sides), str(effect.after.n))
    proof = evaluation.proof
    change = max(entry.change for entry in proof.changes)
    left = max(entry.along_after for entry in proof.changes)
    fates = [outcome.fate for outcome in evaluation.prompts]
    facts = [
        describe_edit(evaluation.edit, suggested),
        "In brackets 95 % intervals; the control is random subspaces of the same rank on the same layers.",
        f"The edit changes a layer's weights by up to {change:.2%} of their norm, leaves {left:.1e} of it along the "
        f"removed directions, and was undone {'bit for bit' if proof.before == proof.undone else 'INCOMPLETELY'}.",
    ]
    if fates:
        counts = ", ".join(f"{fates.count(fate)} {fate}" for fate in ("better", "worse", "stayed bad", "stayed fine"))
        facts.insert(1, f"Prompts: {counts}.")
    return Group(table, *(plain(fact) for fact in facts))


def sweep_table(sweep: "Sweep", choice: "Choice | None", results: str) -> RenderableType:
    """One row for each setting; the recommended one in bold."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("layers", "rank", "strength"):
        table.add_column(title, justify="right")
    for scorer in sweep.scorers:
        table.add_column(scorer.name, justify="right")
        table.add_column("control", justify="right")
    for index, point in enumerate(sweep.points):
        cells = [format_layers(point.layers), str(point.rank), f"{point.strength:g}"]
        for scorer in sweep.scorers:
            effect = point.effects[scorer.name]
            cells += [show_estimate(effect.after), show_number(effect.control.mean)]
        table.add_row(*cells, style="bold" if choice is not None and index == choice.index else None)
    facts = []
    if sweep.points:
        before = sweep.points[0].effects
        unedited = ", ".join(f"{name} {show_number(effect.before.mean)}" for name, effect in before.items())
        facts.append(f"Unedited: {unedited}.")
    if choice is not None:
        facts.append(choice.reason)
    facts.append(f"{len(sweep.points)} settings, {sweep.computed} of them measured now; kept in {results}.")
    return Group(table, *(plain(fact) for fact in facts))


def show_estimate(estimate: "Estimate") -> str:
    """`12.3 (11.9 to 12.8)`."""
    return f"{show_number(estimate.mean)} ({show_number(estimate.low)} to {show_number(estimate.high)})"


def show_number(value: float) -> str:
    """Three digits that matter, and a dash for no number."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
