"""An edit in the weights: made, undone and measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from detox_engine.edit.low_rank import ROUNDING, LowRankEdit
from detox_engine.errors import InputError
from detox_engine.model.anatomy import Anatomy
from detox_engine.model.anatomy.projection import OutputProjection, WrittenTensor
from detox_engine.model.placement import close_weight, open_weight, restored
from detox_engine.plans.edit import Site
from detox_engine.plans.layers import format_layers


@contextmanager
def edited_weights(anatomy: Anatomy, edit: LowRankEdit) -> Iterator[None]:
    """The weights face: the edit is in the model's weights inside, and undone bit for bit at the end.

    Holds copies of the edited matrices meanwhile. Raises like `apply_to_weights`.
    """
    require_plain(anatomy, edit)
    parts = [
        (each.module, part)
        for _, written in list_written(anatomy, edit)
        for each in written.tensors
        for part in list_parts(edit, each)
    ]
    with restored(parts):
        apply_to_weights(anatomy, edit)
        yield


@torch.no_grad()
def apply_to_weights(anatomy: Anatomy, edit: LowRankEdit) -> None:
    """Put the edit into the weights for good, for export: W ← W − α W RᵀV, in their own dtype.

    R reads what is removed along V, which it is itself unless the edit is oblique.

    Raises:
        InputError: nothing would change, because the strength is 0 or the matrices hold nothing along the
            directions, a site was not found, or the weights are quantised; the model is then as it was.
    """
    require_plain(anatomy, edit)
    changed = False
    for layer, written in list_written(anatomy, edit):
        basis, reads = edit.basis_at(layer, written), edit.reads_at(layer, written)
        for each in written.tensors:
            for part in list_parts(edit, each):
                whole = open_weight(each.module, part)
                rows = each.split(whole) if part == each.part else (whole.view(-1, written.hidden),)
                for matrix in rows:
                    projected = project_rows(matrix, basis, reads, edit.strength)
                    if projected is not matrix:
                        matrix.copy_(projected)
                        changed = True
                close_weight(each.module, part, whole)
    if not changed:
        raise InputError(describe_no_change(edit))


def describe_no_change(edit: LowRankEdit) -> str:
    """Why an edit that changes nothing does not, and what to do."""
    return (
        f"This edit changes nothing: at strength {edit.strength:g} the weights of layers {format_layers(edit.layers)} "
        "hold nothing along its directions that would be removed; raise the strength, or choose other layers or "
        "directions."
    )


def list_parts(edit: LowRankEdit, each: WrittenTensor) -> tuple[str, ...]:
    """What of a module the edit changes: its matrices, and its bias where that is edited too."""
    return (each.part, each.bias) if edit.edit_bias and each.bias is not None else (each.part,)


def require_plain(anatomy: Anatomy, edit: LowRankEdit) -> None:
    """Raise an InputError that names the way out, where the weights are quantised and cannot be rewritten."""
    packed = [written.name for _, written in list_written(anatomy, edit) if written.packed]
    if packed:
        raise InputError(
            f"The weights of {packed[0]} are quantised, and an edit of them would be lost in the rounding: take the "
            "adapter (--as adapter), which is put beside them, use the edit in the forward pass, as every evaluation "
            "does, or load the model that it was made from."
        )


def list_written(anatomy: Anatomy, edit: LowRankEdit) -> list[tuple[int, OutputProjection]]:
    """Layer and output projection of every place that the edit changes, in the order of the pass.

    Raises:
        InputError: see `Anatomy.written_at`.
    """
    return [(layer, written) for layer in edit.layers for written in anatomy.written_at(layer, edit.sites)]


def project_rows(matrix: Tensor, basis: Tensor, reads: Tensor, strength: float) -> Tensor:
    """`matrix - strength * matrix Rᵀ V` for rows `[rows, hidden]`, computed in float32 or wider and rounded once to its
    dtype.

    Where that changes nothing but by rounding it is `matrix` itself.

    Args:
        basis: V `[rank, hidden]`, what is removed.
        reads: R `[rank, hidden]`, what reads it: `basis` itself, or of an oblique edit others, of any length.
    """
    wide = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    directions, readers = (rows.to(wide.device, wide.dtype) for rows in (basis, reads))
    along = wide @ readers.T
    # Long rows magnify what they read, its rounding too.
    seen = along if reads is basis else along / readers.norm(dim=1)
    if abs(strength) * seen.norm() <= ROUNDING * wide.norm():
        return matrix
    projected = torch.addmm(wide, along, directions, alpha=-strength).to(matrix.dtype)
    return matrix if torch.equal(projected, matrix) else projected


@dataclass(frozen=True)
class LayerChange:
    """What an edit does to the matrix W of one output projection, of a mixture to those of all its experts together.

    Norms are Frobenius, as shares of W's own.
    """

    layer: int
    site: Site
    change: float
    """‖ΔW‖ / ‖W‖."""
    along_before: float
    """‖W Vᵀ‖ / ‖W‖: how much of W lies along the removed directions; of an oblique edit, along what reads them, each
    row of it at unit length."""
    along_after: float
    """The same of the edited W: at strength 1 nothing but rounding."""


@torch.no_grad()
def measure_edit(anatomy: Anatomy, edit: LowRankEdit) -> tuple[LayerChange, ...]:
    """What the edit does to the weights, place by place in their own dtype, while the model stays as it is."""
    changes = []
    for layer, written in list_written(anatomy, edit):
        basis, reads = edit.basis_at(layer, written), edit.reads_at(layer, written)
        directions = basis if reads is basis else functional.normalize(reads, dim=1)
        squares = torch.zeros(4, dtype=torch.float64)
        for matrix in written.matrices():
            projected = project_rows(matrix, basis, reads, edit.strength)
            before, after = (each.to(torch.promote_types(each.dtype, torch.float32)) for each in (matrix, projected))
            along = directions.to(before.device, before.dtype).T
            norms = [(after - before).norm(), (before @ along).norm(), (after @ along).norm(), before.norm()]
            squares += torch.stack(norms).double().cpu().square()
        shares = squares.sqrt()[:3] / squares[3].sqrt()
        changes.append(LayerChange(layer, written.site, *shares.tolist()))
    return tuple(changes)
