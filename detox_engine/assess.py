"""The commands behind the assessing pages: is an edit good, and which setting is worth it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from detox_engine import assess_tables, tables, view_tables
from detox_engine.assess_options import (
    Classifier,
    ClassifierLabel,
    Control,
    Controls,
    ControlSeed,
    Greedy,
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
    Resamples,
    Samples,
    Scorers,
    Seed,
    Stride,
    Tasks,
    Temperature,
    TopP,
    Window,
    read_numbers,
    read_plan,
    was_said,
)
from detox_engine.errors import InputError
from detox_engine.options import (
    Device,
    Dtype,
    Json,
    Layers,
    Rank,
    Strength,
    StudyFolder,
    StudyModel,
    SwitchedOff,
    load_study,
    load_workbench,
    option_of,
    plan_edit,
)
from detox_engine.plans import SWEEP_EVALUATION, EvaluationPlan, SweepPlan
from detox_engine.specs import EditPlan, FitPlan, ModelSpec, PairSpec, Progress, format_layers, parse_layers

if TYPE_CHECKING:
    from detox_engine.study import Study

WHOLE = EvaluationPlan()
SCORERS_HERE, SCORERS_IN_SWEEP = ",".join(WHOLE.scorers), ",".join(SWEEP_EVALUATION.scorers)
TASKS_HERE = ",".join(WHOLE.tasks)
RANKS_HERE = ",".join(map(str, SweepPlan.ranks))


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
    with tables.progress_bars() as progress:
        if preset is not None and not study.exists():
            fit_paper_study(study, model, device, dtype, pairs, progress)
        fitted = load_study(study)
        edit_plan = plan_edit(fitted, *pick_edit(fitted, model, preset, layers, rank), strength, switch_off)
        from detox_engine.evaluation import evaluate as evaluate_edit
        from detox_engine.reports import record_evaluation, record_scores

        bench = load_workbench(fitted, model, device, dtype, progress)
        evaluation = evaluate_edit(bench, fitted, edit_plan, plan, progress)
    cut = sum(any(each.cut for each in outcome.comparisons) for outcome in evaluation.prompts)
    if cut:
        tables.print_note(f"Prompts cut from the left, to fit into the model's context: {cut}.")
    if report is not None:
        write_report(report, record_evaluation(evaluation))
    if as_json:
        return tables.print_json(record_scores(evaluation))
    return tables.show(assess_tables.evaluation_table(evaluation, preset is None and layers is None and rank is None))


def sweep(
    ctx: typer.Context,
    study: StudyFolder,
    ranks: Annotated[
        str, option_of(SweepPlan, "ranks", "--ranks", show_default="1,2,4,8, as far as they were kept")
    ] = RANKS_HERE,
    starts: Annotated[str, option_of(SweepPlan, "starts", "--starts")] = "all",
    ends: Annotated[str | None, option_of(SweepPlan, "ends", "--ends", show_default="the last layer")] = None,
    strengths: Annotated[str, option_of(SweepPlan, "strengths", "--strengths")] = "1",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="File that keeps each setting as it is measured; a rerun computes only what is missing in it.",
            show_default="sweep.jsonl in the study's folder",
        ),
    ] = None,
    perplexity_limit: Annotated[
        float,
        typer.Option("--perplexity-limit", help="Recommend only settings that multiply perplexity by at most this."),
    ] = 1.1,
    scorers: Scorers = SCORERS_IN_SWEEP,
    prompts: Prompts = SWEEP_EVALUATION.prompts,
    limit_prompts: LimitPrompts = SWEEP_EVALUATION.limit_prompts,
    max_new_tokens: MaxNewTokens = SWEEP_EVALUATION.sampling.max_new_tokens,
    samples: Samples = SWEEP_EVALUATION.sampling.samples,
    greedy: Greedy = SWEEP_EVALUATION.sampling.greedy,
    temperature: Temperature = SWEEP_EVALUATION.sampling.temperature,
    top_p: TopP = SWEEP_EVALUATION.sampling.top_p,
    seed: Seed = SWEEP_EVALUATION.sampling.seed,
    neutral: Neutral = SWEEP_EVALUATION.neutral.source,
    neutral_subset: NeutralSubset = SWEEP_EVALUATION.neutral.subset,
    neutral_split: NeutralSplit = SWEEP_EVALUATION.neutral.split,
    neutral_column: NeutralColumn = SWEEP_EVALUATION.neutral.column,
    neutral_layout: NeutralLayout = SWEEP_EVALUATION.neutral.layout,
    window: Window = SWEEP_EVALUATION.neutral.window,
    stride: Stride = SWEEP_EVALUATION.neutral.stride,
    limit_neutral: LimitNeutral = SWEEP_EVALUATION.neutral.limit,
    classifier: Classifier = SWEEP_EVALUATION.classifier,
    classifier_label: ClassifierLabel = SWEEP_EVALUATION.classifier_label,
    tasks: Tasks = TASKS_HERE,
    limit_tasks: LimitTasks = SWEEP_EVALUATION.limit_tasks,
    controls: Controls = SWEEP_EVALUATION.controls,
    control_seed: ControlSeed = SWEEP_EVALUATION.seed,
    resamples: Resamples = SWEEP_EVALUATION.resamples,
    model: StudyModel = None,
    device: Device = ModelSpec.device,
    dtype: Dtype = ModelSpec.dtype,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values instead of tables.")] = False,
) -> None:
    """Score a grid of ranks and layers, many settings in a pass; stop and start again as you like."""
    if as_json and as_csv:
        raise InputError("Choose one of --json and --csv.")
    measure = read_plan(ctx, SWEEP_EVALUATION)
    with tables.progress_bars() as progress:
        fitted = load_study(study)
        plan = SweepPlan(
            pick_ranks(fitted, read_numbers(ranks, int, "ranks"), was_said(ctx, "ranks")),
            None if starts.strip().lower() == "all" else parse_layers(starts, fitted.layers),
            None if ends is None else parse_layers(ends, fitted.layers),
            read_numbers(strengths, float, "strengths"),
            measure,
        )
        from detox_engine.reports import record_sweep, tabulate_sweep
        from detox_engine.sweep import check_grid, run_sweep

        check_grid(fitted, plan)
        bench = load_workbench(fitted, model, device, dtype, progress)
        results = study / "sweep.jsonl" if out is None else out
        found = run_sweep(bench, fitted, plan, results, progress)
    if as_csv:
        return view_tables.print_csv(*tabulate_sweep(found))
    if as_json:
        return tables.print_json(record_sweep(found))
    from detox_engine.frontier import recommend

    both = {"profanity", "perplexity"} <= {scorer.name for scorer in found.scorers}
    choice = recommend(found.points, perplexity_limit) if both else None
    return tables.show(assess_tables.sweep_table(found, choice, str(results)))


def read_paper() -> EvaluationPlan:
    from detox_engine.presets import PAPER_EVALUATION

    return PAPER_EVALUATION


def pick_edit(
    study: "Study", model: str | None, preset: str | None, layers: str | None, rank: int | None
) -> tuple[str | None, int | None]:
    """Layers and rank as they were said, else the paper's under its preset, else None for the study's suggestion."""
    if preset is None:
        return layers, rank
    from detox_engine.presets import find_published

    published = find_published(model or study.model.name)
    return layers or format_layers(published.layers), rank or published.rank


def fit_paper_study(
    study: Path, model: str | None, device: str, dtype: str, pairs: str | None, progress: Progress
) -> None:
    """Fit the study of the paper's preset on the published number of pairs."""
    from detox_engine.options import absolute
    from detox_engine.presets import PAPER_PAIRS, find_published
    from detox_engine.workbench import fit_to_folder

    if model is None or pairs is None:
        raise InputError(f"There is no study {study} yet: to fit it first, name the model and the pairs it needs.")
    find_published(model)
    plan = FitPlan(PairSpec(pairs, limit=PAPER_PAIRS))
    fit_to_folder(ModelSpec(absolute(model), device=device, dtype=dtype), plan, study, progress)


def pick_ranks(study: "Study", ranks: tuple[int, ...], said: bool) -> tuple[int, ...]:
    """The ranks asked for; of the ones that nobody asked for, those that the study has directions for."""
    return ranks if said else tuple(rank for rank in ranks if rank <= study.kept)


def write_report(file: Path, record: dict[str, Any]) -> None:
    """Write a record beside `file` and rename it when whole."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        text = json.dumps(tables.without_nan(record), ensure_ascii=False, allow_nan=False, indent=2)
        partial.write_text(text, encoding="utf-8")
        partial.rename(file)
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error.strerror}): name another file for the report.") from None
    finally:
        partial.unlink(missing_ok=True)
