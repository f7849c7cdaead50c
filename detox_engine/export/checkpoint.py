"""An edit as a whole checkpoint: the base's own files under their own names, with nothing else but the edit changed.

A shard is copied by the operating system and the bytes of its edited tensors are then written over, which have the
same size: memory holds one tensor at a time, so that a model larger than memory can be exported.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from detox_engine.edit.in_weights import list_parts, list_written, project_rows, require_plain
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.model.adapter import find_adapter
from detox_engine.model.anatomy.projection import OutputProjection, WrittenTensor
from detox_engine.model.checkpoint import find_weights, hash_weights
from detox_engine.model.load import BLOCK, OpenModel, find_model
from detox_engine.model.placement import read_weight

COMPANIONS = (".json", ".txt", ".model", ".jinja", ".tiktoken")
"""Endings of the small files that belong to a model: configuration, tokenizer, chat template, how it generates."""
TERMS = ("license", "licence", "notice", "use_policy", "terms")
"""What the names of files with a model's terms begin with."""
STAGE = "Writing the model"


class Edited(NamedTuple):
    """One tensor of the checkpoint that the edit changes."""

    key: str
    file: Path
    layer: int
    written: OutputProjection
    tensor: WrittenTensor
    part: str
    """The matrices or the bias, as the module calls them."""
    expert: int | None = None
    """Which of the tensor's matrices, where the checkpoint keeps each on its own."""

    @property
    def own(self) -> Tensor:
        """What the loaded model has there."""
        whole = self.tensor.value if self.part == self.tensor.part else read_weight(self.tensor.module, self.part)
        return whole if self.expert is None else whole[self.expert]


@dataclass(frozen=True)
class Base:
    """The folder of the base model, and where its tensors lie."""

    folder: Path
    files: tuple[Path, ...]
    keys: Mapping[str, Path]

    @property
    def companions(self) -> tuple[Path, ...]:
        """The small files that come along, sorted."""
        return tuple(
            sorted(
                path
                for path in self.folder.iterdir()
                if path.is_file()
                and path not in self.files
                and (path.suffix in COMPANIONS or path.name.lower().startswith(TERMS))
            )
        )

    @property
    def size(self) -> int:
        """Bytes of all that is copied."""
        return sum(path.stat().st_size for path in (*self.files, *self.companions))


def find_place(model: OpenModel) -> Path:
    """The folder or the file that `model` was loaded from: of a Hub model the very commit, whatever came since."""
    place, _ = find_model(replace(model.spec, revision=model.revision), ignore_progress)
    return place


def is_rewritable(place: Path) -> bool:
    """Whether the model at `place` is a folder of whole weights: neither a GGUF file nor an adapter."""
    return place.is_dir() and find_adapter(place, "") is None


def open_base(model: OpenModel, place: Path) -> Base:
    """The checkpoint at `place`, which `model` was loaded from.

    Raises:
        InputError: it is a GGUF file, whose tensors are quantised, or an adapter, or its weights were changed since.
    """
    shown = f"“{model.spec.name}”"
    if find_adapter(place, shown) is not None:
        raise InputError(
            f"{shown} is an adapter on its base, neither of which is rewritten: take the adapter of this edit instead "
            "(--as adapter), or merge the two and fit a study on the result."
        )
    if place.is_file():
        raise InputError(
            f"{shown} is a GGUF file, whose tensors are quantised and cannot be rewritten without loss: take the "
            "adapter instead (--as adapter), or fit a study on the model that the file was made from."
        )
    files = tuple(find_weights(place, shown))
    if hash_weights(files) != model.weights_hash:
        raise InputError(f"The weights of {shown} were changed since they were loaded: load the model again.")
    keys = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            keys |= dict.fromkeys(opened.keys(), file)
    return Base(place, files, keys)


def list_edited(model: OpenModel, edit: LowRankEdit, base: Base) -> tuple[Edited, ...]:
    """The tensors of the checkpoint that the edit changes.

    Raises:
        InputError: the checkpoint keeps one of them in another form than the loaded model.
    """
    require_plain(model.anatomy, edit)
    found = []
    for layer, written in list_written(model.anatomy, edit):
        for tensor in written.tensors:
            for part in list_parts(edit, tensor):
                key = find_key(base.keys, f"{tensor.name}.{part}", model.network.base_model_prefix)
                keys = [key] if key is not None else find_expert_keys(base, layer, tensor, part)
                if not keys:
                    raise InputError(
                        f"The checkpoint of “{model.spec.name}” keeps {tensor.name} under another name or fused with "
                        "others, so that it cannot be rewritten file by file: take the adapter instead (--as adapter)."
                    )
                for number, own in enumerate(keys):
                    expert = None if key is not None else number
                    found.append(Edited(own, base.keys[own], layer, written, tensor, part, expert))
    return tuple(found)


def find_expert_keys(base: Base, layer: int, tensor: WrittenTensor, part: str) -> list[str]:
    """The checkpoint's key of each expert's matrix, where it keeps them apart and the loaded model in one tensor.

    They are known by what they hold: families call them by names of their own. Empty where one is missing.
    """
    if tensor.experts == 1 or part != tensor.part:
        return []
    whole = tensor.value
    found: dict[int, str] = {}
    numbered = [key for key in base.keys if str(layer) in BLOCK.findall(key)]
    for key in sorted(numbered):
        with safe_open(base.keys[key], framework="pt") as opened:
            if tuple(opened.get_slice(key).get_shape()) != tuple(whole.shape[1:]):
                continue
            stored = opened.get_tensor(key).to(whole.device, whole.dtype)
        fitting = [e for e in range(len(whole)) if e not in found and torch.equal(stored, whole[e])]
        if fitting:
            found[fitting[0]] = key
    return [found[expert] for expert in range(len(whole))] if len(found) == len(whole) else []


def find_key(keys: Mapping[str, Path], name: str, prefix: str) -> str | None:
    """The checkpoint's key of the parameter called `name`: a trunk's own checkpoint leaves out the prefix."""
    bare = name.removeprefix(f"{prefix}.")
    if name in keys or bare in keys:
        return name if name in keys else bare
    ending = [key for key in keys if key.endswith(f".{bare}")]
    return ending[0] if len(ending) == 1 else None


def write_model(
    model: OpenModel, edit: LowRankEdit, base: Base, folder: Path, progress: Progress = ignore_progress
) -> None:
    """Write the edited checkpoint into `folder`.

    Raises:
        InputError: the disk has no room for it, or the checkpoint keeps an edited tensor in another form.
    """
    room = shutil.disk_usage(folder).free
    if room < base.size:
        raise InputError(
            f"The model takes {base.size / 1e9:.1f} GB and the disk has {room / 1e9:.1f} GB left: choose another "
            "folder."
        )
    edited = list_edited(model, edit, base)
    copied = (*base.files, *base.companions)
    for done, path in enumerate(copied):
        progress(STAGE, done, len(copied) + len(edited))
        shutil.copyfile(path, folder / path.name)
    for done, each in enumerate(edited):
        progress(STAGE, len(copied) + done, len(copied) + len(edited))
        overwrite(folder / each.file.name, each.key, edit_tensor(edit, each))
    progress(STAGE, len(copied) + len(edited), len(copied) + len(edited))


@torch.no_grad()
def edit_tensor(edit: LowRankEdit, each: Edited) -> Tensor:
    """The edited tensor, in the checkpoint's dtype: computed in float32 and rounded once.

    Raises:
        InputError: the checkpoint's tensor is not the loaded model's.
    """
    with safe_open(each.file, framework="pt") as opened:
        stored = opened.get_tensor(each.key)
    own = each.own
    if stored.shape != own.shape or not torch.equal(stored.to(own.dtype), own.cpu()):
        raise InputError(
            f"{each.key} in {each.file.name} is not what the loaded model has there: it was changed since, or is kept "
            "in another form; take the adapter instead (--as adapter)."
        )
    basis, reads = edit.basis_at(each.layer, each.written), edit.reads_at(each.layer, each.written)
    whole = basis.cpu()
    rows_read = whole if reads is basis else reads.cpu()
    matrices = each.tensor.split(stored) if each.part == each.tensor.part else (stored.view(-1, each.written.hidden),)
    for rows in matrices:
        projected = project_rows(rows, whole, rows_read, edit.strength)
        if projected is not rows:
            rows.copy_(projected)
    return stored


def overwrite(file: Path, key: str, tensor: Tensor) -> None:
    """Write `tensor` over the bytes of `key` in a safetensors file, whose header stays as it is."""
    with file.open("r+b") as stream:
        header = int.from_bytes(stream.read(8), "little")
        start, end = json.loads(stream.read(header))[key]["data_offsets"]
        content = tensor.contiguous().view(torch.uint8).numpy()
        if content.nbytes != end - start:
            raise ValueError(f"{key} has {end - start} bytes, not {content.nbytes}")
        stream.seek(8 + header + start)
        stream.write(content.data)


def compare_tensors(base: Base, folder: Path) -> Iterator[tuple[str, bool]]:
    """Each key of the base's checkpoint, and whether `folder` has the same tensor there, one of them in memory."""
    for file in base.files:
        with safe_open(file, framework="pt") as one, safe_open(folder / file.name, framework="pt") as other:
            theirs = set(other.keys())
            for key in sorted(key for key, place in base.keys.items() if place == file):
                yield key, key in theirs and _same_bytes(one.get_tensor(key), other.get_tensor(key))


def _same_bytes(one: Tensor, other: Tensor) -> bool:
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and torch.equal(one.contiguous().flatten().view(torch.uint8), other.contiguous().flatten().view(torch.uint8))
    )
