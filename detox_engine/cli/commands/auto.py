"""From a model to a verdict with `detox auto`, and the same once more with `detox reproduce`."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from detox_engine.cli import output
from detox_engine.cli.commands.export import To, Upload, claim_table, push_table
from detox_engine.cli.flags import Json, absolute, asks
from detox_engine.cli.output import plain, show_estimate
from detox_engine.disk import scratch_folder
from detox_engine.plans.auto import AutoPlan, NamedModel
from detox_engine.plans.edit import describe_edit, record_edit
from detox_engine.plans.shared.cluster import ClusterPlan
from detox_engine.plans.sources import ModelSpec, StudyModel, name_model

if TYPE_CHECKING:
    from detox_engine.auto.run import Outcome
    from detox_engine.auto.verdict import Verdict
    from detox_engine.errors import Progress
    from detox_engine.model.load import OpenModel

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="bundled, smollm2, a Hub id, a folder that holds a model, or a GGUF file."),
]
OutFolder = Annotated[
    Path, typer.Option("--out", help="New folder for the adapter, its card, the report and the receipt.")
]
RecipeFile = Annotated[Path, typer.Argument(metavar="FILE", help="The reproduce.json of an exported folder.")]
Check = Annotated[bool, typer.Option("--check", help="End with exit code 1 where anything comes out differently.")]


SHOWN = ("profanity", "mass", "perplexity", "drift", "fluency", "distinct_2")
"""The scores that a terminal has room for; the report has all."""


def _open(spec: ModelSpec, progress: "Progress") -> "OpenModel":
    from detox_engine.workbench import Workbench

    return Workbench.load(spec, progress).model


@asks(plan=AutoPlan(), where=NamedModel(), cluster=ClusterPlan())
def auto(
    model: Model,
    out: OutFolder,
    plan: AutoPlan,
    where: NamedModel,
    cluster: ClusterPlan,
    push: To = None,
    private: Annotated[bool, typer.Option("--private", help="Make the repository a private one.")] = False,
    upload: Upload = False,
    as_json: Json = False,
) -> None:
    """From a model to a verdict: fit, choose an edit, measure it on prompts that chose nothing, write what can be
    taken away. A run that was stopped goes on where it was."""
    spec = absolute(replace(where, name=model))
    from detox_engine.auto.run import run_auto

    with output.progress_bars() as progress:
        outcome = run_auto(spec, plan, out, _open, progress, _note_steps(as_json), cluster=cluster)
    pushed = None
    if push is not None and outcome.verdict.kind == "ship":
        from detox_engine.export.push import push_export

        pushed = push_export(out, push, private, upload)
    if as_json:
        return output.print_json(record_outcome(outcome, out))
    output.show(outcome_table(outcome, out, name_model(spec)))
    if pushed is not None:
        output.show(push_table(pushed))
    elif push is not None:
        output.print_note(f"Nothing was pushed, since the verdict is not to ship: {outcome.verdict.kind}.")
    return None


def _note_steps(quiet: bool) -> Any:
    """Says each step as it begins, with how long the one before took."""
    from detox_engine.auto.run import STEPS

    def tell(outcome: "Outcome") -> None:
        step = outcome.step
        if step is not None and not quiet:
            number = list(STEPS).index(step) + 1
            output.print_note(f"Step {number} of {len(STEPS)}: {STEPS[step][:1].lower()}{STEPS[step][1:]}.")

    return tell


def record_outcome(outcome: "Outcome", folder: Path) -> dict[str, Any]:
    """What a run came to, for programs."""
    from detox_engine.auto.run import record_verdict
    from detox_engine.study.suggestion import record_suggested

    suggestion = outcome.study.suggestion
    edit = suggestion.edit if suggestion is not None else None
    return {
        **record_verdict(outcome),
        "folder": str(folder),
        "study": str(outcome.place / "study"),
        "edit": None if edit is None else record_edit(edit),
        "suggested": record_suggested(suggestion),
        "files": {} if outcome.export is None else outcome.export.sizes,
        "warnings": [] if outcome.export is None else list(outcome.export.warnings),
    }


def outcome_table(outcome: "Outcome", folder: Path, model: str) -> RenderableType:
    """The verdict, what was asked, the scores beside their controls, and where everything lies."""
    from detox_engine.auto.run import STEPS

    verdict, parts = outcome.verdict, []
    parts.append(plain(f"{verdict.kind.capitalize()}: {model}."))
    suggestion = outcome.study.suggestion
    if suggestion is not None and suggestion.edit is not None:
        parts.append(plain(f"Edit: {describe_edit(suggestion.edit)}."))
    parts.append(criteria_table(verdict) if verdict.criteria else plain(verdict.reason))
    if outcome.evaluation is not None:
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("score")
        kinds = outcome.evaluation.plan.kinds
        names = {"plain": "random control", "matched": "random, matched in KL"}
        for title in ("before", "after", "after − before", *(names[kind] for kind in kinds)):
            table.add_column(title, justify="right")
        for score in filter(None, map(outcome.evaluation.find, SHOWN)):
            effect = score.effect
            levels = (control.level for control in effect.controls)
            cells = map(show_estimate, (effect.before, effect.after, effect.difference, *levels))
            table.add_row(plain(score.name), *cells)
        parts.append(table)
    times = ", ".join(f"{step} {spent:.0f} s" for step, spent in outcome.seconds.items() if step in STEPS)
    parts.append(plain(f"In brackets 95 % intervals. {times}."))
    parts += [plain(warning) for warning in (outcome.export.warnings if outcome.export else ())]
    what = (
        "The adapter, its card, the report and the receipt are" if outcome.export else "The verdict and the report are"
    )
    parts.append(plain(f"{what} in {folder}; the study stays in {outcome.place / 'study'}."))
    return Group(*parts)


def criteria_table(verdict: "Verdict") -> Table:
    """What was asked of the edit, and the answers."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("asked", "answer", "why"):
        table.add_column(title)
    for one in verdict.criteria:
        table.add_row(plain(one.question), one.answer, plain(f"{one.sentence} {one.settle}".strip()))
    return table


@asks(model=StudyModel())
def reproduce(
    file: RecipeFile,
    model: StudyModel,
    pairs: Annotated[str | None, typer.Option("--pairs", help="Where the file with the pairs is here.")] = None,
    prompts: Annotated[str | None, typer.Option("--prompts", help="Where the file with the prompts is here.")] = None,
    neutral: Annotated[str | None, typer.Option("--neutral", help="Where the file with neutral text is here.")] = None,
    check: Check = False,
    as_json: Json = False,
) -> None:
    """Fit and measure an exported edit once more, and compare: the same subspace, the same figures."""
    from detox_engine.auto.repeat import Sources, repeat
    from detox_engine.export.recipe import read_recipe

    base = read_recipe(file).base
    name = model.name if model.name is not None else name_here(base.name)
    revision = base.revision if model.name is None else model.revision
    spec = ModelSpec(name, revision, model.device, model.dtype, model.device_map)
    with output.progress_bars() as progress, scratch_folder() as place:
        found = repeat(file, absolute(spec), _open, place, Sources(pairs, prompts, neutral), progress)
    if as_json:
        output.print_json(
            {
                "file": str(file),
                "holds": found.holds,
                "claims": [asdict(claim) for claim in found.claims],
                "differences": list(found.differences),
            }
        )
    else:
        output.show(claim_table(found.claims))
        told = "; ".join(found.differences) or "none"
        output.show(plain(f"Differences of versions and machine: {told}."))
    if check and not found.holds:
        raise typer.Exit(1)


def name_here(name: str) -> str:
    """What a base model is called here, by its name for others."""
    from detox_engine.export.take_away import ORIGINS

    here: Mapping[str, str] = {others: own for own, others in ORIGINS.items()}
    return here.get(name, name)
