"""Synthetic embeddings with a known toxic subspace: the paper's factor model (arXiv 2405.13967, section 4.1).

Unlike the lab's worlds (`detox_engine.lab.factor_model`) these have toxic directions of falling strength, so that each
can be told by itself, none of them where that is asked for, or given ones, and any size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FactorSample:
    toxic: Tensor
    """`[pairs, hidden]`"""
    civil: Tensor
    """`[pairs, hidden]`"""
    planted: Tensor
    """`[rank, hidden]` orthonormal rows: the toxic directions."""
    mean_direction: Tensor
    """`[hidden]` what all embeddings share."""


def draw_factor_sample(
    rank: int,
    pairs: int = 500,
    hidden: int = 96,
    noise: float = 0.02,
    strength: float = 2.0,
    seed: int = 0,
    planted: Tensor | None = None,
) -> FactorSample:
    """Mean part + context part on both sides; in toxic text also a toxic part; noise on every entry of each side.

    The toxic part of planted direction k has mean and standard deviation `strength / (k + 1) ** 0.5`. The planted
    directions are drawn, unless they are given as orthonormal rows `planted`.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    columns = normal(hidden, hidden)
    if planted is not None:
        columns[:, :rank] = planted.double().T
    frame = torch.linalg.qr(columns).Q.T
    planted = frame[:rank] if planted is None else planted.double()
    mean_direction, contexts = frame[rank], frame[rank + 1 : rank + 11]
    context = 3 * normal(pairs, len(contexts)) @ contexts
    shared = 40 * mean_direction + context
    falling = strength / torch.arange(1, rank + 1, dtype=torch.float64).sqrt()
    toxic_part = (falling * (1 + normal(pairs, rank))) @ planted
    # Toxic text leans a little more on what frequent tokens share: centring has to take that out.
    lean = 0.5 * normal(pairs, 1).abs() * mean_direction
    return FactorSample(
        toxic=(shared + lean + toxic_part + noise * normal(pairs, hidden)).float(),
        civil=(shared + noise * normal(pairs, hidden)).float(),
        planted=planted,
        mean_direction=mean_direction,
    )
