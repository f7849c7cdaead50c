"""`detox sweep`: which ranks and layers are worth it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detox_engine.cli import evaluate, output
from detox_engine.cli.options import (
    TASKS_HERE,
    Classifier,
    ClassifierLabel,
    Controls,
    ControlSeed,
    Device,
    Dtype,
    Greedy,
    Json,
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
    StudyFolder,
    StudyModel,
    Tasks,
    Temperature,
    TopP,
    Window,
    load_study,
    load_workbench,
    option_of,
    read_numbers,
    read_plan,
    was_said,
)
from detox_engine.errors import InputError
from detox_engine.plans.layers import parse_layers
from detox_engine.plans.measure import SWEEP_EVALUATION, SweepPlan
from detox_engine.plans.sources import ModelSpec

if TYPE_CHECKING:
    from detox_engine.study.study import Study

SCORERS_IN_SWEEP = ",".join(SWEEP_EVALUATION.scorers)
RANKS_HERE = ",".join(map(str, SweepPlan.ranks))


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
    with output.progress_bars() as progress:
        fitted = load_study(study)
        plan = SweepPlan(
            pick_ranks(fitted, read_numbers(ranks, int, "ranks"), was_said(ctx, "ranks")),
            None if starts.strip().lower() == "all" else parse_layers(starts, fitted.layers),
            None if ends is None else parse_layers(ends, fitted.layers),
            read_numbers(strengths, float, "strengths"),
            measure,
        )
        from detox_engine.scoring.records import record_sweep, tabulate_sweep
        from detox_engine.scoring.sweep import check_grid, run_sweep

        check_grid(fitted, plan)
        bench = load_workbench(fitted, model, device, dtype, progress)
        results = study / "sweep.jsonl" if out is None else out
        found = run_sweep(bench, fitted, plan, results, progress)
    if as_csv:
        return output.print_csv(*tabulate_sweep(found))
    if as_json:
        return output.print_json(record_sweep(found))
    from detox_engine.scoring.recommend import find_role, recommend

    harm, cost = find_role(found.scorers, "harm"), find_role(found.scorers, "cost")
    choice = recommend(found.points, harm, cost, perplexity_limit) if harm and cost else None
    return output.show(evaluate.sweep_table(found, choice, str(results)))


def pick_ranks(study: "Study", ranks: tuple[int, ...], said: bool) -> tuple[int, ...]:
    """The ranks asked for; of the ones that nobody asked for, those that the study has directions for."""
    return ranks if said else tuple(rank for rank in ranks if rank <= study.kept)
