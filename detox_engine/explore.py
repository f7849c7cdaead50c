"""The commands behind the exploring pages: where in a text directions light up, and where texts lie on a map."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from detox_engine import tables, view_tables
from detox_engine.errors import InputError
from detox_engine.options import (
    SUGGESTION,
    Device,
    Dtype,
    Json,
    Strength,
    StudyFolder,
    StudyModel,
    SwitchedOff,
    load_study,
    load_workbench,
    option_of,
    plan_edit,
)
from detox_engine.specs import EditPlan, ModelSpec, format_layers, sentence
from detox_engine.views import Frame, MapPlan, Method

if TYPE_CHECKING:
    from detox_engine.map import LayerMap
    from detox_engine.probe import Separability
    from detox_engine.study import Study
    from detox_engine.token_lens import TokenProjections

NO_EDIT = "no edit; a study's suggestion where only one of layers and rank is given"
EditLayers = Annotated[
    str | None, typer.Option("--edit-layers", help=sentence(EditPlan, "layers"), show_default=NO_EDIT)
]
EditRank = Annotated[int | None, typer.Option("--edit-rank", help=sentence(EditPlan, "rank"), show_default=NO_EDIT)]
TOKEN = ("position", "id", "token", "layer", "before", "after")
POINT = ("pair", "side", "state", "x", "y", "text")
Csv = Annotated[bool, typer.Option("--csv", help="Print comma-separated values instead of tables.")]


def lens(
    study: StudyFolder,
    text: Annotated[str, typer.Option("--text", help="The text to look at.")],
    layers: Annotated[
        str | None,
        typer.Option("--layers", help="Layers to look at, such as 4-7, 3, all or 2,5-7.", show_default=SUGGESTION),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(
            "--rank", help="Measure the length on the subspace of this many directions.", show_default=SUGGESTION
        ),
    ] = None,
    direction: Annotated[
        int | None,
        typer.Option("--direction", help="Measure the signed projection on this direction of each layer instead."),
    ] = None,
    edit_layers: EditLayers = None,
    edit_rank: EditRank = None,
    strength: Strength = EditPlan.strength,
    switch_off: SwitchedOff = None,
    model: StudyModel = None,
    device: Device = ModelSpec.device,
    dtype: Dtype = ModelSpec.dtype,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show where in a text the directions light up: tokens by layers, before and after an edit."""
    check_format(as_json, as_csv)
    with tables.progress_bars() as progress:
        fitted = load_study(study)
        read = plan_lens(fitted, layers, rank, direction)
        plan = plan_optional_edit(fitted, edit_layers, edit_rank, strength, switch_off)
        from detox_engine.edit import make_edit
        from detox_engine.token_lens import project_text

        bench = load_workbench(fitted, model, device, dtype, progress)
        fitted.require_fit(bench.loaded)
        edit = None if plan is None else make_edit(fitted.subspaces, plan)
        bases = make_edit(fitted.subspaces, read).bases
        found = project_text(bench.loaded, bench.anatomy, text, bases, edit)
    if found.text.cut:
        tables.print_note(f"The text was cut at its end: {found.text.cut} tokens were left out.")
    before, after = measure(found, read.rank, direction)
    if as_csv:
        return view_tables.print_csv(TOKEN, list_tokens(found, before, after))
    if not as_json:
        return tables.show(view_tables.lens_table(found, before, after))
    tokens = zip(found.text.ids, found.text.tokens, found.text.pieces, strict=True)
    return tables.print_json(
        {
            "text": "".join(found.text.pieces),
            "cut": found.text.cut,
            "measure": {"rank": read.rank} if direction is None else {"direction": direction},
            "edit": describe(plan),
            "layers": list(found.layers),
            "tokens": [
                {
                    "position": place,
                    "id": id,
                    "token": token,
                    "piece": piece,
                    "before": [row[place] for row in before],
                    "after": None if after is None else [row[place] for row in after],
                }
                for place, (id, token, piece) in enumerate(tokens)
            ],
        }
    )


def show_map(
    study: StudyFolder,
    layer: Annotated[
        int | None,
        typer.Option("--layer", help="The layer to map, from 0.", show_default="the last that the study suggests"),
    ] = None,
    method: Annotated[Method, option_of(MapPlan, "method", "--method")] = MapPlan.method,
    frame: Annotated[Frame, option_of(MapPlan, "frame", "--frame")] = MapPlan.frame,
    neighbours: Annotated[int, option_of(MapPlan, "neighbours", "--neighbours")] = MapPlan.neighbours,
    spread: Annotated[float, option_of(MapPlan, "spread", "--spread")] = MapPlan.spread,
    seed: Annotated[int, option_of(MapPlan, "seed", "--seed")] = MapPlan.seed,
    edit_layers: EditLayers = None,
    edit_rank: EditRank = None,
    strength: Strength = EditPlan.strength,
    switch_off: SwitchedOff = None,
    model: StudyModel = None,
    device: Device = ModelSpec.device,
    dtype: Dtype = ModelSpec.dtype,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Lay out a layer's texts in two dimensions, before and after an edit, and probe how well the sides part."""
    check_format(as_json, as_csv)
    settings = MapPlan(method, frame, neighbours, spread, seed)
    with tables.progress_bars() as progress:
        fitted = load_study(study)
        plan = plan_optional_edit(fitted, edit_layers, edit_rank, strength, switch_off)
        from detox_engine.edit import make_edit
        from detox_engine.map import draw_map, embed_study, project_on_paper, stack_sides
        from detox_engine.probe import FOLDS, probe_layer

        layer = fitted.suggested_layers[-1] if layer is None else layer
        check_layer(fitted, layer)
        embeddings = {"before": fitted.embeddings}
        if plan is not None or fitted.embeddings is None:
            bench = load_workbench(fitted, model, device, dtype, progress)
            embeddings["before"] = embed_study(bench.loaded, bench.anatomy, fitted, progress=progress)
        if plan is not None:
            edit = make_edit(fitted.subspaces, plan)
            embeddings["after"] = embed_study(bench.loaded, bench.anatomy, fitted, edit, progress)
            embeddings["on paper"] = project_on_paper(embeddings["before"], edit)
        states = {name: stack_sides(found, layer) for name, found in embeddings.items()}
        drawn = draw_map(layer, list(states.values()), settings, progress)
        # Too few pairs for a probe are still enough for a map.
        enough = len(fitted.pairs) >= 2 * FOLDS
        probes = {name: probe_layer(layer, *sides) for name, sides in states.items()} if enough else {}
    if as_csv:
        return view_tables.print_csv(POINT, list_points(fitted, drawn, tuple(states)))
    if not as_json:
        return tables.show(view_tables.map_table(drawn, tuple(states), probes, method))
    return tables.print_json(
        {
            "layer": layer,
            "method": method,
            "frame": frame,
            "seed": seed,
            "edit": describe(plan),
            "shares": drawn.shares,
            "separability": {name: describe_probe(found) for name, found in probes.items()} or None,
            "points": [
                dict(zip(POINT, point, strict=True)) for point in list_points(fitted, drawn, tuple(states))
            ],
        }
    )


def check_format(as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise InputError("Choose one of --json and --csv.")


def check_layer(study: "Study", layer: int) -> None:
    if not 0 <= layer < study.layers:
        raise InputError(f"Layer {layer} is outside the model: its layers are 0-{study.layers - 1}.")


def plan_lens(study: "Study", layers: str | None, rank: int | None, direction: int | None) -> EditPlan:
    """The layers and directions to read, in the shape of an edit plan, whose checks it shares."""
    if direction is None:
        return plan_edit(study, layers, rank)
    if rank is not None:
        raise InputError("Choose one of --rank (length on a subspace) and --direction (signed projection).")
    if not 0 <= direction < study.kept:
        raise InputError(f"Direction {direction} was not kept: choose one of 0-{study.kept - 1}.")
    return plan_edit(study, layers, direction + 1)


def plan_optional_edit(
    study: "Study", layers: str | None, rank: int | None, strength: float, switched_off: str | None
) -> EditPlan | None:
    """The edit asked for, or None where neither layers nor a rank were given."""
    if layers is None and rank is None:
        return None
    return plan_edit(study, layers, rank, strength, switched_off)


def measure(
    found: "TokenProjections", rank: int, direction: int | None
) -> tuple[list[list[float]], list[list[float]] | None]:
    """`[layers][tokens]` before and after: signed on `direction`, or the length on the first `rank` directions."""

    def side(after: bool) -> list[list[float]]:
        return (found.norms(rank, after) if direction is None else found.along(direction, after)).tolist()

    return side(False), None if found.after is None else side(True)


def list_tokens(
    found: "TokenProjections", before: list[list[float]], after: list[list[float]] | None
) -> list[tuple[Any, ...]]:
    """A row for each token and layer."""
    return [
        (place, id, token, layer, before[row][place], None if after is None else after[row][place])
        for place, (id, token) in enumerate(zip(found.text.ids, found.text.tokens, strict=True))
        for row, layer in enumerate(found.layers)
    ]


def list_points(study: "Study", drawn: "LayerMap", states: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """A row for each pair, side and state."""
    places = [points.tolist() for points in drawn.points]
    return [
        (index, name, state, *place[side][index], text)
        for index, pair in enumerate(study.pairs)
        for side, (name, text) in enumerate((("toxic", pair.toxic_text), ("civil", pair.civil_text)))
        for state, place in zip(states, places, strict=True)
    ]


def describe(plan: EditPlan | None) -> dict[str, Any] | None:
    if plan is None:
        return None
    return {"layers": format_layers(plan.layers), "rank": plan.rank, "strength": plan.strength}


def describe_probe(found: "Separability") -> dict[str, Any]:
    return {
        name: {"mean": estimate.mean, "low": estimate.low, "high": estimate.high, "n": estimate.n}
        for name, estimate in (("accuracy", found.accuracy), ("auc", found.auc))
    }
