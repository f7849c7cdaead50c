"""The control of an edit: random subspaces of the same rank on the same layers and sites."""

from collections.abc import Sequence
from dataclasses import replace

import numpy
import torch
from torch import Tensor

from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError


def draw_controls(edit: LowRankEdit, draws: int, seed: int, off: Sequence[int] = ()) -> tuple[LowRankEdit, ...]:
    """Edits like `edit` whose directions are random: uniform over the subspaces of each layer's rank, and orthogonal.

    A draw depends on the seed, its number and the layer alone, and a lower rank takes the first directions of a
    higher one, so that settings of a sweep share their luck.

    Args:
        off: dimensions of the residual stream, such as the massive ones, that every direction is kept off: it is 0
            there, and uniform over the subspaces of the others.

    Raises:
        InputError: fewer dimensions are left than an edit has directions.
    """
    return tuple(
        replace(
            edit,
            bases={layer: _draw_basis(*basis.shape, (seed, draw, layer), off) for layer, basis in edit.bases.items()},
            reads={},
        )
        for draw in range(draws)
    )


def _draw_basis(rank: int, hidden: int, key: Sequence[int], off: Sequence[int]) -> Tensor:
    """`[rank, hidden]` orthonormal float32 rows, 0 in `off`: Gaussian rows made orthonormal, first row first."""
    gaussian = numpy.random.default_rng(key).standard_normal((rank, hidden))
    kept = numpy.setdiff1d(numpy.arange(hidden), off)
    if len(kept) < rank:
        raise InputError(
            f"No {rank} random directions lie off {hidden - len(kept)} of {hidden} dimensions: take plain controls "
            "(--control plain), or a lower rank."
        )
    basis = torch.zeros(rank, hidden)
    basis[:, kept] = torch.linalg.qr(torch.from_numpy(gaussian[:, kept]).T).Q.T.float()
    return basis
