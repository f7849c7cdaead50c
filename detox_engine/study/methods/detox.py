"""DeTox: centre, decompose, orient: from a layer's embeddings to its toxic subspace (arXiv 2405.13967, section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detox_engine.errors import InputError
from detox_engine.study.method import MethodKind

if TYPE_CHECKING:
    from torch import Tensor

    from detox_engine.study.moments import Moments
    from detox_engine.study.subspace import ToxicSubspace

ROUNDING = 1e-7
"""A singular value below this share of the differences' norm is rounding of a Gram matrix in float64."""


def fit_subspace(toxic: Tensor, civil: Tensor, keep: int, centred: bool = True) -> ToxicSubspace:
    """The toxic subspace of one layer from embeddings `[pairs, hidden]` of both sides (steps 2–5 of the method).

    Args:
        centred: whether step 3 is done.

    Raises:
        InputError: the two sides do not differ at all once centred.
    """
    import torch

    from detox_engine.study.subspace import ToxicSubspace, centre, decompose, find_mean_direction

    mean_direction = find_mean_direction(civil)
    differences = centre(toxic, civil, mean_direction) if centred else toxic.double() - civil.double()
    scale = civil.double().norm()
    if differences.norm() <= 1e-7 * scale:
        raise InputError("The toxic and civil texts have the same embeddings: there is no difference to decompose.")
    values, basis = decompose(differences, keep)
    projections = differences @ basis.T
    means = projections.mean(0)
    basis = basis * torch.where(means < 0, -1.0, 1.0)[:, None]
    polarity = means.abs() / projections.square().mean(0).sqrt()
    return ToxicSubspace(basis.float(), values.float(), mean_direction.float(), polarity.float())


def fit_subspace_of(moments: Moments, keep: int, centred: bool = True) -> ToxicSubspace:
    """The toxic subspace of one layer: `fit_subspace` of all the pairs that `moments` counted.

    Equal to it to rounding. Centring takes from a Gram matrix what the differences have along the mean direction,
    so singular values below `ROUNDING` of the uncentred norm are not exact, and their directions not kept.

    Raises:
        InputError: the two sides do not differ at all once centred.
    """
    import torch

    from detox_engine.study.moments import centre_gram, find_mean_direction_of
    from detox_engine.study.subspace import SMALLEST_KEPT, ToxicSubspace

    mean_direction = find_mean_direction_of(moments)
    gram = centre_gram(moments.differences, mean_direction) if centred else moments.differences
    pairs, size = int(moments.count), moments.differences.trace()
    if gram.trace() <= (1e-7) ** 2 * moments.civil.trace() or gram.trace() <= 1e-14 * size:
        raise InputError("The toxic and civil texts have the same embeddings: there is no difference to decompose.")
    eigenvalues, eigenvectors = torch.linalg.eigh(gram)
    values = eigenvalues.flip(0)[:pairs].clamp(min=0).sqrt()
    kept = min(keep, int((values > max(SMALLEST_KEPT * values[0], ROUNDING * size.sqrt())).sum()))
    basis = eigenvectors.flip(1)[:, :kept].T
    sums = basis @ moments.differences_sum
    basis = basis * torch.where(sums < 0, -1.0, 1.0)[:, None]
    polarity = sums.abs() / (pairs**0.5 * values[:kept])
    return ToxicSubspace(basis.float().contiguous(), values.float(), mean_direction.float(), polarity.float())


METHOD = MethodKind(
    name="detox",
    title="DeTox",
    sentence="the directions along which toxic texts differ most from their civil twins, strongest first",
    fit=fit_subspace,
    fit_streamed=fit_subspace_of,
    place=0,
)
