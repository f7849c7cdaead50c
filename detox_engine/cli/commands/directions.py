"""`detox directions`: what the directions of a study mean."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from detox_engine.cli import output
from detox_engine.cli.flags import Json, Said, StudyFolder, asks, check_edit, load_study, load_workbench
from detox_engine.cli.output import plain
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.read import ReadPlan
from detox_engine.plans.sources import StudyModel

if TYPE_CHECKING:
    from detox_engine.reading.directions import DirectionReading
    from detox_engine.reading.lens import TokenScore

NOT_WORDS = "not readable as words here"


@asks(asked=ReadPlan(), model=StudyModel())
def directions(study: StudyFolder, asked: Said[ReadPlan], model: Said[StudyModel], as_json: Json = False) -> None:
    """Read the directions of a study: the tokens at their toxic and their civil pole."""
    with output.progress_bars() as progress:
        fitted = load_study(study)
        suggested = fitted.suggested_edit
        method = asked.values.get("method") or suggested.method
        plan = asked.over(ReadPlan(suggested.layers, min(ReadPlan.rank, fitted.kept_of(method)), method=method))
        edit = check_edit(fitted, EditPlan(plan.layers, plan.rank, method=method))
        bench = load_workbench(fitted, model, progress)
        readings = bench.read(fitted, edit.layers, plan.rank, plan.top, plan.measure, method, progress)
    if not as_json:
        return output.show(directions_table(readings))
    return output.print_json(
        [
            {
                "layer": entry.layer,
                "direction": entry.direction,
                "singular_value": entry.singular_value,
                "share": entry.share,
                "polarity": entry.polarity,
                "measure": plan.measure,
                "readable": entry.reading.is_readable,
                "toxic_pole": [record_token(end) for end in entry.reading.toxic_pole],
                "civil_pole": [record_token(end) for end in entry.reading.civil_pole],
            }
            for entry in readings
        ]
    )


def record_token(end: "TokenScore") -> dict[str, Any]:
    """A token for JSON: of a causal reading with the interval of its score, and whether it is beyond chance."""
    return {name: value for name, value in asdict(end).items() if name != "id"}


def spell_token(end: "TokenScore") -> str:
    """A token, and in brackets how the model ends the word that it begins."""
    ending = end.word.removeprefix(end.token)
    return f"{end.token}({ending})" if ending else end.token


def directions_table(readings: Sequence["DirectionReading"]) -> Table:
    """One row for each direction; scores and singular values are left to JSON, for the tokens' sake.

    A causal reading shows the tokens that are beyond chance.
    """
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("layer", "direction", "share", "polarity"):
        table.add_column(title, justify="right")
    table.add_column("toxic pole", ratio=1)
    table.add_column("civil pole", ratio=1)
    for entry in readings:
        poles = entry.reading.toxic_pole, entry.reading.civil_pole
        told = [" ".join(spell_token(end) for end in pole if getattr(end, "is_read", True)) for pole in poles]
        tokens = map(plain, told if entry.reading.is_readable else (NOT_WORDS, ""))
        table.add_row(str(entry.layer), str(entry.direction), f"{entry.share:.1%}", f"{entry.polarity:.2f}", *tokens)
    return table
