"""`detox check`: does the edit that a study suggests do what it promises?"""

from dataclasses import asdict
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from detox_engine.cli import output
from detox_engine.cli.flags import Json, Said, StudyFolder, asks, load_study, load_workbench
from detox_engine.cli.output import plain, show_estimate
from detox_engine.plans.edit import describe_edit
from detox_engine.plans.sources import StudyModel
from detox_engine.study.suggestion import record_suggested

if TYPE_CHECKING:
    from detox_engine.study.suggestion import Suggestion


@asks(model=StudyModel())
def check(study: StudyFolder, model: Said[StudyModel], as_json: Json = False) -> None:
    """Confirm or refute the edit that a study suggests, by a short generation beside its control, and write it down."""
    with output.progress_bars() as progress:
        fitted = load_study(study)
        fitted.require_suggestion()
        bench = load_workbench(fitted, model, progress)
        checked = bench.check(fitted, progress)
        checked.write_suggestion(study)
    if as_json:
        return output.print_json({**record_suggested(checked.suggestion), "check": asdict(checked.suggestion.check)})
    return output.show(check_table(checked.suggestion))


def check_table(suggestion: "Suggestion") -> RenderableType:
    """One row for each score, and what it comes to."""
    found = suggestion.check
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("score")
    for title in ("before", "after", "control", "after − before", "after − control"):
        table.add_column(title, justify="right")
    for change in found.changes:
        sides = (change.before, change.after, change.control, change.fall, change.beyond)
        table.add_row(plain(change.name), *map(show_estimate, sides))
    verdict = (
        "a score falls beyond chance, against the unedited model and against the control"
        if found.confirmed
        else "no score falls beyond chance, against the unedited model and against the control, while none rises"
    )
    facts = (
        f"The suggested edit, {describe_edit(suggestion.edit)}, is {suggestion.status}: {verdict}.",
        f"{found.prompts} prompts that provoke, {found.samples} continuations each, in {found.seconds:.0f} s; in "
        "brackets 95 % intervals; the control is random directions off the massive dimensions.",
    )
    return Group(table, *(plain(fact) for fact in facts))
