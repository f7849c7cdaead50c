"""`detox lens`: where in a text the directions light up."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from detox_engine.cli import output
from detox_engine.cli.flags import (
    Csv,
    Json,
    Raw,
    Said,
    StudyFolder,
    asks,
    check_edit,
    check_format,
    load_study,
    load_workbench,
    plan_edit_beside,
)
from detox_engine.cli.output import plain
from detox_engine.errors import InputError
from detox_engine.plans.edit import EditBeside, EditPlan, record_edit
from detox_engine.plans.read import LensPlan
from detox_engine.plans.sources import StudyModel

if TYPE_CHECKING:
    from detox_engine.reading.token_lens import TokenProjections
    from detox_engine.study.study import Study


@asks(asked=LensPlan(), edit=EditBeside(), model=StudyModel())
def lens(
    study: StudyFolder,
    text: Annotated[str, typer.Option("--text", help="The text to look at.")],
    asked: LensPlan,
    edit: Said[EditBeside],
    model: Said[StudyModel],
    as_json: Json = False,
    as_csv: Csv = False,
    raw: Raw = False,
) -> None:
    """Show where in a text the directions light up: tokens by layers, before and after an edit."""
    check_format(as_json, as_csv)
    with output.progress_bars() as progress:
        fitted = load_study(study)
        read = plan_lens(fitted, asked)
        plan = plan_edit_beside(fitted, edit)
        from detox_engine.edit.low_rank import make_edit
        from detox_engine.reading.token_lens import TOKEN, list_tokens, project_text

        bench = load_workbench(fitted, model, progress)
        fitted.require_fit(bench.model)
        change = None if plan is None else make_edit(fitted.of(plan.method), plan)
        bases = make_edit(fitted.of(read.method), read).bases
        found = project_text(bench.model, text, bases, change, sinks=fitted.sinks)
    if found.text.cut:
        output.print_note(f"The text was cut at its end: {found.text.cut} tokens were left out.")
    before, after = measure(found, read.rank, asked.direction)
    if as_csv:
        return output.print_csv(TOKEN, list_tokens(found, before, after), raw=raw)
    if not as_json:
        return output.show(lens_table(found, before, after))
    tokens = zip(found.text.ids, found.text.tokens, found.text.pieces, strict=True)
    return output.print_json(
        {
            "text": "".join(found.text.pieces),
            "cut": found.text.cut,
            "measure": {"rank": read.rank} if asked.direction is None else {"direction": asked.direction},
            "edit": None if plan is None else record_edit(plan),
            "layers": list(found.layers),
            "tokens": [
                {
                    "position": place,
                    "id": id,
                    "token": token,
                    "piece": piece,
                    "before": [row[place] for row in before],
                    "after": None if after is None else [row[place] for row in after],
                    "sink": [] if found.sinks is None else found.sinks[:, place].tolist(),
                }
                for place, (id, token, piece) in enumerate(tokens)
            ],
        }
    )


def plan_lens(study: "Study", asked: LensPlan) -> EditPlan:
    """The layers and directions to read, in the shape of an edit plan, whose checks it shares."""
    suggested, method = study.suggested_edit, asked.method or study.suggested_edit.method
    layers, rank, direction, kept = asked.layers or suggested.layers, asked.rank, asked.direction, study.kept_of(method)
    if direction is None:
        rank = min(suggested.rank, kept) if rank is None else rank
        return check_edit(study, EditPlan(layers, rank, method=method))
    if rank is not None:
        raise InputError("Choose one of --rank (length on a subspace) and --direction (signed projection).")
    if not 0 <= direction < kept:
        raise InputError(f"Direction {direction} was not kept: choose one of 0-{kept - 1}.")
    return check_edit(study, EditPlan(layers, direction + 1, method=method))


def measure(
    found: "TokenProjections", rank: int, direction: int | None
) -> tuple[list[list[float]], list[list[float]] | None]:
    """`[layers][tokens]` before and after: signed on `direction`, or the length on the first `rank` directions."""

    def side(after: bool) -> list[list[float]]:
        return (found.norms(rank, after) if direction is None else found.along(direction, after)).tolist()

    return side(False), None if found.after is None else side(True)


def lens_table(
    found: "TokenProjections", before: Sequence[Sequence[float]], after: Sequence[Sequence[float]] | None
) -> Table:
    """One row for each token, one column for each layer; after the arrow what the edit leaves, sinks in brackets."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("token")
    for layer in found.layers:
        table.add_column(f"layer {layer}", justify="right")
    for place, token in enumerate(found.text.tokens):
        cells = [f"{row[place]:.2f}" for row in before]
        if after is not None:
            cells = [f"{cell} → {row[place]:.2f}" for cell, row in zip(cells, after, strict=True)]
        if found.sinks is not None:
            cells = [f"({cell})" if sink else cell for cell, sink in zip(cells, found.sinks[:, place], strict=True)]
        table.add_row(plain(token), *cells)
    return table
