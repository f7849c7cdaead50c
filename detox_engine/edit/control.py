"""The control of an edit: random subspaces of the same rank on the same layers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy
import torch
from torch import Tensor

from detox_engine.edit.low_rank import LowRankEdit


def draw_controls(edit: LowRankEdit, draws: int, seed: int) -> tuple[LowRankEdit, ...]:
    """Edits like `edit` whose directions are random: uniform over the subspaces of each layer's rank.

    A draw depends on the seed, its number and the layer alone, and a lower rank takes the first directions of a
    higher one, so that settings of a sweep share their luck.
    """
    return tuple(
        replace(
            edit,
            bases={layer: _draw_basis(*basis.shape, (seed, draw, layer)) for layer, basis in edit.bases.items()},
        )
        for draw in range(draws)
    )


def _draw_basis(rank: int, hidden: int, key: Sequence[int]) -> Tensor:
    """`[rank, hidden]` orthonormal float32 rows: Gaussian rows made orthonormal, first row first."""
    gaussian = numpy.random.default_rng(key).standard_normal((rank, hidden))
    return torch.linalg.qr(torch.from_numpy(gaussian).T).Q.T.float().contiguous()
