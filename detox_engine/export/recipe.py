"""What it takes to make an edit and its figures once more: inputs by commit or hash, plans, seeds, versions."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detox_engine.data.files import names_hub
from detox_engine.disk import read_as, write_json
from detox_engine.errors import InputError, first_line
from detox_engine.plans.auto import AutoPlan
from detox_engine.plans.edit import EditPlan, read_edit, record_edit
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import BUNDLED, PairSpec, TextSpec
from detox_engine.study.study import ModelIdentity, Study, read_fit, record_fit, stamp

if TYPE_CHECKING:
    from detox_engine.model.load import OpenModel

RECIPE, EVALUATION = "reproduce.json", "evaluation.json"
FORMAT = 1
LARGEST = 2**24
"""Bytes of a recipe that are read at most."""


@dataclass(frozen=True)
class Recipe:
    """Everything that an exported edit came from; files of the machine that made it go by their names alone."""

    base: ModelIdentity
    fit: FitPlan
    pairs_hash: str
    pair_count: int
    """Of the pairs that were fitted on."""
    added: tuple[PairSpec, ...]
    """Pairs that the study was extended by, in order."""
    edit: EditPlan
    auto: AutoPlan | None
    """The plan of the run that divided pairs, prompts and texts into three sets; None where nothing was divided."""
    sets: Mapping[str, Any] | None
    """How much was in each set, and its hash."""
    versions: Mapping[str, str]
    machine: Mapping[str, str]


def make_recipe(
    model: OpenModel,
    base: ModelIdentity,
    study: Study,
    edit: EditPlan,
    auto: AutoPlan | None = None,
    sets: Mapping[str, Any] | None = None,
) -> Recipe:
    fit = replace(study.plan, pairs=name_pairs(study.plan.pairs))
    if auto is not None:
        auto = replace(
            auto,
            pairs=name_pairs(auto.pairs),
            prompts=name_source(auto.prompts),
            neutral=replace(auto.neutral, source=name_source(auto.neutral.source)),
        )
    added = tuple(map(name_pairs, study.added))
    hashes = study.pairs_hash, study.pair_count
    return Recipe(base, fit, *hashes, added, edit, auto, sets, tell_versions(), tell_machine(model))


def tell_versions() -> dict[str, str]:
    """Of this project and of the packages that compute."""
    _, versions = stamp()
    return {"detox-explorer": version("detox-explorer"), **versions}


def tell_machine(model: OpenModel) -> dict[str, str]:
    """Where a model runs, as far as it can change the last digits."""
    import torch

    return {
        "device": str(model.device),
        "dtype": str(model.network.dtype).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
        "processor": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def name_source(source: str) -> str:
    """A source by its name; a file of this machine without the path to it."""
    return source if source == BUNDLED or names_hub(source) else Path(source).name


def name_pairs(spec: PairSpec) -> PairSpec:
    return replace(spec, source=name_source(spec.source))


def write_recipe(recipe: Recipe, folder: Path) -> None:
    record = asdict(recipe) | {
        "format": FORMAT,
        "fit": record_fit(recipe.fit),
        "edit": record_edit(recipe.edit),
    }
    (folder / RECIPE).write_text(write_json(record) + "\n", encoding="utf-8")


def read_recipe(file: Path) -> Recipe:
    """The recipe of a file that may be anybody's.

    Raises:
        InputError: there is no such file, or no recipe can be read from it.
    """
    if not file.is_file():
        raise InputError(f"{file} is no file: give the {RECIPE} of a folder that “detox export” or “detox auto” wrote.")
    if file.stat().st_size > LARGEST:
        raise InputError(f"{file} is larger than any {RECIPE}: get the folder again.")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise InputError(
                f"it is of format {record['format']} and this version reads format {FORMAT}: use the version that "
                "wrote it."
            )
        base = read_as(ModelIdentity, record["base"])
        return Recipe(
            base=base,
            fit=read_fit(record["fit"]),
            pairs_hash=str(record["pairs_hash"]),
            pair_count=int(record["pair_count"]),
            added=tuple(PairSpec(**spec) for spec in record["added"]),
            edit=read_edit(record["edit"], base.layers),
            auto=None if record["auto"] is None else _read_auto(record["auto"]),
            sets=None if record["sets"] is None else dict(record["sets"]),
            versions={str(name): str(told) for name, told in record["versions"].items()},
            machine={str(name): str(told) for name, told in record["machine"].items()},
        )
    except InputError as error:
        raise InputError(f"{file} cannot be used: {error}") from None
    except (OSError, RecursionError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is broken ({first_line(error)}): get the folder again.") from None


def _read_auto(record: Mapping[str, Any]) -> AutoPlan:
    parts = {"pairs": PairSpec(**record["pairs"]), "neutral": TextSpec(**record["neutral"])}
    return AutoPlan(**{**record, **parts})
