"""An edit in the forward pass: rows of a batch carry it, and no weight is touched."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.model.anatomy import Anatomy, OutputProjection


@contextmanager
def edited(anatomy: Anatomy, rows: Sequence[LowRankEdit | None]) -> Iterator[None]:
    """The forward face: batch row i of every forward pass inside carries `rows[i]`; no weight is touched.

    Every pass inside must have `len(rows)` batch rows; a single entry is carried by all of however many there are.
    The rows may carry different layers, sites, ranks and strengths; a row with None, or with strength 0, is left
    exactly as the model writes it.
    """
    edits = tuple(dict.fromkeys(edit for edit in rows if edit is not None and edit.strength != 0))
    carried = [edits.index(edit) if edit in edits else len(edits) for edit in rows]
    with ExitStack() as hooks:
        for layer in sorted({layer for edit in edits for layer in edit.bases}):
            asked = {edit.sites for edit in edits if layer in edit.bases}
            for written in dict.fromkeys(each for sites in asked for each in anatomy.written_at(layer, sites)):
                hook = _projection(written, layer, edits, carried)
                hooks.enter_context(written.module.register_forward_hook(hook))
        yield


def _projection(
    written: OutputProjection, layer: int, edits: Sequence[LowRankEdit], carried: Sequence[int]
) -> Callable[[nn.Module, tuple, Tensor], Tensor]:
    """The forward hook of one output projection; row i carries `edits[carried[i]]`, or none where that is past the end.

    All edits' directions form one basis, and each row weighs those of its own edit with its strength and the
    others with 0. The ranks together are far below the inner width, so this costs next to nothing, needs no copy
    for each row, and leaves rows without an edit exact: they have 0 subtracted.
    """
    bases = [edit.basis_at(layer, written) if edit.changes(layer, written) else None for edit in edits]
    basis = torch.cat([rows for rows in bases if rows is not None])
    weights = basis.new_zeros(len(edits) + 1, len(basis))
    offset = basis.new_zeros(len(basis))
    start = 0
    for index, (edit, directions) in enumerate(zip(edits, bases, strict=True)):
        if directions is None:
            continue
        span = slice(start, start := start + len(directions))
        weights[index, span] = edit.strength
        if written.bias is not None and not edit.edit_bias:
            offset[span] = directions @ written.bias.detach().to(basis.dtype)
    weights = weights[carried][:, None] if len(set(carried)) > 1 else weights[carried[0]]

    def project(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        # Some families flatten batch and tokens before the MLP: [batch * tokens, hidden], row by row.
        rows = len(carried)
        if rows > 1 and (output.dim() == 3 and len(output) != rows or output.numel() % (rows * basis.shape[1])):
            raise ValueError(f"A batch of {tuple(output.shape)} does not hold the {rows} rows of the edit.")
        states = output.reshape(rows, -1, basis.shape[1])
        wide = states if states.dtype.itemsize >= 4 else states.float()
        directions = basis.to(wide.dtype)
        coefficients = functional.linear(wide, directions, -offset.to(wide.dtype)) * weights.to(wide.dtype)
        flat, coefficients = wide.flatten(0, 1), coefficients.flatten(0, 1)
        return flat.addmm_(coefficients, directions, alpha=-1).view(output.shape).to(output.dtype)

    return project
