"""What several commands ask for, and how they get to a study, its model and an edit of it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from detox_engine.errors import InputError, Progress
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.layers import format_layers, parse_directions, parse_layers
from detox_engine.plans.measure import EvaluationPlan, SamplingPlan
from detox_engine.plans.option import sentence
from detox_engine.plans.sources import Layout, ModelSpec, PairSpec, TextSpec
from detox_engine.scoring.scorers import choose, scorers

if TYPE_CHECKING:
    from detox_engine.study.study import Study
    from detox_engine.workbench import Workbench

SUGGESTION = "the study's suggestion"


def option_of(plan: type, name: str, flag: str, **settings: Any) -> Any:
    """The command-line option for the field `name` of a spec or plan."""
    return typer.Option(flag, help=sentence(plan, name), **settings)


StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder that “detox fit” wrote.")]
StudyModel = Annotated[
    str | None, option_of(ModelSpec, "name", "--model", show_default="the one that the study was fitted on")
]
Device = Annotated[str, option_of(ModelSpec, "device", "--device")]
Dtype = Annotated[str, option_of(ModelSpec, "dtype", "--dtype")]
Out = Annotated[Path, typer.Option("--out", help="New folder to write the study to.")]
Pairs = Annotated[str, option_of(PairSpec, "source", "--pairs")]
ToxicColumn = Annotated[str | None, option_of(PairSpec, "toxic", "--toxic-column")]
CivilColumn = Annotated[str | None, option_of(PairSpec, "civil", "--civil-column")]
PromptColumn = Annotated[str | None, option_of(PairSpec, "prompt", "--prompt-column")]
Subset = Annotated[str | None, option_of(PairSpec, "subset", "--subset")]
Split = Annotated[str, option_of(PairSpec, "split", "--split")]
PairsRevision = Annotated[str | None, option_of(PairSpec, "revision", "--pairs-revision")]
Limit = Annotated[int | None, option_of(PairSpec, "limit", "--limit")]
PairsSeed = Annotated[int, option_of(PairSpec, "seed", "--seed")]
Layers = Annotated[str | None, option_of(EditPlan, "layers", "--layers", show_default=SUGGESTION)]
Rank = Annotated[int | None, option_of(EditPlan, "rank", "--rank", show_default=SUGGESTION)]
Strength = Annotated[float, option_of(EditPlan, "strength", "--strength")]
SwitchedOff = Annotated[str | None, option_of(EditPlan, "switched_off", "--switch-off")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


def load_study(folder: Path) -> "Study":
    from detox_engine.study.study import Study

    return Study.load(folder)


def load_workbench(study: "Study", model: str | None, device: str, dtype: str, progress: Progress) -> "Workbench":
    """The study's own model, or `model` where the person says that it is the same."""
    from detox_engine.workbench import Workbench

    revision = study.model.revision if model is None else None
    return Workbench.load(ModelSpec(model or study.model.name, revision, device, dtype), progress)


def plan_edit(
    study: "Study",
    layers: str | None,
    rank: int | None,
    strength: float = EditPlan.strength,
    switched_off: str | None = None,
) -> EditPlan:
    """The edit asked for, the study's suggestion where nothing was said; refused before a model is loaded for it."""
    from detox_engine.edit.low_rank import make_edit

    plan = EditPlan(
        layers=study.suggested_layers if layers is None else parse_layers(layers, study.layers),
        rank=study.suggested_rank if rank is None else rank,
        strength=strength,
        switched_off=frozenset() if switched_off is None else frozenset(parse_directions(switched_off)),
    )
    for layer, direction in sorted(plan.switched_off):
        if layer not in plan.layers or direction >= plan.rank:
            raise InputError(
                f"Direction {layer}.{direction} cannot be switched off: the edit removes directions 0-{plan.rank - 1} "
                f"of layers {format_layers(plan.layers)}."
            )
    make_edit(study.subspaces, plan)
    return plan


def absolute(model: str) -> str:
    """The name of a model; of a folder its whole path, so that the study can be read from anywhere."""
    folder = Path(model).expanduser()
    return str(folder.resolve()) if model != ModelSpec.name and folder.is_dir() else model


def read_prompts_for(model: str, given: list[str] | None, source: str | None) -> tuple[str, ...]:
    """The prompts on the command line, or those of a file; “bundled” depends on the model."""
    from detox_engine.data.bundled import bundled_prompts
    from detox_engine.data.texts import read_prompts

    if bool(given) == (source is not None):
        raise InputError("Give prompts in one way: --prompt TEXT, --prompts FILE or --prompts bundled.")
    if source is not None:
        return read_prompts(source, bundled_prompts(model))
    for text in given:
        if not text.strip():
            raise InputError("A prompt is empty: write some words for the model to continue.")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(f"The prompt “{text}” is not UTF-8: write it in the terminal's own encoding.")
    return tuple(given)


SCORER_LIST = "; ".join(f"{name}: {kind.sentence}" for name, kind in scorers().items())

Scorers = Annotated[str, typer.Option("--scorers", help=f"Scorers to run, with commas between them. {SCORER_LIST}.")]
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
    plan = replace(
        base,
        sampling=replace(base.sampling, **{name: said[name] for name in SAMPLING_OPTIONS if name in said}),
        neutral=replace(TextSpec() if "neutral" in said else base.neutral, **neutral),
        **{field: said[name] for name, field in OTHER_OPTIONS.items() if name in said},
    )
    choose(plan)  # before anything is loaded
    return plan


def read_numbers(text: str, kind: type, what: str) -> tuple[Any, ...]:
    """`1,2,4` as a tuple of numbers."""
    try:
        return tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise InputError(f"“{text}” is no list of {what}: write numbers with commas, such as 1,2.") from None


TASKS_HERE = ",".join(EvaluationPlan().tasks)
