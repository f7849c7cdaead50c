"""Remove directions from what MLPs write into the residual stream: one low-rank edit and its three faces.

The faces agree to rounding (step 7 of the method, arXiv 2405.13967, section 4.3), for a value matrix W with rows
in the residual stream, orthonormal rows V and strength α:

- `edited`, in the forward pass: out ← out − α ((out − bias) Vᵀ) V;
- `apply_to_weights` and `edited_weights`, in the weights: W ← W − α W VᵀV;
- `lora_factors`, as an adapter: W + (B A)ᵀ with A = V Wᵀ and B = −α Vᵀ.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

from detox_engine.anatomy import Anatomy, ValueLayer
from detox_engine.errors import InputError
from detox_engine.specs import EditPlan, format_layers
from detox_engine.subspace import ToxicSubspace

ROUNDING = 4 * torch.finfo(torch.float32).eps
"""A change of the weights below this share of their norm is rounding, not an edit."""


@dataclass(frozen=True, eq=False)
class LowRankEdit:
    """Directions to remove, by layer. Two edits are equal only if they are the same object."""

    bases: Mapping[int, Tensor]
    """Layer -> `[rank, hidden]` orthonormal float32 rows in the residual stream; ranks may differ by layer."""

    strength: float = 1.0
    """How much of each direction is removed: 0 nothing, 1 all."""

    edit_bias: bool = False
    """Whether the value layers' bias is projected too; the paper leaves it alone."""

    _prepared: WeakKeyDictionary[nn.Module, Tensor] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False
    )

    def __post_init__(self) -> None:
        if not any(len(basis) for basis in self.bases.values()):
            raise InputError("This edit removes no direction: choose at least one layer and one direction of it.")
        if not isfinite(self.strength):
            raise InputError(f"The strength must be a finite number, not {self.strength}; 1 is the paper's edit.")
        kept = {layer: basis.detach() for layer, basis in sorted(self.bases.items()) if len(basis)}
        object.__setattr__(self, "bases", kept)

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(self.bases)

    @property
    def size_in_bytes(self) -> int:
        """What the edit itself holds; no weight of the model is among it."""
        return sum(basis.nbytes for basis in self.bases.values())

    def basis_at(self, layer: int, value: ValueLayer) -> Tensor:
        """`[rank, hidden]` orthonormal float32 rows in the space of the value layer's output, on its device.

        Mostly the basis of that layer itself. Where a norm with an elementwise gain g follows the value layer
        (Gemma), its output x joins the residual stream as g ⊙ x / rms(x), whose component along a direction v is
        v · (g ⊙ x) / rms(x) = (g ⊙ v) · x / rms(x). It vanishes for every v in V exactly when x has nothing along
        the rows g ⊙ v, so those span what is removed from x; rows that g sets to zero need no removal.
        """
        device = value.module.weight.device
        prepared = self._prepared.get(value.module)
        if prepared is None or prepared.device != device:
            prepared = _join_basis(self.bases[layer], value.gain, value.rows.shape[1]).to(device)
            self._prepared[value.module] = prepared
        return prepared


def _join_basis(basis: Tensor, gain: Tensor | None, hidden: int) -> Tensor:
    """`[rank, hidden]` orthonormal rows that span `gain * basis`; see `LowRankEdit.basis_at`."""
    if basis.shape[1] != hidden:
        raise InputError(
            f"The edit was made for a model of width {basis.shape[1]}, this one is {hidden} wide: "
            "fit a study on this model."
        )
    if gain is None:
        return basis.float()
    scaled = basis.double() * gain.detach().to(basis.device, torch.float64)
    _, sizes, spanning = torch.linalg.svd(scaled, full_matrices=False)
    return spanning[sizes > ROUNDING * sizes[0]].float()


def make_edit(subspaces: Sequence[ToxicSubspace], plan: EditPlan) -> LowRankEdit:
    """The edit that `plan` describes, from the fitted subspaces of every layer, layer 0 first.

    Raises:
        InputError: a layer outside the model, a rank above what was kept, or no direction left to remove.
    """
    last = len(subspaces) - 1
    if not plan.layers:
        raise InputError(f"The edit names no layer: choose some of the layers 0-{last}.")
    outside = [layer for layer in plan.layers if not 0 <= layer <= last]
    if outside:
        raise InputError(f"Layer {outside[0]} is outside the model: its layers are 0-{last}.")
    kept = min(len(subspaces[layer].basis) for layer in plan.layers)
    if plan.rank > kept:
        raise InputError(
            f"The rank {plan.rank} is above the {kept} directions kept at layers {format_layers(plan.layers)}: "
            f"choose a rank of 1 to {kept}, or fit again and keep more."
        )
    bases = {}
    for layer in plan.layers:
        on = [direction for direction in range(plan.rank) if (layer, direction) not in plan.switched_off]
        basis = subspaces[layer].basis
        bases[layer] = basis[: plan.rank] if len(on) == plan.rank else basis[on]
    if not any(len(basis) for basis in bases.values()):
        raise InputError(
            f"All {plan.rank} directions of layers {format_layers(plan.layers)} are switched off: switch one on."
        )
    return LowRankEdit(bases, plan.strength, plan.edit_bias)


@contextmanager
def edited(anatomy: Anatomy, rows: Sequence[LowRankEdit | None]) -> Iterator[None]:
    """The forward face: batch row i of every forward pass inside carries `rows[i]`; no weight is touched.

    Every pass inside must have `len(rows)` batch rows; a single entry is carried by all of however many there are.
    The rows may carry different layers, ranks and strengths;
    a row with None, or with strength 0, is left exactly as the model writes it.
    """
    edits = tuple(dict.fromkeys(edit for edit in rows if edit is not None and edit.strength != 0))
    carried = [edits.index(edit) if edit in edits else len(edits) for edit in rows]
    handles = []
    try:
        for layer in sorted({layer for edit in edits for layer in edit.bases}):
            value = _value_layer(anatomy, layer)
            handles.append(value.module.register_forward_hook(_projection(value, layer, edits, carried)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _projection(
    value: ValueLayer, layer: int, edits: Sequence[LowRankEdit], carried: Sequence[int]
) -> Callable[[nn.Module, tuple, Tensor], Tensor]:
    """The forward hook of one layer; row i carries `edits[carried[i]]`, or none where that is past the end.

    All edits' directions form one basis, and each row weighs those of its own edit with its strength and the
    others with 0. The ranks together are far below the inner width, so this costs next to nothing, needs no copy
    for each row, and leaves rows without an edit exact: they have 0 subtracted.
    """
    bases = [edit.basis_at(layer, value) if layer in edit.bases else None for edit in edits]
    basis = torch.cat([rows for rows in bases if rows is not None])
    weights = basis.new_zeros(len(edits) + 1, len(basis))
    offset = basis.new_zeros(len(basis))
    start = 0
    for index, (edit, directions) in enumerate(zip(edits, bases, strict=True)):
        if directions is None:
            continue
        span = slice(start, start := start + len(directions))
        weights[index, span] = edit.strength
        if value.bias is not None and not edit.edit_bias:
            offset[span] = directions @ value.bias.detach().to(basis.dtype)
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


@contextmanager
def edited_weights(anatomy: Anatomy, edit: LowRankEdit) -> Iterator[None]:
    """The weights face: the edit is in the model's weights inside, and undone bit for bit at the end.

    Holds copies of the edited value matrices meanwhile. Raises like `apply_to_weights`.
    """
    saved: list[tuple[Tensor, Tensor]] = []
    try:
        for layer in edit.layers:
            value = _value_layer(anatomy, layer)
            held = [value.module.weight]
            if edit.edit_bias and value.bias is not None:
                held.append(value.bias)
            saved.extend((tensor, tensor.detach().clone()) for tensor in held)
        apply_to_weights(anatomy, edit)
        yield
    finally:
        with torch.no_grad():
            for tensor, copy in saved:
                tensor.copy_(copy)


@torch.no_grad()
def apply_to_weights(anatomy: Anatomy, edit: LowRankEdit) -> None:
    """Put the edit into the value matrices for good, for export: W ← W − α W VᵀV, in the weights' own dtype.

    Raises:
        InputError: nothing would change, because the strength is 0 or the matrices hold nothing along the
            directions; the model is then as it was.
    """
    changed = False
    for layer in edit.layers:
        value = _value_layer(anatomy, layer)
        basis = edit.basis_at(layer, value)
        matrices = [value.rows]
        if edit.edit_bias and value.bias is not None:
            matrices.append(value.bias[None])
        for matrix in matrices:
            projected = _project(matrix, basis, edit.strength)
            if projected is not None:
                matrix.copy_(projected)
                changed = True
    if not changed:
        raise InputError(
            f"This edit changes nothing: at strength {edit.strength:g} the weights of layers "
            f"{format_layers(edit.layers)} hold nothing along its directions that would be removed; "
            "raise the strength, or choose other layers or directions."
        )


def _project(matrix: Tensor, basis: Tensor, strength: float) -> Tensor | None:
    """`matrix - strength * matrix Vᵀ V` for rows `[rows, hidden]`, in its dtype; None where that changes nothing."""
    wide = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    directions = basis.to(wide.dtype)
    along = wide @ directions.T
    if abs(strength) * along.norm() <= ROUNDING * wide.norm():
        return None
    projected = torch.addmm(wide, along, directions, alpha=-strength).to(matrix.dtype)
    return None if torch.equal(projected, matrix) else projected


@dataclass(frozen=True)
class LayerChange:
    """What an edit does to the value matrix W of one layer; norms are Frobenius, as shares of W's own."""

    layer: int
    change: float
    """‖ΔW‖ / ‖W‖."""
    along_before: float
    """‖W Vᵀ‖ / ‖W‖: how much of W lies along the removed directions."""
    along_after: float
    """The same of the edited W: at strength 1 nothing but rounding."""


@torch.no_grad()
def measure_edit(anatomy: Anatomy, edit: LowRankEdit) -> tuple[LayerChange, ...]:
    """What the edit does to the weights, layer by layer in their own dtype, while the model stays as it is."""
    changes = []
    for layer in edit.layers:
        value = _value_layer(anatomy, layer)
        before = value.rows
        projected = _project(before, edit.basis_at(layer, value), edit.strength)
        before = before.to(torch.promote_types(before.dtype, torch.float32))
        after = before if projected is None else projected.to(before.dtype)
        directions = edit.basis_at(layer, value).to(before.dtype)
        norms = torch.stack([(after - before).norm(), (before @ directions.T).norm(), (after @ directions.T).norm()])
        changes.append(LayerChange(layer, *(norms / before.norm()).tolist()))
    return tuple(changes)


@torch.no_grad()
def lora_factors(anatomy: Anatomy, edit: LowRankEdit, layer: int) -> tuple[Tensor, Tensor]:
    """The edit of one layer's matrix as a LoRA: A `[rank, inner]` and B `[hidden, rank]`, float32.

    The edited matrix is W + (B A)ᵀ for W as `[inner, hidden]` rows, that is `weight + B A` for a Linear layer, in
    the shapes the PEFT library expects at a scaling of 1. A bias is no part of a LoRA.
    """
    value = _value_layer(anatomy, layer)
    basis = edit.basis_at(layer, value)
    return basis @ value.rows.T.to(basis.dtype), -edit.strength * basis.T


def _value_layer(anatomy: Anatomy, layer: int) -> ValueLayer:
    if not 0 <= layer < len(anatomy.values):
        raise InputError(f"Layer {layer} is outside the model: its layers are 0-{len(anatomy.values) - 1}.")
    return anatomy.values[layer]
