"""`detox evaluate`: is an edit good?"""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from detox_engine.cli import output
from detox_engine.cli.options import (
    TASKS_HERE,
    Classifier,
    ClassifierLabel,
    Control,
    Controls,
    ControlSeed,
    Device,
    Dtype,
    Greedy,
    Json,
    Layers,
    LimitNeutral,
    LimitPrompts,
    LimitTasks,
    MaxNewTokens,
    Neutral,
    NeutralColumn,
    NeutralLayout,
    NeutralSplit,
    NeutralSubset,
    Prompts,
    Rank,
    Resamples,
    Samples,
    Scorers,
    Seed,
    Strength,
    Stride,
    StudyFolder,
    StudyModel,
    SwitchedOff,
    Tasks,
    Temperature,
    TopP,
    Window,
    load_study,
    load_workbench,
    plan_edit,
    read_plan,
)
from detox_engine.cli.output import describe_edit, plain
from detox_engine.errors import InputError, Progress
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.layers import format_layers
from detox_engine.plans.measure import EvaluationPlan
from detox_engine.plans.sources import ModelSpec, PairSpec

if TYPE_CHECKING:
    from detox_engine.estimates import Estimate
    from detox_engine.scoring.evaluation import Evaluation
    from detox_engine.scoring.recommend import Choice
    from detox_engine.scoring.sweep import Sweep
    from detox_engine.study.study import Study

WHOLE = EvaluationPlan()
SCORERS_HERE = ",".join(WHOLE.scorers)


def evaluate(
    ctx: typer.Context,
    study: StudyFolder,
    layers: Layers = None,
    rank: Rank = None,
    strength: Strength = EditPlan.strength,
    switch_off: SwitchedOff = None,
    scorers: Scorers = SCORERS_HERE,
    preset: Annotated[
        Literal["paper"] | None,
        typer.Option("--preset", help="paper: the published layers, rank and evaluation, where nothing else is said."),
    ] = None,
    prompts: Prompts = WHOLE.prompts,
    limit_prompts: LimitPrompts = WHOLE.limit_prompts,
    max_new_tokens: MaxNewTokens = WHOLE.sampling.max_new_tokens,
    samples: Samples = WHOLE.sampling.samples,
    greedy: Greedy = WHOLE.sampling.greedy,
    temperature: Temperature = WHOLE.sampling.temperature,
    top_p: TopP = WHOLE.sampling.top_p,
    seed: Seed = WHOLE.sampling.seed,
    neutral: Neutral = WHOLE.neutral.source,
    neutral_subset: NeutralSubset = WHOLE.neutral.subset,
    neutral_split: NeutralSplit = WHOLE.neutral.split,
    neutral_column: NeutralColumn = WHOLE.neutral.column,
    neutral_layout: NeutralLayout = WHOLE.neutral.layout,
    window: Window = WHOLE.neutral.window,
    stride: Stride = WHOLE.neutral.stride,
    limit_neutral: LimitNeutral = WHOLE.neutral.limit,
    classifier: Classifier = WHOLE.classifier,
    classifier_label: ClassifierLabel = WHOLE.classifier_label,
    tasks: Tasks = TASKS_HERE,
    limit_tasks: LimitTasks = WHOLE.limit_tasks,
    control: Control = "random",
    controls: Controls = WHOLE.controls,
    control_seed: ControlSeed = WHOLE.seed,
    resamples: Resamples = WHOLE.resamples,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="New JSON file for all of the evaluation: every prompt, and the edit's proof."),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option("--pairs", help="With the paper's preset: fit the study on 500 of these pairs if there is none."),
    ] = None,
    model: StudyModel = None,
    device: Device = ModelSpec.device,
    dtype: Dtype = ModelSpec.dtype,
    as_json: Json = False,
) -> None:
    """Score an edit before and after, beside random subspaces of the same rank."""
    if report is not None and report.exists():
        raise InputError(f"{report} exists already; choose another file, or remove it first.")
    plan = read_plan(ctx, WHOLE if preset is None else read_paper())
    with output.progress_bars() as progress:
        if preset is not None and not study.exists():
            fit_paper_study(study, model, device, dtype, pairs, progress)
        fitted = load_study(study)
        edit_plan = plan_edit(fitted, *pick_edit(fitted, model, preset, layers, rank), strength, switch_off)
        from detox_engine.scoring.evaluation import evaluate as evaluate_edit
        from detox_engine.scoring.records import record_evaluation, record_scores

        bench = load_workbench(fitted, model, device, dtype, progress)
        evaluation = evaluate_edit(bench, fitted, edit_plan, plan, progress)
    cut = sum(any(each.cut for each in outcome.comparisons) for outcome in evaluation.prompts)
    if cut:
        output.print_note(f"Prompts cut from the left, to fit into the model's context: {cut}.")
    if report is not None:
        write_report(report, record_evaluation(evaluation))
    if as_json:
        return output.print_json(record_scores(evaluation))
    return output.show(evaluation_table(evaluation, preset is None and layers is None and rank is None))


def read_paper() -> EvaluationPlan:
    from detox_engine.study.suggest import PAPER_EVALUATION

    return PAPER_EVALUATION


def pick_edit(
    study: "Study", model: str | None, preset: str | None, layers: str | None, rank: int | None
) -> tuple[str | None, int | None]:
    """Layers and rank as they were said, else the paper's under its preset, else None for the study's suggestion."""
    if preset is None:
        return layers, rank
    from detox_engine.study.suggest import find_published

    published = find_published(model or study.model.name)
    return layers or format_layers(published.layers), rank or published.rank


def fit_paper_study(
    study: Path, model: str | None, device: str, dtype: str, pairs: str | None, progress: Progress
) -> None:
    """Fit the study of the paper's preset on the published number of pairs."""
    from detox_engine.cli.options import absolute
    from detox_engine.study.suggest import PAPER_PAIRS, find_published
    from detox_engine.workbench import fit_to_folder

    if model is None or pairs is None:
        raise InputError(f"There is no study {study} yet: to fit it first, name the model and the pairs it needs.")
    find_published(model)
    plan = FitPlan(PairSpec(pairs, limit=PAPER_PAIRS))
    fit_to_folder(ModelSpec(absolute(model), device=device, dtype=dtype), plan, study, progress)


def write_report(file: Path, record: dict[str, Any]) -> None:
    """Write a record beside `file` and rename it when whole."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        text = json.dumps(output.without_nan(record), ensure_ascii=False, allow_nan=False, indent=2)
        partial.write_text(text, encoding="utf-8")
        partial.rename(file)
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error.strerror}): name another file for the report.") from None
    finally:
        partial.unlink(missing_ok=True)


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
