"""`detox map`: where texts lie in two dimensions, before and after an edit."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from detox_engine.cli import output
from detox_engine.cli.flags import (
    Csv,
    Json,
    Raw,
    Said,
    StudyFolder,
    asks,
    check_format,
    load_study,
    load_workbench,
    plan_edit_beside,
)
from detox_engine.cli.output import plain
from detox_engine.plans.edit import EditBeside, record_edit
from detox_engine.plans.layers import check_layers
from detox_engine.plans.read import MapPlan
from detox_engine.plans.sources import StudyModel

if TYPE_CHECKING:
    from detox_engine.reading.map import LayerMap
    from detox_engine.reading.probe import Separability


@asks(settings=MapPlan(), edit=EditBeside(), model=StudyModel())
def show_map(
    study: StudyFolder,
    settings: MapPlan,
    edit: Said[EditBeside],
    model: Said[StudyModel],
    layer: Annotated[
        int | None,
        typer.Option("--layer", help="The layer to map, from 0.", show_default="the last that the study suggests"),
    ] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    raw: Raw = False,
) -> None:
    """Lay out a layer's texts in two dimensions, before and after an edit, and probe how well the sides part."""
    check_format(as_json, as_csv)
    with output.progress_bars() as progress:
        fitted = load_study(study)
        plan = plan_edit_beside(fitted, edit)
        from detox_engine.edit.low_rank import make_edit
        from detox_engine.reading.map import (
            POINT,
            draw_map,
            embed_study,
            list_points,
            project_on_paper,
            stack_sides,
        )
        from detox_engine.reading.probe import FOLDS, probe_layer

        layer = fitted.suggested_edit.layers[-1] if layer is None else layer
        check_layers((layer,), fitted.layers)
        embeddings = {"before": fitted.embeddings}
        if plan is not None or fitted.embeddings is None:
            bench = load_workbench(fitted, model, progress)
            embeddings["before"] = embed_study(bench.model, fitted, progress=progress)
        if plan is not None:
            change = make_edit(fitted.of(plan.method), plan)
            embeddings["after"] = embed_study(bench.model, fitted, change, progress)
            embeddings["on paper"] = project_on_paper(embeddings["before"], change)
        states = {name: stack_sides(found, layer) for name, found in embeddings.items()}
        drawn = draw_map(layer, list(states.values()), settings, progress)
        # Too few pairs for a probe are still enough for a map.
        enough = len(fitted.pairs) >= 2 * FOLDS
        probes = {name: probe_layer(layer, *sides) for name, sides in states.items()} if enough else {}
    if as_csv:
        return output.print_csv(POINT, list_points(fitted, drawn, tuple(states)), raw=raw)
    if not as_json:
        return output.show(map_table(drawn, tuple(states), probes, settings.method))
    return output.print_json(
        {
            "layer": layer,
            "method": settings.method,
            "frame": settings.frame,
            "seed": settings.seed,
            "edit": None if plan is None else record_edit(plan),
            "shares": drawn.shares,
            "separability": {name: describe_probe(found) for name, found in probes.items()} or None,
            "points": [dict(zip(POINT, point, strict=True)) for point in list_points(fitted, drawn, tuple(states))],
        }
    )


def describe_probe(found: "Separability") -> dict[str, Any]:
    return {
        name: {"mean": estimate.mean, "low": estimate.low, "high": estimate.high, "n": estimate.n}
        for name, estimate in (("accuracy", found.accuracy), ("auc", found.auc))
    }


def map_table(
    drawn: "LayerMap", states: Sequence[str], probes: Mapping[str, "Separability"], method: str
) -> RenderableType:
    """What a map shows in numbers, a row for each state; the points themselves are left to JSON and CSV."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(f"layer {drawn.layer}")
    for title in ("distance of twins", "probe's accuracy", "its AUC"):
        table.add_column(title, justify="right")
    for state, points in zip(states, drawn.points, strict=True):
        distance = float((points[0] - points[1]).norm(dim=-1).mean())
        scores = (probes[state].accuracy, probes[state].auc) if state in probes else ()
        cells = [f"{score.mean:.2f} ({score.low:.2f} to {score.high:.2f})" for score in scores]
        table.add_row(state, f"{distance:.3g}", *cells)
    facts = [f"{method.upper()} of {2 * drawn.points[0].shape[1]:,} texts."]
    if drawn.shares is not None:
        facts.append(f"Its axes hold {drawn.shares[0]:.0%} and {drawn.shares[1]:.0%} of the variance before the edit.")
    facts.append("Print the points with --csv or --json.")
    return Group(table, *(plain(fact) for fact in facts))
