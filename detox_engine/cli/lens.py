"""`detox lens`: where in a text the directions light up."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from detox_engine.cli import output
from detox_engine.cli.options import (
    SUGGESTION,
    Device,
    Dtype,
    Json,
    Strength,
    StudyFolder,
    StudyModel,
    SwitchedOff,
    load_study,
    load_workbench,
    plan_edit,
)
from detox_engine.cli.output import plain
from detox_engine.errors import InputError
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.layers import format_layers
from detox_engine.plans.option import sentence
from detox_engine.plans.sources import ModelSpec

if TYPE_CHECKING:
    from detox_engine.reading.token_lens import TokenProjections
    from detox_engine.study.study import Study

NO_EDIT = "no edit; a study's suggestion where only one of layers and rank is given"
EditLayers = Annotated[
    str | None, typer.Option("--edit-layers", help=sentence(EditPlan, "layers"), show_default=NO_EDIT)
]
EditRank = Annotated[int | None, typer.Option("--edit-rank", help=sentence(EditPlan, "rank"), show_default=NO_EDIT)]
Csv = Annotated[bool, typer.Option("--csv", help="Print comma-separated values instead of tables.")]


def lens(
    study: StudyFolder,
    text: Annotated[str, typer.Option("--text", help="The text to look at.")],
    layers: Annotated[
        str | None,
        typer.Option("--layers", help="Layers to look at, such as 4-7, 3, all or 2,5-7.", show_default=SUGGESTION),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(
            "--rank", help="Measure the length on the subspace of this many directions.", show_default=SUGGESTION
        ),
    ] = None,
    direction: Annotated[
        int | None,
        typer.Option("--direction", help="Measure the signed projection on this direction of each layer instead."),
    ] = None,
    edit_layers: EditLayers = None,
    edit_rank: EditRank = None,
    strength: Strength = EditPlan.strength,
    switch_off: SwitchedOff = None,
    model: StudyModel = None,
    device: Device = ModelSpec.device,
    dtype: Dtype = ModelSpec.dtype,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show where in a text the directions light up: tokens by layers, before and after an edit."""
    check_format(as_json, as_csv)
    with output.progress_bars() as progress:
        fitted = load_study(study)
        read = plan_lens(fitted, layers, rank, direction)
        plan = plan_optional_edit(fitted, edit_layers, edit_rank, strength, switch_off)
        from detox_engine.edit.low_rank import make_edit
        from detox_engine.reading.token_lens import TOKEN, list_tokens, project_text

        bench = load_workbench(fitted, model, device, dtype, progress)
        fitted.require_fit(bench.model)
        edit = None if plan is None else make_edit(fitted.subspaces, plan)
        bases = make_edit(fitted.subspaces, read).bases
        found = project_text(bench.model, text, bases, edit)
    if found.text.cut:
        output.print_note(f"The text was cut at its end: {found.text.cut} tokens were left out.")
    before, after = measure(found, read.rank, direction)
    if as_csv:
        return output.print_csv(TOKEN, list_tokens(found, before, after))
    if not as_json:
        return output.show(lens_table(found, before, after))
    tokens = zip(found.text.ids, found.text.tokens, found.text.pieces, strict=True)
    return output.print_json(
        {
            "text": "".join(found.text.pieces),
            "cut": found.text.cut,
            "measure": {"rank": read.rank} if direction is None else {"direction": direction},
            "edit": describe(plan),
            "layers": list(found.layers),
            "tokens": [
                {
                    "position": place,
                    "id": id,
                    "token": token,
                    "piece": piece,
                    "before": [row[place] for row in before],
                    "after": None if after is None else [row[place] for row in after],
                }
                for place, (id, token, piece) in enumerate(tokens)
            ],
        }
    )


def check_format(as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise InputError("Choose one of --json and --csv.")


def check_layer(study: "Study", layer: int) -> None:
    if not 0 <= layer < study.layers:
        raise InputError(f"Layer {layer} is outside the model: its layers are 0-{study.layers - 1}.")


def plan_lens(study: "Study", layers: str | None, rank: int | None, direction: int | None) -> EditPlan:
    """The layers and directions to read, in the shape of an edit plan, whose checks it shares."""
    if direction is None:
        return plan_edit(study, layers, rank)
    if rank is not None:
        raise InputError("Choose one of --rank (length on a subspace) and --direction (signed projection).")
    if not 0 <= direction < study.kept:
        raise InputError(f"Direction {direction} was not kept: choose one of 0-{study.kept - 1}.")
    return plan_edit(study, layers, direction + 1)


def plan_optional_edit(
    study: "Study", layers: str | None, rank: int | None, strength: float, switched_off: str | None
) -> EditPlan | None:
    """The edit asked for, or None where neither layers nor a rank were given."""
    if layers is None and rank is None:
        return None
    return plan_edit(study, layers, rank, strength, switched_off)


def measure(
    found: "TokenProjections", rank: int, direction: int | None
) -> tuple[list[list[float]], list[list[float]] | None]:
    """`[layers][tokens]` before and after: signed on `direction`, or the length on the first `rank` directions."""

    def side(after: bool) -> list[list[float]]:
        return (found.norms(rank, after) if direction is None else found.along(direction, after)).tolist()

    return side(False), None if found.after is None else side(True)


def describe(plan: EditPlan | None) -> dict[str, Any] | None:
    if plan is None:
        return None
    return {"layers": format_layers(plan.layers), "rank": plan.rank, "strength": plan.strength}


def lens_table(
    found: "TokenProjections", before: Sequence[Sequence[float]], after: Sequence[Sequence[float]] | None
) -> Table:
    """One row for each token, one column for each layer; after the arrow what the edit leaves."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("token")
    for layer in found.layers:
        table.add_column(f"layer {layer}", justify="right")
    for place, token in enumerate(found.text.tokens):
        cells = [f"{row[place]:.2f}" for row in before]
        if after is not None:
            cells = [f"{cell} → {row[place]:.2f}" for cell, row in zip(cells, after, strict=True)]
        table.add_row(plain(token), *cells)
    return table
