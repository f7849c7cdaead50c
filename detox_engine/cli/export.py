"""The commands that take an edit away: `detox export` writes it, `detox verify` holds such a folder to its word."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from detox_engine.cli import output
from detox_engine.cli.flags import (
    Json,
    Said,
    StudyFolder,
    absolute,
    asks,
    load_study,
    load_workbench,
    plan_edit,
    tell_source,
)
from detox_engine.cli.output import plain
from detox_engine.plans.edit import EXPORT_FORMS, EditPlan, ExportForm, record_edit
from detox_engine.plans.sources import ModelSpec, StudyModel

if TYPE_CHECKING:
    from detox_engine.export.take_away import Claim, Export

As = Annotated[
    ExportForm,
    typer.Option("--as", help="; ".join(f"{form}: {sentence}" for form, sentence in EXPORT_FORMS.items()) + "."),
]
Folder = Annotated[Path, typer.Option("--out", help="New folder to write to.")]
Exported = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder that “detox export” wrote.")]
Base = Annotated[str, typer.Option("--base", help="The base model: its folder, Hub id, GGUF file, or name here.")]


@asks(edit=EditPlan(), model=StudyModel())
def export(
    study: StudyFolder,
    out: Folder,
    edit: Said[EditPlan],
    model: Said[StudyModel],
    form: As = "adapter",
    as_json: Json = False,
) -> None:
    """Write an edit as files that others load, with a card and a receipt that proves what they are."""
    from detox_engine.study.study import require_new

    require_new(out)
    with output.progress_bars() as progress:
        fitted = load_study(study)
        plan = plan_edit(fitted, edit)
        bench = load_workbench(fitted, model, progress)
        written = bench.export(fitted, plan, out, form, progress)
    source = tell_source(fitted, edit)
    if as_json:
        return output.print_json(
            {"folder": str(out), "form": form, "edit": record_edit(written.edit), "files": written.sizes}
        )
    output.show(plain(output.tell_edit(written.edit, source)))
    return output.show(export_table(written))


def export_table(written: "Export") -> RenderableType:
    """The files with their sizes, and where it says what to do with them."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("file")
    table.add_column("bytes", justify="right")
    for name, size in written.sizes.items():
        table.add_row(plain(name), f"{size:,}")
    return Group(table, plain(f"How to load it: {written.folder / 'README.md'}."))


@asks()
def verify(folder: Exported, base: Base, as_json: Json = False) -> None:
    """Recompute what an exported folder claims to be; ends with exit code 1 where a claim does not hold."""
    from detox_engine.export.receipt import read_receipt
    from detox_engine.workbench import Workbench

    made_for = read_receipt(folder).base
    revision = made_for.revision if base == made_for.name else None
    with output.progress_bars() as progress:
        bench = Workbench.load(absolute(ModelSpec(base, revision)), progress)
        claims = bench.verify(folder, progress)
    if as_json:
        output.print_json({"folder": str(folder), "claims": [asdict(claim) for claim in claims]})
    else:
        output.show(claim_table(claims))
    if not all(claim.holds for claim in claims):
        raise typer.Exit(1)


def claim_table(claims: tuple["Claim", ...]) -> RenderableType:
    """One row for each claim that was looked at."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("claim", "holds", "why"):
        table.add_column(title)
    for claim in claims:
        table.add_row(plain(claim.name), "yes" if claim.holds else "NO", plain(claim.sentence))
    return table
