"""Remove directions from what MLPs and attentions write into the residual stream: a low-rank edit and its three faces.

The faces agree to rounding (step 7 of the method, arXiv 2405.13967, section 4.3), for the matrix W of an output
projection with rows in the residual stream, orthonormal rows V and strength α. The paper edits the MLPs' value
matrices; those that attention writes with are edited alike.

- `edited`, in the forward pass: out ← out − α ((out − bias) Vᵀ) V;
- `apply_to_weights` and `edited_weights`, in the weights: W ← W − α W VᵀV;
- `lora_factors`, as an adapter: W + (B A)ᵀ with A = V Wᵀ and B = −α Vᵀ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from detox_engine.errors import InputError
from detox_engine.plans.edit import EditPlan, Sites
from detox_engine.plans.layers import check_layers, format_layers

if TYPE_CHECKING:
    from detox_engine.model.anatomy import OutputProjection

ROUNDING = 4 * torch.finfo(torch.float32).eps
"""A change of the weights below this share of their norm is rounding, not an edit."""


class Directions(Protocol):
    """What directions of a layer are taken from, such as a fitted subspace."""

    @property
    def basis(self) -> Tensor:
        """`[kept, hidden]` orthonormal float32 rows, strongest first."""


@dataclass(frozen=True, eq=False)
class LowRankEdit:
    """Directions to remove, by layer. Two edits are equal only if they are the same object."""

    bases: Mapping[int, Tensor]
    """Layer -> `[rank, hidden]` orthonormal float32 rows in the residual stream; ranks may differ by layer."""

    strength: float = 1.0
    """How much of each direction is removed: 0 nothing, 1 all."""

    edit_bias: bool = False
    """Whether the bias of what is edited is projected too; the paper leaves it alone."""

    sites: Sites = "mlp"
    """What the directions are removed from at each layer; see `Anatomy.written_at`."""

    _prepared: WeakKeyDictionary[nn.Module, Tensor] = field(default_factory=WeakKeyDictionary, init=False, repr=False)

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

    def changes(self, layer: int, written: "OutputProjection") -> bool:
        """Whether this edit removes anything from what `written` writes at `layer`."""
        return layer in self.bases and self.sites in (written.site, "both")

    def basis_at(self, layer: int, written: "OutputProjection") -> Tensor:
        """`[rank, hidden]` orthonormal float32 rows in the space of the projection's output, on its device.

        Mostly the basis of that layer itself. Where a norm with an elementwise gain g follows the projection
        (Gemma), its output x joins the residual stream as g ⊙ x / rms(x), whose component along a direction v is
        v · (g ⊙ x) / rms(x) = (g ⊙ v) · x / rms(x). It vanishes for every v in V exactly when x has nothing along
        the rows g ⊙ v, so those span what is removed from x; rows that g sets to zero need no removal.
        """
        device = written.module.weight.device
        prepared = self._prepared.get(written.module)
        if prepared is None or prepared.device != device:
            prepared = _join_basis(self.bases[layer], written.gain, written.rows.shape[1]).to(device)
            self._prepared[written.module] = prepared
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


def make_edit(subspaces: Sequence[Directions], plan: EditPlan) -> LowRankEdit:
    """The edit that `plan` describes, from the fitted subspaces of every layer, layer 0 first.

    Raises:
        InputError: a layer outside the model, a rank above what was kept, or no direction left to remove.
    """
    if not plan.layers:
        raise InputError(f"The edit names no layer: choose some of the layers 0-{len(subspaces) - 1}.")
    check_layers(plan.layers, len(subspaces))
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
    return LowRankEdit(bases, plan.strength, plan.edit_bias, plan.sites)
