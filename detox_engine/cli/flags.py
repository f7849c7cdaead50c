"""Flags made from plans, and how commands get to a study, its model and an edit of it."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, get_origin

import typer

from detox_engine.cli import output
from detox_engine.errors import InputError, Progress
from detox_engine.plans.edit import EditBeside, EditPlan
from detox_engine.plans.layers import EVERY_LAYER, format_layers
from detox_engine.plans.option import ALL, Leaf, Plan, fill, leaves
from detox_engine.plans.sources import ModelSpec, StudyModel, find_place

if TYPE_CHECKING:
    from detox_engine.study.study import Study
    from detox_engine.workbench import Workbench

P = TypeVar("P")
Command = Callable[..., None]

StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder that “detox fit” wrote.")]
Out = Annotated[Path, typer.Option("--out", help="New folder to write the study to.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Csv = Annotated[
    bool,
    typer.Option(
        "--csv",
        help="Print comma-separated values instead of tables; texts that a spreadsheet would run as a formula get an "
        "apostrophe before them.",
    ),
]
Raw = Annotated[bool, typer.Option("--raw", help="With --csv: leave all texts as they are.")]


@dataclass(frozen=True)
class Said(Generic[P]):
    """What the command line says of a plan, by path; what it leaves out is for the command to know."""

    values: Mapping[str, Any]

    def over(self, usual: Plan) -> Plan:
        """`usual` with whatever was said in its place.

        Raises:
            InputError: the plan cannot be so.
        """
        return fill(usual, self.values)


def asks(
    more: Mapping[str, str] | None = None, /, **plans: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command a flag for every option of its plans, and of the plans in them.

    The parameter of a plan's name gets the finished plan, whose defaults are those of the plan here; annotated as
    `Said`, what was said of it. For a mapping of plans it gets a mapping.

    Args:
        more: by flag, what its help says after the sentence of its option.
    """

    def decorate(command: Command) -> Command:
        asked = inspect.signature(command, eval_str=True).parameters
        flags = []
        for name, parameter in asked.items():
            if name in plans:
                flags += [flag_of(leaf, more or {}) for plan in parts(plans[name]) for leaf in asked_of(plan)]
            else:
                flags.append(parameter.replace(kind=parameter.KEYWORD_ONLY))

        def run(ctx: typer.Context, **given: Any) -> None:
            own = {name: given[name] for name in asked if name not in plans}
            found = {name: collect(ctx, plan, asked[name].annotation) for name, plan in plans.items()}
            command(**own, **found)

        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature([context, *flags])
        run.__annotations__ = {flag.name: flag.annotation for flag in (context, *flags)}
        return run

    return decorate


def parts(plan: Any) -> tuple[Any, ...]:
    return tuple(plan.values()) if isinstance(plan, Mapping) else (plan,)


def asked_of(plan: Any) -> Iterator[Leaf]:
    """The options of a plan that the command line asks for."""
    return (leaf for leaf in leaves(plan) if leaf.flag is not None)


def name_of(leaf: Leaf) -> str:
    """The name of an option's parameter: `top_p` for `--top-p`."""
    return leaf.flag.partition("/")[0].removeprefix("--").replace("-", "_")


def flag_of(leaf: Leaf, more: Mapping[str, str]) -> inspect.Parameter:
    """The command's parameter for an option: of its own type, or a text that the option reads."""
    help = leaf.option.sentence + more.get(leaf.flag, "")
    metavar = f"INTEGER|{ALL}" if is_text(leaf) and leaf.kind is int else None
    show = True if leaf.option.usual is None else leaf.option.usual
    kind = str if is_text(leaf) else leaf.kind
    default = leaf.write(leaf.value) if is_text(leaf) and leaf.value is not None else leaf.value
    if leaf.value is None or leaf.option.usual is not None:
        kind, default = kind | None, None
    if leaf.value is ...:
        default = inspect.Parameter.empty
    flag = typer.Option(leaf.flag, help=help, metavar=metavar, show_default=show)
    return inspect.Parameter(
        name_of(leaf), inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, flag]
    )


def is_text(leaf: Leaf) -> bool:
    """Whether the option reads a text, since its values have no type of the command line: a list, or none at all."""
    return leaf.form is not None or (leaf.optional and leaf.option.usual is None)


def collect(ctx: typer.Context, plan: Any, annotation: Any) -> Any:
    """What a command's parameter gets of a plan, or of several."""
    if isinstance(plan, Mapping):
        return {name: read_said(ctx, part).over(part) for name, part in plan.items()}
    said = read_said(ctx, plan)
    return said if get_origin(annotation) is Said else said.over(plan)


def read_said(ctx: typer.Context, plan: P) -> Said[P]:
    """What was said of a plan's options on the command line.

    Raises:
        InputError: it stands for none of an option's values.
    """
    said = {}
    for leaf in asked_of(plan):
        if ctx.get_parameter_source(name_of(leaf)).name == "COMMANDLINE":
            value = ctx.params[name_of(leaf)]
            said[leaf.path] = read_text(leaf, value) if is_text(leaf) else value
    return Said(said)


def read_text(leaf: Leaf, text: str) -> Any:
    """The value that a text on the command line stands for; the plan checks its range."""
    if leaf.form is not None:
        return leaf.form.read(text)
    if leaf.kind is not int:
        return text or None
    if text == ALL:
        return None
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{leaf.flag} takes a whole number or {ALL}, not “{text}”.") from None


def load_study(folder: Path) -> "Study":
    from detox_engine.study.study import Study

    return Study.load(folder)


def model_of(study: "Study", model: Said[StudyModel]) -> ModelSpec:
    """The study's own model, or the one that the person says is the same."""
    revision = None if "name" in model.values else study.model.revision
    return model.over(ModelSpec(study.model.name, revision))


def load_workbench(study: "Study", model: Said[StudyModel], progress: Progress) -> "Workbench":
    from detox_engine.workbench import Workbench

    return Workbench.load(model_of(study, model), progress)


def plan_edit(study: "Study", said: Said[EditPlan]) -> EditPlan:
    """The edit asked for, the study's suggestion where nothing was said, within what its method found."""
    suggested = study.suggested_edit
    kept = study.kept_of(said.values.get("method", suggested.method))
    return check_edit(study, said.over(replace(suggested, rank=min(suggested.rank, kept))))


def tell_source(study: "Study", said: Said[EditPlan]) -> str:
    """Where an edit comes from of which so much was said: nothing where it is the person's own.

    A note says so where nothing was said and nothing is suggested.
    """
    if said.values.keys() - {"switched_off", "edit_bias"}:
        return ""
    suggestion = study.suggestion
    if suggestion is None:
        return "the study's starting point"
    if suggestion.edit is None:
        output.print_note(f"No edit is suggested for this study, so its starting point was taken. {suggestion.reason}")
        return "the study's starting point; nothing is suggested"
    return f"suggested by the study, {suggestion.status}"


def plan_edit_beside(study: "Study", said: Said[EditBeside]) -> EditPlan | None:
    """The edit asked for, or None where neither layers nor a rank were given."""
    return plan_edit(study, said) if said.values.keys() & {"layers", "rank"} else None


def check_edit(study: "Study", plan: EditPlan) -> EditPlan:
    """The edit of this very study; refused before a model is loaded for it."""
    from detox_engine.edit.low_rank import make_edit

    plan = replace(plan, layers=layers_of(study, plan.layers))
    for layer, direction in sorted(plan.switched_off):
        if layer not in plan.layers or direction >= plan.rank:
            raise InputError(
                f"Direction {layer}.{direction} cannot be switched off: the edit removes directions 0-{plan.rank - 1} "
                f"of layers {format_layers(plan.layers)}."
            )
    make_edit(study.of(plan.method), plan)
    return plan


def layers_of(study: "Study", layers: tuple[int, ...]) -> tuple[int, ...]:
    """The layers that were written; “all” are as many as the model has."""
    return tuple(range(study.layers)) if layers == EVERY_LAYER else layers


def check_format(as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise InputError("Choose one of --json and --csv.")


def absolute(model: ModelSpec) -> ModelSpec:
    """The model; a folder or a file with its whole path, so that the study can be read from anywhere."""
    place = find_place(model)
    return model if place is None else replace(model, name=str(place.resolve()))
