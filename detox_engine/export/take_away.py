"""An edit written as a folder that others can load, and such a folder held against what it claims to be."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import isclose
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from detox_engine.disk import write_json
from detox_engine.edit.in_weights import LayerChange, describe_no_change, measure_edit
from detox_engine.edit.low_rank import LowRankEdit, make_edit
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.export import gguf_adapter
from detox_engine.export.adapter import WEIGHTS, make_factors, name_factors, require_adapter, write_adapter
from detox_engine.export.card import Loading, Measured, write_card
from detox_engine.export.checkpoint import (
    compare_tensors,
    edit_tensor,
    find_place,
    is_rewritable,
    list_edited,
    open_base,
    write_model,
)
from detox_engine.export.gguf_adapter import write_gguf_adapter
from detox_engine.export.licence import find_licence
from detox_engine.export.receipt import (
    Receipt,
    list_wrong_files,
    make_receipt,
    read_directions,
    read_receipt,
    write_directions,
    write_receipt,
)
from detox_engine.export.recipe import EVALUATION, make_recipe, name_source, write_recipe
from detox_engine.model.load import OpenModel
from detox_engine.plans.auto import AutoPlan
from detox_engine.plans.edit import EXPORT_FORMS, EditPlan, ExportForm, describe_edit, effective
from detox_engine.plans.sources import SMOLLM2
from detox_engine.scoring.records import KeptEvaluation, read_evaluation
from detox_engine.scoring.scorers import read_plan, record_plan
from detox_engine.study.study import ModelIdentity, Study, identify, require_new, written_whole

ORIGINS = {SMOLLM2: "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Where models at hand come from, as others call them."""

NEARLY = 1e-3
"""How far a share of a norm may differ between two processors, relative to it."""


@dataclass(frozen=True, eq=False)
class Enclosed:
    """What goes with an edit besides itself."""

    evaluation: Mapping[str, Any] | None = None
    """As `record_evaluation` made it."""
    verdict: str = ""
    """Markdown that stands first in the card."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Name -> a file that is copied under it, such as a report."""
    auto: AutoPlan | None = None
    sets: Mapping[str, Any] | None = None
    """How the texts were divided that fitted, chose and reported, and by which plan; None where they were not."""
    licence: str | None = None
    """What a person says that the base model's licence is."""


NOTHING = Enclosed()


@dataclass(frozen=True)
class Export:
    """What was written."""

    folder: Path
    form: ExportForm
    edit: EditPlan
    sizes: dict[str, int]
    """Name of each file -> bytes."""
    warnings: tuple[str, ...] = ()
    """What has to be known before it is passed on, a sentence each."""


@dataclass(frozen=True)
class Claim:
    """One thing that an exported folder claims, and whether it holds."""

    name: str
    holds: bool
    sentence: str


def export_edit(
    model: OpenModel,
    study: Study,
    plan: EditPlan,
    folder: Path,
    form: ExportForm = "adapter",
    progress: Progress = ignore_progress,
    enclosed: Enclosed = NOTHING,
) -> Export:
    """Write the edit beside `folder` and rename it when whole; nothing of the base model is touched.

    Raises:
        InputError: the folder exists already or cannot be written, the edit changes nothing or does not fit the study
            or the form, the model is not the study's or cannot be rewritten, or the evaluation is of something else.
    """
    if form not in EXPORT_FORMS:
        raise InputError(f"An edit is taken away as {', '.join(EXPORT_FORMS)}, not as “{form}”.")
    require_new(folder)
    study.require_fit(model)
    plan = effective(plan)
    edit = make_edit(study.of(plan.method), plan)
    with model.turns:
        changes = measure_edit(model.anatomy, edit)
    if not any(change.change for change in changes):
        raise InputError(describe_no_change(edit))
    evaluation = _check_evaluation(enclosed.evaluation, model, plan)
    place = find_place(model)
    if form == "model" and not is_rewritable(place):
        require_adapter(model.anatomy, edit)  # the way out of what follows, or that there is none
    licence = find_licence(place, enclosed.licence)
    measured = Measured(evaluation, enclosed.verdict, enclosed.sets)
    with written_whole(folder) as partial:
        _write_edit(model, edit, partial, form, place, progress)
        base = name_base(model)
        loading = Loading(base.name, place.is_file())
        write_card(partial, folder.name, form, base, loading, study, plan, changes, licence, measured)
        write_recipe(make_recipe(model, base, study, plan, enclosed.auto, enclosed.sets), partial)
        if enclosed.evaluation is not None:
            told = without_paths(enclosed.evaluation, base)
            (partial / EVALUATION).write_text(write_json(told) + "\n", encoding="utf-8")
        for name, file in enclosed.files.items():
            shutil.copyfile(file, partial / name)
        write_receipt(make_receipt(form, base, study, plan, changes, partial, enclosed.sets), partial)
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return Export(folder, form, plan, sizes, tuple(filter(None, [licence.warning])))


def _check_evaluation(record: Mapping[str, Any] | None, model: OpenModel, plan: EditPlan) -> KeptEvaluation | None:
    """What was measured of this very edit of this very model."""
    if record is None:
        return None
    found = read_evaluation(record)
    if found.model.weights_hash != model.weights_hash:
        raise InputError("The evaluation is of another model than this edit: evaluate this one.")
    if effective(found.edit) != plan:
        raise InputError(
            f"The evaluation is of another edit ({describe_edit(found.edit)}) than the one that is taken away "
            f"({describe_edit(plan)}): evaluate this one, or take that one away."
        )
    return found


def without_paths(evaluation: Mapping[str, Any], base: ModelIdentity) -> dict[str, Any]:
    """The record of an evaluation as others may have it: its model as they call it, files by their names alone."""
    plan = read_plan(evaluation["plan"])
    neutral = replace(plan.neutral, source=name_source(plan.neutral.source))
    told = record_plan(replace(plan, prompts=name_source(plan.prompts), neutral=neutral))
    return {**evaluation, "model": asdict(base), "plan": told}


def _write_edit(
    model: OpenModel, edit: LowRankEdit, folder: Path, form: ExportForm, place: Path, progress: Progress
) -> None:
    base = name_base(model)
    if form == "adapter":
        write_adapter(model.anatomy, edit, base.name, base.revision, folder)
    elif form == "gguf-adapter":
        write_gguf_adapter(model, edit, folder)
    else:
        write_model(model, edit, open_base(model, place), folder, progress)
    write_directions(edit, folder)


def name_base(model: OpenModel) -> ModelIdentity:
    """The base model as others call it: never by a path of this machine."""
    own = identify(model)
    name = ORIGINS.get(model.spec.name, model.spec.name)
    return replace(own, name=name if model.revision is not None or name in ORIGINS.values() else Path(name).name)


def verify_export(folder: Path, model: OpenModel, progress: Progress = ignore_progress) -> tuple[Claim, ...]:
    """Every claim of an exported folder, recomputed from `model`, its base; later ones need the earlier.

    Raises:
        InputError: the folder holds no receipt, or one that is broken.
    """
    receipt = read_receipt(folder)
    found = []
    for claim in _verify(receipt, folder, model, progress):
        found.append(claim)
        if not claim.holds:
            break
    return tuple(found)


def _verify(receipt: Receipt, folder: Path, model: OpenModel, progress: Progress) -> Iterator[Claim]:
    yield _verify_files(receipt, folder)
    same = receipt.base.weights_hash == model.weights_hash
    yield Claim(
        "base",
        same,
        "It is made for the weights at hand."
        if same
        else f"It is made for other weights, those of “{receipt.base.name}” ({receipt.base.weights_hash}), than those "
        f"at hand ({model.weights_hash}).",
    )
    edit = read_directions(receipt, folder)
    with model.turns:
        changes = measure_edit(model.anatomy, edit)
    yield _verify_changes(receipt, changes, torch.finfo(model.network.dtype).eps)
    verify = {"adapter": _verify_adapter, "gguf-adapter": _verify_gguf_adapter, "model": _verify_model}[receipt.form]
    yield verify(folder, model, edit, progress)


def _verify_files(receipt: Receipt, folder: Path) -> Claim:
    wrong = list_wrong_files(receipt, folder)
    if wrong:
        return Claim("files", False, f"Files were added, taken away or changed since it was made: {', '.join(wrong)}.")
    return Claim("files", True, f"All {len(receipt.files)} files are those that were written.")


def _verify_changes(receipt: Receipt, changes: tuple[LayerChange, ...], step: float) -> Claim:
    """
    Args:
        step: of the weights' number format, relative; the receipt may be of a model in another one.
    """

    def numbers(change: LayerChange) -> tuple[float, float, float]:
        return change.change, change.along_before, change.along_after

    alike = len(changes) == len(receipt.changes) and all(
        (own.layer, own.site) == (told.layer, told.site)
        and all(
            isclose(one, other, rel_tol=NEARLY, abs_tol=max(1e-6, step))
            for one, other in zip(numbers(own), numbers(told), strict=True)
        )
        for own, told in zip(changes, receipt.changes, strict=False)
    )
    sentence = (
        f"Its directions do to the {len(changes)} matrices what the receipt says: at most "
        f"{max(change.change for change in changes):.2%} of a norm changes, and of what lies along the directions at "
        f"most {max(change.along_after for change in changes):.2%} of a norm is left."
        if alike
        else "Its directions do something else to the weights than the receipt says."
    )
    return Claim("edit", alike, sentence)


def _verify_adapter(folder: Path, model: OpenModel, edit: LowRankEdit, progress: Progress) -> Claim:
    require_adapter(model.anatomy, edit)
    expected = name_factors(make_factors(model.anatomy, edit))
    try:
        given = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError):
        given = {}
    return _compare_factors("adapter", given, expected)


def _verify_gguf_adapter(folder: Path, model: OpenModel, edit: LowRankEdit, progress: Progress) -> Claim:
    expected = gguf_adapter.name_factors(model, edit)
    given = gguf_adapter.read_gguf_adapter(folder)
    as_tensors = ({name: torch.from_numpy(part) for name, part in parts.items()} for parts in (given, expected))
    return _compare_factors("gguf-adapter", *as_tensors)


def _compare_factors(form: ExportForm, given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Claim:
    same = given.keys() == expected.keys() and all(
        given[name].shape == tensor.shape
        and torch.allclose(given[name].float(), tensor, rtol=0, atol=NEARLY * float(tensor.abs().max()))
        for name, tensor in expected.items()
    )
    sentence = "Its factors are those of this edit." if same else "Its factors are not those of this edit."
    return Claim(form, same, sentence)


def _verify_model(folder: Path, model: OpenModel, edit: LowRankEdit, progress: Progress) -> Claim:
    base = open_base(model, find_place(model))
    edited = {each.key: each for each in list_edited(model, edit, base)}
    others = []
    for done, (key, same) in enumerate(compare_tensors(base, folder)):
        progress("Comparing tensors", done, len(base.keys))
        if not same and key not in edited:
            others.append(key)
    if others:
        told = ", ".join(others[:5])
        return Claim("model", False, f"{len(others)} tensors differ that the edit does not change, such as {told}.")
    for key, each in edited.items():
        if not _is_edited(folder / each.file.name, key, edit_tensor(edit, each)):
            return Claim("model", False, f"{key} is not what this edit makes of the base.")
    return Claim(
        "model",
        True,
        f"{len(edited)} tensors are what the edit makes of the base, and the other {len(base.keys) - len(edited)} are "
        "the base's own, bit for bit.",
    )


def _is_edited(file: Path, key: str, expected: Tensor) -> bool:
    with safe_open(file, framework="pt") as opened:
        given = opened.get_tensor(key)
    if given.dtype != expected.dtype or given.shape != expected.shape:
        return False
    # Another processor may round the float32 product the other way: a step of the format at the tensor's scale.
    step = torch.finfo(given.dtype).eps * float(expected.float().abs().max())
    return torch.allclose(given.float(), expected.float(), rtol=torch.finfo(given.dtype).eps, atol=step)
