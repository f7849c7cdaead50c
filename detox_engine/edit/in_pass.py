"""An edit in the forward pass: rows of a batch carry it, and no weight is touched."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from detox_engine.edit.change import Adapter, Change
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.model.anatomy import Anatomy, OutputProjection


@contextmanager
def edited(anatomy: Anatomy, rows: Sequence[Change | None]) -> Iterator[None]:
    """The forward face: batch row i of every forward pass inside carries `rows[i]`; no weight is touched.

    Every pass inside must have `len(rows)` batch rows; a single entry is carried by all of however many there are.
    The rows may carry different layers, sites, ranks and strengths; a row with None, or with strength 0, is left
    exactly as the model writes it. What a change does outside the blocks, to logits or in front of a text, is done by
    who runs the pass.
    """
    changes = dict.fromkeys(change for change in rows if change is not None and change.strength != 0)
    edits = tuple(change for change in changes if isinstance(change, LowRankEdit))
    carried = [edits.index(edit) if edit in edits else len(edits) for edit in rows]
    with ExitStack() as hooks:
        for adapter in (change for change in changes if isinstance(change, Adapter)):
            own = [row for row, change in enumerate(rows) if change is adapter]
            for layer, modules in adapter.factors.items():
                for name, factors in modules.items():
                    hook = _addition(*factors, adapter.strength, own, len(rows))
                    hooks.enter_context(anatomy.blocks[layer].get_submodule(name).register_forward_hook(hook))
        for layer in sorted({layer for edit in edits for layer in edit.bases}):
            asked = {edit.sites for edit in edits if layer in edit.bases}
            for written in dict.fromkeys(each for sites in asked for each in anatomy.written_at(layer, sites)):
                hook = _projection(written, layer, edits, carried)
                hooks.enter_context(written.module.register_forward_hook(hook, with_kwargs=True))
        yield


def _addition(
    down: Tensor, up: Tensor, strength: float, own: Sequence[int], rows: int
) -> Callable[[nn.Module, tuple, Tensor], Tensor]:
    """The forward hook of one module that an adapter changes: rows `own` of `rows` have its change added."""

    @cache
    def bring(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        # Once: a copy to a GPU in every pass makes it wait, and no pass that has one can be recorded.
        return torch.tensor(own, device=device), down.to(device, dtype), up.to(device, dtype)

    def add(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        given, written = (states.reshape(rows, -1, states.shape[-1]) for states in (inputs[0], output))
        places, own_down, own_up = bring(given.device, given.dtype)
        moved = functional.linear(functional.linear(given[places], own_down), own_up)
        return written.index_add(0, places, moved, alpha=strength).view(output.shape)

    return add


def _projection(
    written: OutputProjection, layer: int, edits: Sequence[LowRankEdit], carried: Sequence[int]
) -> Callable[[nn.Module, tuple, Mapping[str, Any], Tensor | tuple], Tensor | tuple]:
    """The forward hook of one output projection; row i carries `edits[carried[i]]`, or none where that is past the end.

    All edits' directions form one basis, and each row weighs those of its own edit with its strength and the
    others with 0; what an oblique edit removes along them is read with rows of its own. The ranks together are far
    below the inner width, so this costs next to nothing, needs no copy for each row, and leaves rows without an edit
    exact: they have 0 subtracted.
    """
    there = [edit.changes(layer, written) for edit in edits]
    bases = [edit.basis_at(layer, written) if own else None for edit, own in zip(edits, there, strict=True)]
    readers = [edit.reads_at(layer, written) if own else None for edit, own in zip(edits, there, strict=True)]
    basis, reads = (torch.cat([rows for rows in each if rows is not None]) for each in (bases, readers))
    weights = basis.new_zeros(len(edits) + 1, len(basis))
    biases = None if written.bias is None or all(edit.edit_bias for edit in edits) else written.bias.to(basis)
    # Of a mixture `[experts, rank]`: what a token's bias is depends on where it is sent.
    offset = basis.new_zeros(len(basis)) if biases is None else basis.new_zeros(*biases.shape[:-1], len(basis))
    start = 0
    for index, (edit, reader) in enumerate(zip(edits, readers, strict=True)):
        if reader is None:
            continue
        span = slice(start, start := start + len(reader))
        weights[index, span] = edit.strength
        if biases is not None and not edit.edit_bias:
            offset[..., span] = biases @ reader.T
    weights = weights[carried][:, None] if len(set(carried)) > 1 else weights[carried[0]]

    def project(module: nn.Module, inputs: tuple, named: Mapping[str, Any], output: Tensor | tuple) -> Tensor | tuple:
        if isinstance(output, tuple):
            return (project(module, inputs, named, output[0]), *output[1:])
        # Some families flatten batch and tokens before the MLP: [batch * tokens, hidden], row by row.
        rows = len(carried)
        if rows > 1 and (output.dim() == 3 and len(output) != rows or output.numel() % (rows * basis.shape[1])):
            raise ValueError(f"A batch of {tuple(output.shape)} does not hold the {rows} rows of the edit.")
        states = output.reshape(rows, -1, basis.shape[1])
        wide = states if states.dtype.itemsize >= 4 else states.float()
        own_basis, own_reads, own_offset, own_weights = (
            each.to(wide.device, wide.dtype) for each in (basis, reads, offset, weights)
        )
        if offset.dim() > 1:
            shares = written.weigh_bias(inputs, named).to(wide.dtype)
            known = (shares @ own_offset).reshape(rows, -1, len(own_basis))
            coefficients = (functional.linear(wide, own_reads) - known) * own_weights
        else:
            coefficients = functional.linear(wide, own_reads, -own_offset) * own_weights
        flat, coefficients = wide.flatten(0, 1), coefficients.flatten(0, 1)
        # What a quantised layer gives may not be changed in place where a gradient is asked for.
        subtract = flat.addmm if torch.is_grad_enabled() else flat.addmm_
        return subtract(coefficients, own_basis, alpha=-1).view(output.shape).to(output.dtype)

    return project
