"""The commands that make a study: `detox fit` from pairs, `detox extend` from a study and more pairs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from detox_engine.cli import output
from detox_engine.cli.options import (
    CivilColumn,
    Device,
    Dtype,
    Json,
    Limit,
    Out,
    Pairs,
    PairsRevision,
    PairsSeed,
    PromptColumn,
    Split,
    StudyFolder,
    StudyModel,
    Subset,
    ToxicColumn,
    absolute,
    load_study,
    option_of,
)
from detox_engine.plans.fit import FitPlan, Pooling
from detox_engine.plans.layers import format_layers
from detox_engine.plans.sources import ModelSpec, PairSpec

if TYPE_CHECKING:
    from detox_engine.study.study import Study


def fit(
    out: Out,
    model: Annotated[str, option_of(ModelSpec, "name", "--model")] = ModelSpec.name,
    revision: Annotated[str | None, option_of(ModelSpec, "revision", "--revision")] = ModelSpec.revision,
    device: Device = ModelSpec.device,
    dtype: Dtype = ModelSpec.dtype,
    pairs: Pairs = PairSpec.source,
    toxic: ToxicColumn = PairSpec.toxic,
    civil: CivilColumn = PairSpec.civil,
    prompt: PromptColumn = PairSpec.prompt,
    subset: Subset = PairSpec.subset,
    split: Split = PairSpec.split,
    pairs_revision: PairsRevision = PairSpec.revision,
    limit: Limit = PairSpec.limit,
    seed: PairsSeed = PairSpec.seed,
    max_length: Annotated[int, option_of(FitPlan, "max_length", "--max-length")] = FitPlan.max_length,
    pooling: Annotated[Pooling, option_of(FitPlan, "pooling", "--pooling")] = FitPlan.pooling,
    keep: Annotated[int, option_of(FitPlan, "keep", "--keep")] = FitPlan.keep,
    keep_embeddings: Annotated[
        bool, option_of(FitPlan, "keep_embeddings", "--embeddings/--no-embeddings")
    ] = FitPlan.keep_embeddings,
    as_json: Json = False,
) -> None:
    """Find the toxic directions of every layer of a model, and write them to a study."""
    spec = ModelSpec(absolute(model), revision, device, dtype)
    source = PairSpec(pairs, toxic, civil, prompt, subset, split, pairs_revision, limit, seed)
    plan = FitPlan(source, max_length, pooling, keep, keep_embeddings)
    with output.progress_bars() as progress:
        from detox_engine.workbench import fit_to_folder

        study = fit_to_folder(spec, plan, out, progress)
    _show_study(study, out, as_json)


def extend(
    study: StudyFolder,
    pairs: Pairs,
    out: Out,
    model: StudyModel = None,
    device: Device = ModelSpec.device,
    dtype: Dtype = ModelSpec.dtype,
    toxic: ToxicColumn = PairSpec.toxic,
    civil: CivilColumn = PairSpec.civil,
    prompt: PromptColumn = PairSpec.prompt,
    subset: Subset = PairSpec.subset,
    split: Split = PairSpec.split,
    pairs_revision: PairsRevision = PairSpec.revision,
    limit: Limit = PairSpec.limit,
    seed: PairsSeed = PairSpec.seed,
    as_json: Json = False,
) -> None:
    """Add pairs to a study, fitted as it was, and write the whole to a new one; only the new pairs are read."""
    source = PairSpec(pairs, toxic, civil, prompt, subset, split, pairs_revision, limit, seed)
    with output.progress_bars() as progress:
        from detox_engine.workbench import extend_to_folder

        fitted = load_study(study)
        revision = fitted.model.revision if model is None else None
        spec = ModelSpec(absolute(model or fitted.model.name), revision, device, dtype)
        extended = extend_to_folder(fitted, spec, source, out, progress)
    _show_study(extended, out, as_json)


def _show_study(study: "Study", folder: Path, as_json: bool) -> None:
    for warning in study.warnings:
        output.print_note(warning)
    if not as_json:
        return output.show(output.fit_table(study, str(folder)))
    return output.print_json(
        {
            "study": str(folder),
            "layers": study.model.layers,
            "hidden": study.model.hidden,
            "pairs": study.pair_count,
            "tokens": study.tokens,
            "seconds": study.seconds,
            "suggested": {"layers": format_layers(study.suggested_layers), "rank": study.suggested_rank},
        }
    )
