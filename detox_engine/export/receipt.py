"""What an exported folder claims to be, such that anybody who has the base model can recompute it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from detox_engine.disk import hash_file, read_as, write_json
from detox_engine.edit.in_weights import LayerChange
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError, first_line
from detox_engine.export.recipe import tell_versions
from detox_engine.plans.edit import EXPORT_FORMS, EditPlan, ExportForm, read_edit, record_edit
from detox_engine.study.study import ModelIdentity, Study, stamp

RECEIPT, DIRECTIONS = "detox_receipt.json", "detox_directions.safetensors"
FORMAT = 1
LARGEST = 2**24
"""Bytes of a receipt that are read at most."""


@dataclass(frozen=True)
class Receipt:
    """The base, the study, the edit, what it does to the weights, and every file of the folder."""

    form: ExportForm
    base: ModelIdentity
    """Its name without the path of the machine that made this."""
    edit: EditPlan
    pairs: str
    """Hash of the pairs that the directions were fitted on."""
    pair_count: int
    directions: str
    """Hash of the study's directions, all methods, layers and ranks of them, and those of the edit's own method."""
    changes: tuple[LayerChange, ...]
    files: Mapping[str, str]
    """Name -> `sha256:…`, of every other file."""
    made: str
    versions: Mapping[str, str]
    sets: Mapping[str, Any] | None = None
    """What fitted, what chose and what reported, with the hash of each; None where nothing was divided."""


def make_receipt(
    form: ExportForm,
    base: ModelIdentity,
    study: Study,
    plan: EditPlan,
    changes: tuple[LayerChange, ...],
    folder: Path,
    sets: Mapping[str, Any] | None = None,
) -> Receipt:
    """The receipt of all files that are in `folder` now."""
    made, _ = stamp()
    files = {path.name: f"sha256:{hash_file(path)}" for path in sorted(folder.iterdir()) if path.name != RECEIPT}
    pairs = study.pairs_hash, study.pair_count
    directions = hash_study(study, plan.method)
    return Receipt(form, base, plan, *pairs, directions, changes, files, made, tell_versions(), sets)


def write_receipt(receipt: Receipt, folder: Path) -> None:
    record = asdict(receipt) | {"format": FORMAT, "edit": record_edit(receipt.edit)}
    (folder / RECEIPT).write_text(write_json(record) + "\n", encoding="utf-8")


def read_receipt(folder: Path) -> Receipt:
    """The receipt in a folder that may be anybody's.

    Raises:
        InputError: there is none, or it is broken.
    """
    file = folder / RECEIPT
    if not file.is_file():
        raise InputError(f"{folder} holds no {RECEIPT}: give a folder that “detox export” wrote.")
    if file.stat().st_size > LARGEST:
        raise InputError(f"{file} is larger than any receipt: get the folder again.")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise InputError(
                f"{file} is of format {record['format']} and this version reads format {FORMAT}: verify it with the "
                "version that wrote it."
            )
        base = read_as(ModelIdentity, record["base"])
        receipt = Receipt(
            form=str(record["form"]),
            base=base,
            edit=read_edit(record["edit"], base.layers),
            pairs=str(record["pairs"]),
            pair_count=int(record["pair_count"]),
            directions=str(record["directions"]),
            changes=tuple(read_as(LayerChange, change) for change in record["changes"]),
            files={str(name): str(digest) for name, digest in record["files"].items()},
            made=str(record["made"]),
            versions=dict(record["versions"]),
            sets=record.get("sets"),
        )
    except InputError as error:
        raise InputError(f"{file} cannot be used: {error}") from None
    except (OSError, RecursionError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is broken ({first_line(error)}): get the folder again.") from error
    strange = [name for name in receipt.files if Path(name).name != name or not name.isprintable()]
    if strange:
        raise InputError(f"{file} names what is no file of its folder ({strange[0][:80]!r}): get the folder again.")
    if receipt.form not in EXPORT_FORMS:
        raise InputError(f"{file} is of something else than an adapter or a model: get the folder again.")
    return receipt


def list_wrong_files(receipt: Receipt, folder: Path) -> list[str]:
    """Names, sorted, of what was added to the folder, taken away from it or changed since the receipt was made."""
    there = {path.name for path in folder.iterdir()} - {RECEIPT}
    kept = {name for name in there & receipt.files.keys() if (folder / name).is_file()}
    # Hashes are taken of a folder alone that has the right files.
    return sorted((there | receipt.files.keys()) - kept) or sorted(
        name for name, digest in receipt.files.items() if f"sha256:{hash_file(folder / name)}" != digest
    )


def write_directions(edit: LowRankEdit, folder: Path) -> None:
    """The directions that are removed and what reads them, by layer, so that the edit can be made without its study."""
    tensors = {f"layers.{layer}": basis.cpu().contiguous() for layer, basis in edit.bases.items()}
    tensors |= {f"reads.{layer}": reads.cpu().contiguous() for layer, reads in edit.reads.items()}
    save_file(tensors, folder / DIRECTIONS)


def read_directions(receipt: Receipt, folder: Path) -> LowRankEdit:
    """The edit of an exported folder.

    Raises:
        InputError: its directions are missing, broken, of another width, or not orthonormal, or not what is read.
    """
    file, hidden = folder / DIRECTIONS, receipt.base.hidden
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file} is missing or broken ({first_line(error)}): get the folder again.") from error
    parts: dict[str, dict[int, Tensor]] = {"layers": {}, "reads": {}}
    for name, rows in tensors.items():
        prefix, _, number = name.partition(".")
        layer = int(number) if prefix in parts and number.isdecimal() and len(number) < 8 else -1
        whole = rows.dim() == 2 and rows.dtype == torch.float32 and rows.shape[1] == hidden and len(rows)
        if not 0 <= layer < receipt.base.layers or not whole:
            raise InputError(f"{file} holds {name}, which is no direction of this model: get the folder again.")
        parts[prefix][layer] = rows
    bases, reads = parts["layers"], parts["reads"]
    for layer, basis in bases.items():
        if not torch.allclose(basis @ basis.T, torch.eye(len(basis)), atol=1e-4):
            raise InputError(f"The directions of layer {layer} in {file} are not orthonormal: get the folder again.")
    for layer, rows in reads.items():
        read = rows @ bases[layer].T if layer in bases else rows
        if read.shape != (len(rows), len(rows)) or not torch.allclose(read, torch.eye(len(rows)), atol=1e-3):
            raise InputError(f"What reads layer {layer} in {file} reads no direction of it: get the folder again.")
    return LowRankEdit(bases, receipt.edit.strength, receipt.edit.edit_bias, receipt.edit.sites, reads)


def hash_study(study: Study, method: str) -> str:
    """`sha256:…` over the directions of every method and layer, `method` among them even where it was fitted since,
    what reads them, and the pairs they were fitted on."""
    digest = hashlib.sha256(study.pairs_hash.encode())
    for name in sorted({*study.methods, method}):
        digest.update(name.encode())
        for subspace in study.of(name):
            for rows in (subspace.basis, subspace.reads):
                if rows is not None:
                    digest.update(rows.contiguous().numpy().tobytes())
    return "sha256:" + digest.hexdigest()
