"""LEACE: what a linear probe can read of toxicity, erased with the least change there is (Belrose et al. 2023).

For two classes its eraser is x − w (r · (x − mean)): w is the plain mean difference δ, and what is removed along it is
read with r ∝ Σ⁻¹ δ, for the covariance Σ of all embeddings (arXiv 2306.03819, theorem 4.2). It is oblique: r is not w.
Afterwards the means of both sides are the same, so no linear probe does better than chance on what it was fitted to
(theorem 3.1), whichever Σ stands between: a wrong one only makes the change larger than it had to be.

The eraser is that of the package `concept-erasure`, in float64, with these settings:

- `shrinkage` on: with fewer embeddings than a few times their width the plain covariance has no inverse to speak of,
  and r would follow its noise. The package shrinks it toward a multiple of the identity (arXiv 1308.2608).
- `constrain_cov_trace` off: where a trace would rise it mixes the eraser with an orthogonal one, and the mixture is of
  full rank. Here one direction is removed, which weights and adapters can carry.
- `affine` off: an edit of weights takes something out and has no place for the mean that would be put back.
- `svd_tol` as small as can be: sides of the same mean are refused before, and nothing else may be dropped.

Nothing is centred but by the covariance itself, since the guarantee is about the embeddings as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from detox_engine.errors import InputError
from detox_engine.study.method import MethodKind

if TYPE_CHECKING:
    from torch import Tensor

    from detox_engine.study.subspace import ToxicSubspace

FEWEST = 2
"""Pairs; one has no spread to take a covariance of."""
ALIGNED = 1 - 1e-6
"""Cosine between what is written and the mean difference; the two are one but for rounding."""


def fit(toxic: Tensor, civil: Tensor, keep: int) -> ToxicSubspace:
    """LEACE's direction of one layer, and what reads it, from embeddings `[pairs, hidden]` of both sides.

    Raises:
        InputError: too few pairs, or the means of both sides are the same.
    """
    from dataclasses import replace

    from detox_engine.study.subspace import describe_direction, find_mean_direction, require_difference

    if len(civil) < FEWEST:
        raise InputError(f"LEACE needs the covariance of the embeddings: give {FEWEST} pairs or more.")
    differences = toxic.double() - civil.double()
    mean = differences.mean(0)
    require_difference(mean, civil.double().norm() / len(civil) ** 0.5)
    read, written = find_eraser(toxic, civil)
    if (written @ mean).abs() < ALIGNED * mean.norm():
        raise InputError("These are too few pairs for the covariance that LEACE needs: give more, or another method.")
    along, size = (differences @ written).norm(), differences.square().sum()
    found = describe_direction(written, differences.sum(0), along, size, len(civil), find_mean_direction(civil))
    # Scaled to the direction as it was rounded and turned, so that removing it once removes all of it.
    return replace(found, reads=(read / (found.basis.double() @ read)).float()[None])


def find_eraser(toxic: Tensor, civil: Tensor) -> tuple[Tensor, Tensor]:
    """`[hidden]` what reads and `[hidden]` the unit vector that is written, float64.

    Both are 0 in dimensions in which nothing varies, such as massive ones that were taken out: shrinkage would give
    these a variance.
    """
    import torch
    from concept_erasure import LeaceFitter

    both = torch.cat([toxic, civil]).double()
    labels = torch.cat([both.new_ones(len(toxic)), both.new_zeros(len(civil))])
    varies = (both != both[0]).any(0)
    eraser = LeaceFitter.fit(
        both[:, varies],
        labels,
        shrinkage=True,
        constrain_cov_trace=False,
        affine=False,
        svd_tol=torch.finfo(torch.float64).tiny,
    ).eraser
    read, written = torch.zeros(2, both.shape[1], dtype=torch.float64)
    read[varies], written[varies] = eraser.proj_right[0], eraser.proj_left[:, 0]
    return read, written / written.norm()


METHOD = MethodKind(
    name="leace",
    title="LEACE",
    sentence="one direction, so that no linear probe tells the sides apart, by the least change (an oblique removal)",
    fit=fit,
    place=3,
)
