"""Mean difference: one direction, from where civil text lies on average to where toxic text does.

It is what activation steering takes for a concept (Rimsky et al. 2024, arXiv 2312.06681, section 3), here of centred
embeddings, as DeTox centres them: so the two can be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from detox_engine.study.method import MethodKind

if TYPE_CHECKING:
    from torch import Tensor

    from detox_engine.study.moments import Moments
    from detox_engine.study.subspace import ToxicSubspace


def fit(toxic: Tensor, civil: Tensor, keep: int) -> ToxicSubspace:
    """The mean of the centred differences of embeddings `[pairs, hidden]`, as a subspace of one direction.

    Raises:
        InputError: the means of both sides are the same once centred.
    """
    from detox_engine.study.subspace import centre, describe_direction, find_mean_direction, require_difference

    mean_direction = find_mean_direction(civil)
    differences = centre(toxic, civil, mean_direction)
    mean = differences.mean(0)
    require_difference(mean, civil.double().norm() / len(civil) ** 0.5)
    direction = mean / mean.norm()
    along, size = (differences @ direction).norm(), differences.square().sum()
    return describe_direction(direction, differences.sum(0), along, size, len(civil), mean_direction)


def fit_streamed(moments: Moments, keep: int) -> ToxicSubspace:
    """As `fit`, of all the pairs that `moments` counted, and equal to it to rounding."""
    from detox_engine.study.moments import centre_gram, find_mean_direction_of
    from detox_engine.study.subspace import describe_direction, require_difference

    mean_direction, pairs = find_mean_direction_of(moments), int(moments.count)
    gram = centre_gram(moments.differences, mean_direction)
    mean = moments.differences_sum / pairs
    mean = mean - (mean @ mean_direction) * mean_direction
    require_difference(mean, (moments.civil.trace() / pairs).sqrt())
    direction = mean / mean.norm()
    along = (direction @ gram @ direction).clamp(min=0).sqrt()
    return describe_direction(direction, pairs * mean, along, gram.trace(), pairs, mean_direction)


METHOD = MethodKind(
    name="mean-difference",
    title="Mean difference",
    sentence="one direction, from the mean of civil texts to that of toxic ones",
    fit=fit,
    fit_streamed=fit_streamed,
    place=2,
)
