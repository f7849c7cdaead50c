"""An edit as a LoRA: its change has the edit's rank, so the adapter is exact."""

import torch
from torch import Tensor

from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.model.anatomy import Anatomy


@torch.no_grad()
def lora_factors(anatomy: Anatomy, edit: LowRankEdit, layer: int) -> dict[str, tuple[Tensor, Tensor]]:
    """The edit of one layer as a LoRA: the name of each module that it changes -> A and B, float32.

    A is `[rank, inner]` and B `[hidden, rank]`. The edited matrix is W + (B A)ᵀ for W as `[inner, hidden]` rows, that
    is `weight + B A` for a Linear layer, in the shapes the PEFT library expects at a scaling of 1. A bias is no part
    of a LoRA. Where a mixture's experts lie in one tensor, A is `[experts, rank, inner]`, and B the same for all.

    Raises:
        InputError: see `Anatomy.written_at`.
    """
    factors = {}
    for written in anatomy.written_at(layer, edit.sites):
        basis, reads = edit.basis_at(layer, written), edit.reads_at(layer, written)
        for each in written.tensors:
            a = torch.stack([reads @ rows.T.to(reads) for rows in each.split(each.value)])
            b = -edit.strength * basis.T
            factors[each.name] = (a[0], b) if each.experts == 1 else (a, b)
    return factors
