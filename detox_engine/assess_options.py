"""What `detox evaluate` and `detox sweep` ask for, and how it becomes a plan."""

from dataclasses import replace
from typing import Annotated, Any, Literal

import typer

from detox_engine.errors import InputError
from detox_engine.options import option_of
from detox_engine.plans import SCORERS, EvaluationPlan, Layout, TextSpec
from detox_engine.specs import SamplingPlan

SCORER_LIST = "; ".join(f"{name}: {what}" for name, what in SCORERS.items())

Scorers = Annotated[
    str, typer.Option("--scorers", help=f"Scorers to run, with commas between them. {SCORER_LIST}.")
]
Prompts = Annotated[str, option_of(EvaluationPlan, "prompts", "--prompts")]
LimitPrompts = Annotated[int | None, option_of(EvaluationPlan, "limit_prompts", "--limit-prompts")]
MaxNewTokens = Annotated[int, option_of(SamplingPlan, "max_new_tokens", "--max-new-tokens")]
Samples = Annotated[int, option_of(SamplingPlan, "samples", "--samples")]
Greedy = Annotated[bool, option_of(SamplingPlan, "greedy", "--greedy/--no-greedy")]
Temperature = Annotated[float, option_of(SamplingPlan, "temperature", "--temperature")]
TopP = Annotated[float, option_of(SamplingPlan, "top_p", "--top-p")]
Seed = Annotated[int, option_of(SamplingPlan, "seed", "--seed")]
Neutral = Annotated[str, option_of(TextSpec, "source", "--neutral")]
NeutralSubset = Annotated[str | None, option_of(TextSpec, "subset", "--neutral-subset")]
NeutralSplit = Annotated[str, option_of(TextSpec, "split", "--neutral-split")]
NeutralColumn = Annotated[str, option_of(TextSpec, "column", "--neutral-column")]
NeutralLayout = Annotated[Layout, option_of(TextSpec, "layout", "--neutral-layout")]
Window = Annotated[int, option_of(TextSpec, "window", "--window")]
Stride = Annotated[int, option_of(TextSpec, "stride", "--stride")]
LimitNeutral = Annotated[int | None, option_of(TextSpec, "limit", "--limit-neutral")]
Classifier = Annotated[str, option_of(EvaluationPlan, "classifier", "--classifier")]
ClassifierLabel = Annotated[str | None, option_of(EvaluationPlan, "classifier_label", "--classifier-label")]
Tasks = Annotated[str, option_of(EvaluationPlan, "tasks", "--tasks")]
LimitTasks = Annotated[int | None, option_of(EvaluationPlan, "limit_tasks", "--limit-tasks")]
Controls = Annotated[int, option_of(EvaluationPlan, "controls", "--controls")]
ControlSeed = Annotated[int, option_of(EvaluationPlan, "seed", "--control-seed")]
Resamples = Annotated[int, option_of(EvaluationPlan, "resamples", "--resamples")]
Control = Annotated[
    Literal["random"], typer.Option("--control", help="What an edit is held against: random subspaces.")
]

TEXT_OPTIONS = {
    "neutral": "source", "neutral_subset": "subset", "neutral_split": "split", "neutral_column": "column",
    "neutral_layout": "layout", "window": "window", "stride": "stride", "limit_neutral": "limit",
}  # fmt: skip
SAMPLING_OPTIONS = ("max_new_tokens", "samples", "greedy", "temperature", "top_p", "seed")
LISTS = ("scorers", "tasks")
OTHER_OPTIONS = {
    **{name: name for name in ("prompts", "limit_prompts", "classifier", "classifier_label", "limit_tasks")},
    **{name: name for name in ("controls", "resamples", *LISTS)},
    "control_seed": "seed",
}


def was_said(ctx: typer.Context, name: str) -> bool:
    """Whether the option was written on the command line."""
    return ctx.get_parameter_source(name).name == "COMMANDLINE"


def read_plan(ctx: typer.Context, base: EvaluationPlan) -> EvaluationPlan:
    """`base` with whatever was said on the command line in its place."""
    said = {name: value for name, value in ctx.params.items() if was_said(ctx, name)}
    for name in LISTS:
        if name in said:
            said[name] = tuple(part.strip() for part in said[name].split(",") if part.strip())
    neutral = {field: said[name] for name, field in TEXT_OPTIONS.items() if name in said}
    if "neutral" in said:  # another text has none of the preset's details
        neutral = {"limit": base.neutral.limit} | neutral
    return replace(
        base,
        sampling=replace(base.sampling, **{name: said[name] for name in SAMPLING_OPTIONS if name in said}),
        neutral=replace(TextSpec() if "neutral" in said else base.neutral, **neutral),
        **{field: said[name] for name, field in OTHER_OPTIONS.items() if name in said},
    )


def read_numbers(text: str, kind: type, what: str) -> tuple[Any, ...]:
    """`1,2,4` as a tuple of numbers."""
    try:
        return tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise InputError(f"“{text}” is no list of {what}: write numbers with commas, such as 1,2.") from None


