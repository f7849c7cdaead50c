"""How directions of different layers lie to one another."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from detox_engine.errors import InputError
from detox_engine.study.subspace import ToxicSubspace


def measure_angles(subspaces: Sequence[ToxicSubspace], rank: int = 1) -> Tensor:
    """`[layers, layers, rank]` principal angles in degrees between the first `rank` directions of every two layers.

    In rising order: with rank 1 the angle between the first directions, whatever their signs.
    """
    kept = min(subspace.kept for subspace in subspaces)
    if not 1 <= rank <= kept:
        raise InputError(f"The rank must be 1 to {kept}, the directions kept at every layer, not {rank}.")
    stacked = torch.stack([subspace.basis[:rank].double() for subspace in subspaces])
    # Orthonormal to float64, so that 1 − cos² still holds small angles, to a millionth of a degree.
    rows = torch.linalg.qr(stacked.mT).Q.mT
    layers = len(subspaces)
    flat = rows.reshape(layers * rank, -1)
    one, other = torch.tril_indices(layers, layers, -1)
    products = (flat @ flat.T).reshape(layers, rank, layers, rank).transpose(1, 2)[one, other]
    squares = torch.linalg.eigvalsh(products @ products.mT).flip(-1).clamp(0, 1)
    found = torch.rad2deg(torch.atan2((1 - squares).sqrt(), squares.sqrt())).float()
    angles = torch.zeros(layers, layers, rank)
    angles[one, other] = angles[other, one] = found
    return angles


def measure_cosines(subspaces: Sequence[ToxicSubspace], direction: Tensor) -> Tensor:
    """`[layers, directions]` cosines of a pinned unit `direction` `[hidden]` with every direction all layers kept."""
    kept = min(subspace.kept for subspace in subspaces)
    return torch.stack([functional.linear(subspace.basis[:kept], direction.float()) for subspace in subspaces])
