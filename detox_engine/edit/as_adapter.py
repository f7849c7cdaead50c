"""An edit as a LoRA: its change has the edit's rank, so the adapter is exact."""

import torch
from torch import Tensor

from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.model.anatomy import Anatomy


@torch.no_grad()
def lora_factors(anatomy: Anatomy, edit: LowRankEdit, layer: int) -> tuple[Tensor, Tensor]:
    """The edit of one layer's matrix as a LoRA: A `[rank, inner]` and B `[hidden, rank]`, float32.

    The edited matrix is W + (B A)ᵀ for W as `[inner, hidden]` rows, that is `weight + B A` for a Linear layer, in
    the shapes the PEFT library expects at a scaling of 1. A bias is no part of a LoRA.
    """
    value = anatomy.value_at(layer)
    basis = edit.basis_at(layer, value)
    return basis @ value.rows.T.to(basis.dtype), -edit.strength * basis.T
