"""Where the toxic subspace is settled: how far it turns when other pairs of the same kind are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.forward.embedded_pairs import Embeddings
from detox_engine.model.threads import run_side_by_side
from detox_engine.study.subspace import ToxicSubspace, centre, decompose, principal_angles

STAGE = "Resampling pairs"


@dataclass(frozen=True, eq=False)
class Stability:
    """How far the leading directions of each layer turn between bootstrap resamples of the pairs and all pairs."""

    rank: int
    """The number of directions that the subspaces have."""

    angles: Tensor
    """`[layers, resamples]` the largest principal angle, in degrees: 0 where nothing moves, 90 where a direction
    of the one subspace is missing in the other."""

    @property
    def median(self) -> Tensor:
        """`[layers]` in degrees."""
        return self.angles.quantile(0.5, dim=1)

    @property
    def high(self) -> Tensor:
        """`[layers]` the 90th percentile over the resamples, in degrees."""
        return self.angles.quantile(0.9, dim=1)


def measure_stability(
    embeddings: Embeddings,
    subspaces: Sequence[ToxicSubspace],
    rank: int,
    resamples: int = 20,
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> Stability:
    """Bootstrap over pairs: DeTox's subspace of `rank` directions of every layer, from pairs drawn with replacement.

    All layers share a resample's pairs. The mean direction stays that of all pairs: it rests on every civil text
    and hardly moves. Progress counts resamples.

    Raises:
        InputError: `rank` is below 1 or above what every layer kept, or there is no resample.
    """
    kept = min(subspace.kept for subspace in subspaces)
    if not 1 <= rank <= kept:
        raise InputError(f"The rank must be 1 to {kept}, which every layer kept, not {rank}.")
    if resamples < 1:
        raise InputError(f"A bootstrap needs 1 resample or more, not {resamples}; 20 are usual.")
    pairs = embeddings.toxic.shape[1]

    def resample(draw: int) -> Tensor:
        drawn = numpy.random.default_rng((seed, draw)).integers(0, pairs, pairs)
        weights = torch.from_numpy(numpy.bincount(drawn, minlength=pairs))
        return torch.stack(
            [_turn(embeddings, layer, subspace, rank, weights) for layer, subspace in enumerate(subspaces)]
        )

    return Stability(rank, torch.stack(run_side_by_side(resample, resamples, STAGE, progress), dim=1))


def _turn(embeddings: Embeddings, layer: int, subspace: ToxicSubspace, rank: int, weights: Tensor) -> Tensor:
    """The largest principal angle, in degrees, between a layer's subspace and that of pairs with these weights."""
    drawn = weights.nonzero()[:, 0]
    toxic, civil = embeddings.toxic[layer, drawn], embeddings.civil[layer, drawn]
    # A pair that is drawn w times counts as one row times √w in the Gram matrix; a third of the rows drop out.
    differences = centre(toxic, civil, subspace.mean_direction.double())
    basis = decompose(differences * weights[drawn, None].sqrt(), rank)[1]
    if len(basis) < rank:
        return torch.tensor(90.0)
    return principal_angles(basis, subspace.basis[:rank])[-1].float()
