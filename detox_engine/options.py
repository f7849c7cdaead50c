"""What several commands ask for, and how they get to a study, its model and an edit of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detox_engine.errors import InputError
from detox_engine.specs import (
    EditPlan,
    ModelSpec,
    PairSpec,
    Progress,
    format_layers,
    parse_directions,
    parse_layers,
    sentence,
)

if TYPE_CHECKING:
    from detox_engine.study import Study
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
    from detox_engine.study import Study

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
    from detox_engine.edit import make_edit

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
    from detox_engine.prompts import read_prompts
    from detox_engine.workbench import bundled_prompts

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
