"""Proof that an edit does what it says to the weights, and that nothing of it is left when it is undone."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from detox_engine.edit.in_weights import LayerChange, describe_no_change, edited_weights, list_written, measure_edit
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError
from detox_engine.model.load import OpenModel
from detox_engine.model.placement import read_weight


@dataclass(frozen=True)
class EditProof:
    """What the edit does to each edited layer's weights, and hashes of all weights of the model in memory."""

    changes: tuple[LayerChange, ...]
    before: str
    """`sha256:…` over every parameter and buffer, its name and its bytes."""
    edited: str
    """Of the edited weights; equal to `before` where these are quantised, so that the edit is in the pass alone."""
    undone: str
    """Equal to `before`."""

    @property
    def in_pass_alone(self) -> bool:
        """Whether no weight was touched, because they are quantised."""
        return self.edited == self.before


def prove_edit(model: OpenModel, edit: LowRankEdit) -> EditProof:
    """Put the edit into the weights, undo it, and hash them at each step; other work on the model waits meanwhile.

    Quantised weights are not touched: what the edit does to what they multiply with is measured all the same.

    Raises:
        InputError: the edit changes nothing.
    """
    with model.turns:
        changes = measure_edit(model.anatomy, edit)
        before = hash_parameters(model.network)
        if any(written.packed for _, written in list_written(model.anatomy, edit)):
            if not any(change.change for change in changes):
                raise InputError(describe_no_change(edit))
            return EditProof(changes, before, before, before)
        with edited_weights(model.anatomy, edit):
            changed = hash_parameters(model.network)
        return EditProof(changes, before, changed, hash_parameters(model.network))


def hash_parameters(model: nn.Module) -> str:
    """`sha256:…` over names and bytes of a model's parameters and buffers, as they are in memory."""
    places = {
        f"{name}.{part}" if name else part: (module, part)
        for name, module in model.named_modules()
        for part, _ in module.named_parameters(recurse=False)
    }
    names = [name for name, _ in model.named_parameters()]
    read = [lambda place=places[name]: read_weight(*place) for name in names]
    buffers = [*model.named_buffers()]
    read += [lambda buffer=buffer: buffer for _, buffer in buffers]
    names += [name for name, _ in buffers]
    with ThreadPoolExecutor(max_workers=4) as pool:
        digests = pool.map(lambda get: _digest(get()), read)
        summary = "".join(f"{name} {digest}\n" for name, digest in zip(names, digests, strict=True))
    return "sha256:" + hashlib.sha256(summary.encode()).hexdigest()


def _digest(tensor: Tensor) -> str:
    flat = tensor.detach().to("cpu").contiguous().flatten()
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()
