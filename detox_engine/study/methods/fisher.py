"""Fisher's linear discriminant: the mean difference, whitened by how the tokens of civil text vary.

w = S⁻¹ · mean(T) with S = (1 − s) · covariance + s · (mean variance) · I, the covariance shrunk toward a multiple of
the identity (Fisher 1936; Ledoit and Wolf 2004). Along a direction in which civil text varies much, a difference
between the sides says little and its removal costs much, so such directions weigh less. It is not the paper's: it
stands beside the published recipe to be measured against it. Nothing is centred: what civil tokens share is a
direction in which they vary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from detox_engine.errors import InputError
from detox_engine.plans.option import option
from detox_engine.study.method import MethodKind

if TYPE_CHECKING:
    from torch import Tensor

    from detox_engine.study.moments import Moments
    from detox_engine.study.subspace import ToxicSubspace


@dataclass(frozen=True)
class FisherOptions:
    """How much of the covariance is believed."""

    shrinkage: float = option(
        0.5,
        "Of Fisher's method: the share of the covariance of civil tokens that gives way to their mean variance, "
        "0 to 1; at 1 the direction is that of the plain mean difference.",
        "--shrinkage",
        link="shrinkage",
        low=0.01,
        high=1.0,
        step=0.05,
        title="Shrinkage of the covariance",
    )

    def __post_init__(self) -> None:
        if not 0 < self.shrinkage <= 1:
            raise InputError(f"The shrinkage lies above 0 and at most at 1, not at {self.shrinkage}.")


def fit(toxic: Tensor, civil: Tensor, keep: int, covariance: Tensor, shrinkage: float) -> ToxicSubspace:
    """Fisher's direction of one layer from embeddings `[pairs, hidden]` of both sides.

    Args:
        covariance: `[hidden, hidden]` of the states of civil tokens.

    Raises:
        InputError: the means of both sides are the same.
    """
    from detox_engine.study.subspace import describe_direction, find_mean_direction

    differences = toxic.double() - civil.double()
    direction = find_direction(differences.mean(0), covariance, shrinkage, civil.double().norm() / len(civil) ** 0.5)
    along, size = (differences @ direction).norm(), differences.square().sum()
    return describe_direction(direction, differences.sum(0), along, size, len(civil), find_mean_direction(civil))


def fit_streamed(moments: Moments, keep: int, covariance: Tensor, shrinkage: float) -> ToxicSubspace:
    """As `fit`, of all the pairs that `moments` counted, and equal to it to rounding."""
    from detox_engine.study.moments import find_mean_direction_of
    from detox_engine.study.subspace import describe_direction

    pairs = int(moments.count)
    scale = (moments.civil.trace() / pairs).sqrt()
    direction = find_direction(moments.differences_sum / pairs, covariance, shrinkage, scale)
    along = (direction @ moments.differences @ direction).clamp(min=0).sqrt()
    size, mean_direction = moments.differences.trace(), find_mean_direction_of(moments)
    return describe_direction(direction, moments.differences_sum, along, size, pairs, mean_direction)


def find_direction(mean: Tensor, covariance: Tensor, shrinkage: float, scale: Tensor) -> Tensor:
    """`[hidden]` unit vector S⁻¹ · `mean`, float64; dimensions in which nothing varies count for nothing.

    Args:
        scale: the size of an embedding, beside which the mean may be rounding.
    """
    import torch

    from detox_engine.study.subspace import require_difference

    require_difference(mean, scale)
    alive = (covariance.diagonal() > 0) & (mean != 0)
    inside = covariance[alive][:, alive]
    if not len(inside) or inside.trace() <= 0:
        return mean / mean.norm()
    mixed = (1 - shrinkage) * inside
    mixed.diagonal().add_(shrinkage * inside.diagonal().mean())
    direction = torch.zeros_like(mean)
    direction[alive] = torch.cholesky_solve(mean[alive, None], torch.linalg.cholesky(mixed))[:, 0]
    return direction / direction.norm()


METHOD = MethodKind(
    name="fisher",
    title="Fisher",
    sentence="one direction, the mean difference whitened by how the tokens of civil text vary (ours, not the paper's)",
    options=FisherOptions,
    fit=fit,
    fit_streamed=fit_streamed,
    needs_covariance=True,
    place=1,
)
