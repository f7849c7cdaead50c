"""The commands that take an edit away: `detox export` writes it, `detox verify` holds such a folder to its word, `detox
push` takes it to the Hub, `detox report` draws what is known of it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from detox_engine.errors import InputError
from detox_engine.plans.auto import LICENCE
from detox_engine.plans.edit import EXPORT_FORMS, EditPlan, ExportForm, record_edit
from detox_engine.plans.sources import ModelSpec, StudyModel

if TYPE_CHECKING:
    from detox_engine.export.push import Push
    from detox_engine.export.take_away import Claim, Export

As = Annotated[
    ExportForm,
    typer.Option("--as", help="; ".join(f"{form}: {sentence}" for form, sentence in EXPORT_FORMS.items()) + "."),
]
Folder = Annotated[Path, typer.Option("--out", help="New folder to write to.")]
Exported = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder that “detox export” wrote.")]
Base = Annotated[str, typer.Option("--base", help="The base model: its folder, Hub id, GGUF file, or name here.")]


Evaluated = Annotated[
    Path | None,
    typer.Option("--evaluation", help="File that “detox evaluate --report” wrote of this edit, for the card."),
]
To = Annotated[str | None, typer.Option("--push", help="Repository on the Hub, USER/NAME, if the verdict is to ship.")]
Upload = Annotated[
    bool, typer.Option("--upload", help="Upload for real; without it only what would be uploaded is told.")
]


@asks(edit=EditPlan(), model=StudyModel())
def export(
    study: StudyFolder,
    out: Folder,
    edit: Said[EditPlan],
    model: Said[StudyModel],
    form: As = "adapter",
    evaluation: Evaluated = None,
    licence: Annotated[
        str | None, typer.Option("--licence", help=LICENCE, show_default="what the base model's files say")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write an edit as files that others load, with a card and a receipt that proves what they are."""
    from detox_engine.export.licence import check_licence
    from detox_engine.export.take_away import Enclosed
    from detox_engine.study.study import require_new

    require_new(out)
    check_licence(licence)  # before a model is loaded
    with output.progress_bars() as progress:
        fitted = load_study(study)
        plan = plan_edit(fitted, edit)
        enclosed = Enclosed(read_measured(evaluation), licence=licence)
        bench = load_workbench(fitted, model, progress)
        written = bench.export(fitted, plan, out, form, progress, enclosed)
    source = tell_source(fitted, edit)
    for warning in written.warnings:
        output.print_note(warning)
    if as_json:
        told = {"folder": str(out), "form": form, "edit": record_edit(written.edit), "files": written.sizes}
        return output.print_json(told | {"warnings": list(written.warnings)})
    output.show(plain(output.tell_edit(written.edit, source)))
    return output.show(export_table(written))


def read_measured(file: Path | None) -> dict[str, Any] | None:
    """The record of an evaluation, after it was seen to be one."""
    if file is None:
        return None
    from detox_engine.scoring.records import load_evaluation

    load_evaluation(file)
    return json.loads(file.read_text(encoding="utf-8"))


def size_table(sizes: Mapping[str, int]) -> Table:
    """One row for each file."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("file")
    table.add_column("bytes", justify="right")
    for name, size in sizes.items():
        table.add_row(plain(name), f"{size:,}")
    return table


def export_table(written: "Export") -> RenderableType:
    """The files with their sizes, and where it says what to do with them."""
    return Group(size_table(written.sizes), plain(f"How to load it: {written.folder / 'README.md'}."))


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


@asks()
def push(
    folder: Exported,
    to: Annotated[str, typer.Option("--to", help="Repository on the Hub: USER/NAME.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository a private one.")] = False,
    upload: Upload = False,
    as_json: Json = False,
) -> None:
    """Take an exported folder to the Hub, with the login of “hf auth login”; says what it would do unless told to."""
    from detox_engine.export.push import push_export

    pushed = push_export(folder, to, private, upload)
    if as_json:
        return output.print_json(asdict(pushed) | {"uploaded": bool(pushed.url)})
    return output.show(push_table(pushed))


def push_table(pushed: "Push") -> RenderableType:
    """The files that were uploaded, or would be."""
    kind = "private" if pushed.private else "public"
    told = (
        f"Uploaded: {pushed.url}"
        if pushed.url
        else f"These would be uploaded to {pushed.to}, a {kind} repository: do so with --upload."
    )
    return Group(size_table(pushed.sizes), plain(" ".join((told, *pushed.notes))))


@asks(edit=EditPlan(), model=StudyModel())
def report(
    study: StudyFolder,
    out: Annotated[Path, typer.Option("--out", help="New HTML file to write to.")],
    edit: Said[EditPlan],
    model: Said[StudyModel],
    evaluation: Evaluated = None,
    sweep: Annotated[
        Path | None,
        typer.Option("--sweep", help="A sweep's file of results.", show_default="sweep.jsonl in the study's folder"),
    ] = None,
    words: Annotated[
        bool, typer.Option("--words/--no-words", help="Read the directions in words, for which the model is loaded.")
    ] = True,
) -> None:
    """Draw a study, its edit and what was measured of it as one HTML file that needs no network."""
    from detox_engine.export.report import Told, read_for_report, write_report
    from detox_engine.export.take_away import ORIGINS
    from detox_engine.scoring.results import load_points
    from detox_engine.study.study import require_new_file

    require_new_file(out)
    with output.progress_bars() as progress:
        fitted = load_study(study)
        plan, measured = plan_edit(fitted, edit), read_measured(evaluation)
        kept = study / "sweep.jsonl" if sweep is None else sweep
        if sweep is not None and not sweep.is_file():
            raise InputError(f"{sweep} is no file: give one that “detox sweep” wrote.")
        load_points(kept)
        readings = []
        if words:
            bench = load_workbench(fitted, model, progress)
            readings = read_for_report(bench.model, fitted, plan, progress)
        name = ORIGINS.get(fitted.model.name, Path(fitted.model.name).name)
        told = Told(plan, name, readings, measured, kept if kept.is_file() else None)
        write_report(study, told, out, progress)
    output.show(plain(f"The report is in {out}."))
