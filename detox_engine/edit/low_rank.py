"""Remove directions from what MLPs and attentions write into the residual stream: a low-rank edit and its three faces.

The faces agree to rounding (step 7 of the method, arXiv 2405.13967, section 4.3), for the matrix W of an output
projection with rows in the residual stream, orthonormal rows V and strength α. The paper edits the MLPs' value
matrices; those that attention writes with are edited alike.

- `edited`, in the forward pass: out ← out − α ((out − bias) Vᵀ) V;
- `apply_to_weights` and `edited_weights`, in the weights: W ← W − α W VᵀV;
- `lora_factors`, as an adapter: W + (B A)ᵀ with A = V Wᵀ and B = −α Vᵀ.

An oblique edit, such as LEACE's, reads what it removes along V with rows R ≠ V for which R Vᵀ = 1 (Belrose et al. 2023,
arXiv 2306.03819, section 4): out − α ((out − bias) Rᵀ) V, W − α W RᵀV, and A = R Wᵀ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from detox_engine.edit.change import Change
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

    @property
    def reads(self) -> Tensor | None:
        """`[kept, hidden]` float32 rows that read what is removed along each; None where these are the basis."""


@dataclass(frozen=True, eq=False)
class LowRankEdit(Change):
    """Directions to remove, by layer. Two edits are equal only if they are the same object."""

    bases: Mapping[int, Tensor]
    """Layer -> `[rank, hidden]` orthonormal float32 rows in the residual stream; ranks may differ by layer."""

    strength: float = 1.0
    """How much of each direction is removed: 0 nothing, 1 all."""

    edit_bias: bool = False
    """Whether the bias of what is edited is projected too; the paper leaves it alone."""

    sites: Sites = "mlp"
    """What the directions are removed from at each layer; see `Anatomy.written_at`."""

    reads: Mapping[int, Tensor] = field(default_factory=dict)
    """Layer -> `[rank, hidden]` float32 rows R that read what is removed along those of `bases`: R Vᵀ = 1. A layer that
    is not here reads with its basis, and its removal is orthogonal."""

    _prepared: WeakKeyDictionary[nn.Module, tuple[Tensor, Tensor]] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False
    )
    """Output projection -> what `reads_at` and `basis_at` give there, one tensor where they are the same."""

    def __post_init__(self) -> None:
        if not any(len(basis) for basis in self.bases.values()):
            raise InputError("This edit removes no direction: choose at least one layer and one direction of it.")
        if not isfinite(self.strength):
            raise InputError(f"The strength must be a finite number, not {self.strength}; 1 is the paper's edit.")
        kept = {layer: basis.detach() for layer, basis in sorted(self.bases.items()) if len(basis)}
        object.__setattr__(self, "bases", kept)
        object.__setattr__(self, "reads", {layer: self.reads[layer].detach() for layer in kept if layer in self.reads})

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(self.bases)

    def at_layer(self, layer: int) -> "LowRankEdit | None":
        return replace(self, bases={layer: self.bases[layer]}) if layer in self.bases else None

    def changes(self, layer: int, written: "OutputProjection") -> bool:
        """Whether this edit removes anything from what `written` writes at `layer`."""
        return layer in self.bases and self.sites in (written.site, "both")

    def basis_at(self, layer: int, written: "OutputProjection") -> Tensor:
        """`[rank, hidden]` float32 rows in the space of the projection's output, on its device: what is removed.

        Mostly the orthonormal basis of that layer. Where a norm with an elementwise gain g follows the projection
        (Gemma), its output x joins the residual stream as g ⊙ x / rms(x), whose component along a direction v is
        v · (g ⊙ x) / rms(x) = (g ⊙ v) · x / rms(x). It vanishes for every v in V exactly when x has nothing along
        the rows g ⊙ v, so those span what is removed from x; rows that g sets to zero need no removal. They are made
        orthonormal.

        An oblique edit takes w (r · y) from y = g ⊙ x. With r · y = (g ⊙ r) · x, and since x less (w / g) ((g ⊙ r) · x)
        becomes y less w (r · y), it reads x with g ⊙ r and removes along w / g, which keep their product of 1. Where g
        is 0, x joins nothing and nothing is removed; what is left of w is scaled such that at strength 1 the rows read
        nothing afterwards.
        """
        return self._prepare(layer, written)[1]

    def reads_at(self, layer: int, written: "OutputProjection") -> Tensor:
        """`[rank, hidden]` float32 rows that read what is removed along those of `basis_at`: these, or others."""
        return self._prepare(layer, written)[0]

    def _prepare(self, layer: int, written: "OutputProjection") -> tuple[Tensor, Tensor]:
        device = written.device
        prepared = self._prepared.get(written.module)
        if prepared is None or prepared[1].device != device:
            basis, hidden = self.bases[layer], written.hidden
            if layer in self.reads:
                reads, joined = _join_oblique(self.reads[layer], basis, written.gain, hidden)
                prepared = reads.to(device), joined.to(device)
            else:
                joined = _join_basis(basis, written.gain, hidden).to(device)
                prepared = joined, joined
            self._prepared[written.module] = prepared
        return prepared


def _join_basis(basis: Tensor, gain: Tensor | None, hidden: int) -> Tensor:
    """`[rank, hidden]` orthonormal rows that span `gain * basis`; see `LowRankEdit.basis_at`."""
    _require_width(basis, hidden)
    if gain is None:
        return basis.float()
    scaled = basis.double() * gain.detach().to(basis.device, torch.float64)
    _, sizes, spanning = torch.linalg.svd(scaled, full_matrices=False)
    return spanning[sizes > ROUNDING * sizes[0]].float()


def _join_oblique(reads: Tensor, basis: Tensor, gain: Tensor | None, hidden: int) -> tuple[Tensor, Tensor]:
    """`[rank, hidden]` each: what reads, `gain * reads`, and what is removed; see `LowRankEdit.basis_at`."""
    _require_width(basis, hidden)
    if gain is None:
        return reads.float(), basis.float()
    wide = gain.detach().to(basis.device, torch.float64)
    scaled, divided = reads.double() * wide, torch.where(wide == 0, 0.0, basis.double() / wide)
    # The identity, unless the gain has zeros; then what removes all that is read.
    return scaled.float(), (torch.linalg.pinv(scaled @ divided.T).T @ divided).float()


def _require_width(basis: Tensor, hidden: int) -> None:
    if basis.shape[1] != hidden:
        raise InputError(
            f"The edit was made for a model of width {basis.shape[1]}, this one is {hidden} wide: "
            "fit a study on this model."
        )


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
    bases, reads = {}, {}
    for layer in plan.layers:
        on = [direction for direction in range(plan.rank) if (layer, direction) not in plan.switched_off]
        chosen = slice(plan.rank) if len(on) == plan.rank else on
        bases[layer] = subspaces[layer].basis[chosen]
        if subspaces[layer].reads is not None:
            reads[layer] = subspaces[layer].reads[chosen]
    if not any(len(basis) for basis in bases.values()):
        raise InputError(
            f"All {plan.rank} directions of layers {format_layers(plan.layers)} are switched off: switch one on."
        )
    return LowRankEdit(bases, plan.strength, plan.edit_bias, plan.sites, reads)
