"""`detox directions`: what the directions of a study mean."""

from typing import Annotated, Literal

import typer

from detox_engine.cli import output
from detox_engine.cli.options import (
    SUGGESTION,
    Device,
    Dtype,
    Json,
    StudyFolder,
    StudyModel,
    load_study,
    load_workbench,
    plan_edit,
)
from detox_engine.plans.sources import ModelSpec

DIRECTIONS_SHOWN = 3
SHOWN = f"{DIRECTIONS_SHOWN}, or all where fewer were kept"


def directions(
    study: StudyFolder,
    layers: Annotated[
        str | None,
        typer.Option("--layers", help="Layers to read, such as 4-7, 3, all or 2,5-7.", show_default=SUGGESTION),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option("--rank", help="Directions to read in each layer, strongest first.", show_default=SHOWN),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Tokens listed at each pole.")] = 10,
    measure: Annotated[
        Literal["product", "cosine"],
        typer.Option("--measure", help="How a token is scored: its product with the direction, or their cosine."),
    ] = "product",
    through_norm: Annotated[
        bool, typer.Option("--through-norm", help="Read the directions through the final normalisation's weight.")
    ] = False,
    model: StudyModel = None,
    device: Device = ModelSpec.device,
    dtype: Dtype = ModelSpec.dtype,
    as_json: Json = False,
) -> None:
    """Read the directions of a study: the tokens at their toxic and their civil pole."""
    with output.progress_bars() as progress:
        fitted = load_study(study)
        plan = plan_edit(fitted, layers, min(DIRECTIONS_SHOWN, fitted.kept) if rank is None else rank)
        bench = load_workbench(fitted, model, device, dtype, progress)
        readings = bench.read(fitted, plan.layers, plan.rank, top, measure, through_norm)
    if not as_json:
        return output.show(output.directions_table(readings))
    return output.print_json(
        [
            {
                "layer": entry.layer,
                "direction": entry.direction,
                "singular_value": entry.singular_value,
                "share": entry.share,
                "polarity": entry.polarity,
                "toxic_pole": [{"token": end.token, "score": end.score} for end in entry.reading.toxic_pole],
                "civil_pole": [{"token": end.token, "score": end.score} for end in entry.reading.civil_pole],
            }
            for entry in readings
        ]
    )
