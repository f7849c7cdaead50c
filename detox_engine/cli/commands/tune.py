"""`detox tune`: a search for an edit that processes and machines share."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from detox_engine.cli import output
from detox_engine.cli.flags import Json, Said, StudyFolder, asks, load_study, load_workbench
from detox_engine.cli.output import plain, show_estimate, show_number
from detox_engine.plans.commands import as_text, spell
from detox_engine.plans.edit import EditPlan, describe_edit, record_edit
from detox_engine.plans.shared.tune import TunePlan
from detox_engine.plans.sources import StudyModel

if TYPE_CHECKING:
    from detox_engine.study.suggestion import Tried
    from detox_engine.study.suggestion.tuning import Tuned

SHOWN = 5
"""Edits of the table, the best ones."""


@asks(plan=TunePlan(), model=StudyModel())
def tune(study: StudyFolder, plan: TunePlan, model: Said[StudyModel], as_json: Json = False) -> None:
    """Search for the edit that does most within the budget by many trials; several processes can share them."""
    with output.progress_bars() as progress:
        from detox_engine.study.suggestion.tuning import require_optuna, tune

        require_optuna()
        fitted = load_study(study)
        found = tune(load_workbench(fitted, model, progress).model, fitted, plan, progress)
    if as_json:
        return output.print_json(record_tuned(found))
    return output.show(tune_table(found, str(study)))


def record_tuned(found: "Tuned") -> dict[str, Any]:
    """What a search came to, for programs."""
    best = found.suggestion.evidence
    return {
        "best": None if best is None else record_tried(best),
        "check": None if found.check is None else record_tried(found.check),
        "budget": found.suggestion.budget,
        "reason": found.suggestion.reason,
        "trials": found.trials,
        "failed": found.failed,
        "own": found.own,
    }


def record_tried(one: "Tried") -> dict[str, Any]:
    share = None if one.rude_words is None else asdict(one.rude_words)
    told = {"gap": asdict(one.gap), "kl": one.divergence, "perplexity": one.perplexity, "rude_words": share}
    return {"edit": record_edit(one.edit), **told}


def tune_table(found: "Tuned", study: str) -> RenderableType:
    """The best edits, and the winner on what chose nothing."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("edit")
    for title in ("gap, nats a token", "KL", "perplexity ×", "rude words ×"):
        table.add_column(title, justify="right")
    best = found.suggestion.evidence
    rows = [one for one in found.suggestion.tried if one != best][: SHOWN - 1]
    for one in ([] if best is None else [best]) + rows:
        share = "" if one.rude_words is None else show_estimate(one.rude_words)
        cells = (show_estimate(one.gap), show_number(one.divergence), show_number(one.perplexity), share)
        table.add_row(plain(describe_edit(one.edit)), *cells, style="bold" if one == best else "")
    facts = [found.suggestion.reason]
    if found.check is not None:
        gap, moved, ratio = found.check.gap, found.check.divergence, found.check.perplexity
        facts.append(
            f"On {gap.n} pairs and on texts that chose nothing its gap is {show_estimate(gap)}, at a KL of "
            f"{show_number(moved)} and {show_number(ratio)} times the perplexity."
        )
    elif best is not None:
        facts.append("Too few pairs are held out to check it on some that chose nothing: fit on 340 pairs or more.")
    facts.append(f"{found.trials} trials, {found.own} of them made now; {found.failed} were given up.")
    if best is not None:
        words = as_text(["detox", "evaluate", study, *spell(best.edit, EditPlan())])
        facts.append(f"Measure it with: {words}")
    return Group(table, *(plain(fact) for fact in facts))
