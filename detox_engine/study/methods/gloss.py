"""GLOSS: one toxic subspace for the whole model, out of what its layers have in common (arXiv 2505.17078, 2601.06226).

The centred differences of each layer are decomposed as DeTox does, which gives candidate directions; a PCA of the
candidates of all layers gives one subspace, which is removed from what every layer writes.

How candidates weigh is ours: a layer's direction v with singular value σ enters as σ / ‖T‖ · v, where ‖T‖ is the norm
of all the layer's centred differences. So a layer counts by the shares of its differences and not by how long its
states are, which grow with depth; and were all directions candidates, the first k common ones would be those that
explain the largest share of the differences that k directions can, in the mean over layers. Candidates are not centred
before the PCA: their mean is what layers have in common. A model of one layer gets DeTox's directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from detox_engine.study.method import MethodKind
from detox_engine.study.methods.detox import fit_subspace, fit_subspace_of

if TYPE_CHECKING:
    from torch import Tensor

    from detox_engine.study.subspace import ToxicSubspace


def find_common(subspaces: Sequence[ToxicSubspace], keep: int) -> tuple[ToxicSubspace, ...]:
    """The same directions for every layer, from what was fitted to each by itself.

    - Singular values are the same at every layer: their squares are the mean shares of the layers' differences that the
      directions explain, and in one number what is left.
    - The directions point where the layers' mean differences do, summed by the weights above.
    - The mean direction is the layer's own, off which only its candidates were kept.
    - The polarity is the layer's own: |mean| / rms of its differences along a common direction, which follow from its
      candidates' singular values and polarities, as far as these hold its differences; 0 where they hold nothing of it.
    """
    from dataclasses import replace

    import torch

    from detox_engine.study.subspace import decompose

    bases = [subspace.basis.double() for subspace in subspaces]
    weights = [_weigh(subspace) for subspace in subspaces]
    # T's rows sum to √pairs · Σ polarity · σ · v, since DeTox turns each v so that its own mean is positive.
    means = [subspace.polarity.double() * weight for subspace, weight in zip(subspaces, weights, strict=True)]
    candidates = torch.cat([weight[:, None] * basis for weight, basis in zip(weights, bases, strict=True)])
    values, common = decompose(candidates, keep)
    toward = sum(mean @ basis for mean, basis in zip(means, bases, strict=True))
    common = common * torch.where(common @ toward < 0, -1.0, 1.0)[:, None]
    explained = values[: len(common)] / len(subspaces) ** 0.5
    left = (1 - explained.square().sum()).clamp(min=0).sqrt()
    shared = {"basis": common.float().contiguous(), "singular_values": torch.cat([explained, left[None]]).float()}
    return tuple(
        replace(subspace, polarity=_find_polarity(common @ basis.T, weight, mean), **shared)
        for subspace, basis, weight, mean in zip(subspaces, bases, weights, means, strict=True)
    )


def _weigh(subspace: ToxicSubspace) -> Tensor:
    """`[kept]` float64 singular values as shares of the norm of the layer's differences."""
    values = subspace.singular_values.double()
    return values[: subspace.kept] / values.norm()


def _find_polarity(cosines: Tensor, weights: Tensor, means: Tensor) -> Tensor:
    """`[common]` float32.

    Args:
        cosines: `[common, kept]` of the common directions with the layer's own.
        weights: `[kept]` root mean squares of the differences along the layer's own directions, in some unit.
        means: `[kept]` their means, in the same unit; the differences along two of them do not correlate.
    """
    import torch

    spread = (cosines * weights).norm(dim=1)
    mean = (cosines @ means).abs()
    return torch.where(spread > 0, mean / spread, 0.0).clamp(max=1).float()


METHOD = MethodKind(
    name="gloss",
    title="GLOSS",
    sentence="the directions that the layers' own have in common, the same ones removed at every layer",
    fit=fit_subspace,
    fit_streamed=fit_subspace_of,
    across=find_common,
    place=4,
)
