"""Do toxic and civil texts part? A linear probe of each layer's embeddings, cross-validated over whole pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.estimates import INTERVAL, Estimate
from detox_engine.forward.embedded_pairs import Embeddings

FOLDS = 5
RESAMPLES = 1000
PENALTY = 0.01
"""Inverse strength of the probe's L2 penalty, on features of unit variance. Embeddings have more dimensions than
there are pairs, where any labels can be separated: a strong penalty generalises better and converges fast."""


@dataclass(frozen=True)
class Separability:
    """How well a linear probe tells toxic from civil texts that it was not fitted on."""

    layer: int
    accuracy: Estimate
    """0.5 is chance."""
    auc: Estimate
    """Chance that a toxic text scores above a civil one, within a fold; 0.5 is chance."""


@dataclass(frozen=True, eq=False)
class SideHistogram:
    """Both sides along one direction, in shared bins."""

    edges: tuple[float, ...]
    """`[bins + 1]`."""
    toxic: tuple[int, ...]
    """`[bins]` texts."""
    civil: tuple[int, ...]


def split_pairs(pairs: int, folds: int = FOLDS, seed: int = 0) -> tuple[NDArray[np.int64], ...]:
    """Pair indices of each fold, drawn by `seed`: both texts of a pair are in the same fold.

    Raises:
        InputError: fewer than two pairs in a fold, or fewer than two folds.
    """
    if folds < 2:
        raise InputError(f"A probe is tested on pairs it has not seen: it needs 2 folds or more, not {folds}.")
    if pairs < 2 * folds:
        raise InputError(f"A probe in {folds} folds needs {2 * folds} pairs or more, and there are {pairs}: add pairs.")
    order = np.random.default_rng(seed).permutation(pairs)
    return tuple(np.sort(order[fold::folds]) for fold in range(folds))


def probe_layers(
    embeddings: Embeddings,
    layers: Sequence[int] | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> tuple[Separability, ...]:
    """Probe `layers` (all by default) of these embeddings; progress counts layers.

    For the effect of an edit probe the edited model's embeddings too: with the same seed the folds are the same.
    """
    layers = range(len(embeddings.toxic)) if layers is None else layers
    found = []
    for layer in layers:
        progress("Probing layers", len(found), len(layers))
        found.append(probe_layer(layer, embeddings.toxic[layer], embeddings.civil[layer], folds, seed))
    progress("Probing layers", len(layers), len(layers))
    return tuple(found)


def probe_layer(layer: int, toxic: Tensor, civil: Tensor, folds: int = FOLDS, seed: int = 0) -> Separability:
    """Probe one layer's embeddings `[pairs, hidden]`; row i of `civil` is the twin of row i of `toxic`.

    Logistic regression on features of unit variance, fitted afresh for each fold on the pairs outside of it. The
    95 % intervals resample pairs within folds: they hold the luck of the texts, not that of the fits.
    """
    parts = split_pairs(len(toxic), folds, seed)
    states = np.stack([toxic.numpy(), civil.numpy()]).astype(np.float64)
    if not np.isfinite(states).all():
        raise InputError(f"The embeddings of layer {layer} hold NaN or infinity: fit the study again.")
    scores = np.empty(states.shape[:2])
    for part in parts:
        scores[:, part] = _score_fold(states, part)
    return Separability(layer, *_estimate(scores, parts, seed))


def _score_fold(states: NDArray, tested: NDArray) -> NDArray:
    """Decision values `[sides, tested]` of a probe fitted on all other pairs of `states` `[sides, pairs, hidden]`."""
    # Half a second to import, and only probes need it.
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    fitted = np.delete(states, tested, axis=1)
    features = fitted.reshape(-1, fitted.shape[-1])
    mean, deviation = features.mean(0), features.std(0)
    scale = np.where(deviation > 1e-12 * np.abs(mean), deviation, np.inf)
    features = (features - mean) / scale
    others = (states[:, tested] - mean) / scale
    labels = np.repeat([1, 0], fitted.shape[1])
    # Its many small products are done sooner by one core than by several that wait for one another.
    with threadpool_limits(1):
        probe = LogisticRegression(C=PENALTY, max_iter=1000).fit(features, labels)
    return others @ probe.coef_[0] + probe.intercept_[0]


def _estimate(scores: NDArray, parts: Sequence[NDArray], seed: int) -> tuple[Estimate, Estimate]:
    """Accuracy and AUC, means over folds weighted by their pairs, from decision values `[sides, pairs]`.

    With w the number of times each pair of a fold is drawn, both are forms in w: the accuracy is linear and the AUC
    is wᵀ C w / (Σw)² for C[i, j] = 1 where toxic text i scores above civil text j (½ where equal).
    """
    generator = np.random.default_rng([seed, 1])
    correct = ((scores[0] > 0).astype(float) + (scores[1] <= 0)) / 2
    means = np.zeros((2, RESAMPLES + 1))
    for part in parts:
        count = len(part)
        weights = generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
        weights = np.vstack([np.ones(count), weights])
        margins = scores[0, part][:, None] - scores[1, part]
        wins = (margins > 0) + (margins == 0) / 2
        share = count / scores.shape[1]
        means[0] += share * weights @ correct[part] / count
        means[1] += share * ((weights @ wins) * weights).sum(1) / count**2
    bounds = np.percentile(means[:, 1:], INTERVAL, axis=1)
    return tuple(
        Estimate(float(means[row, 0]), float(bounds[0, row]), float(bounds[1, row]), scores.shape[1])
        for row in range(2)
    )


def measure_parting(toxic: Tensor, civil: Tensor, direction: Tensor) -> float:
    """How far the sides' means lie apart along a direction, in sums of the sides' standard deviations there."""
    first, second = project_sides(toxic, civil, direction)
    return abs(float((first.mean() - second.mean()) / (first.std() + second.std() + 1e-12)))


def find_parting_layer(embeddings: Embeddings, directions: Sequence[Tensor]) -> int:
    """The layer whose direction, `[layers][hidden]`, sets the sides apart best; of these very texts."""
    return max(
        range(len(directions)),
        key=lambda layer: measure_parting(embeddings.toxic[layer], embeddings.civil[layer], directions[layer]),
    )


def project_sides(toxic: Tensor, civil: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """`[pairs]` projections of both sides' embeddings `[pairs, hidden]` on a unit `direction` `[hidden]`."""
    return toxic.float() @ direction.float(), civil.float() @ direction.float()


def count_projections(sides: Sequence[tuple[Tensor, Tensor]], bins: int = 40) -> tuple[SideHistogram, ...]:
    """A histogram for each (toxic, civil) of `sides`, such as before and after an edit, all in the same bins."""
    if bins < 1:
        raise InputError(f"A histogram needs 1 bin or more, not {bins}.")
    everything = torch.cat([side for pair in sides for side in pair]).double().numpy()
    edges = np.histogram_bin_edges(everything, bins)

    def count(side: Tensor) -> tuple[int, ...]:
        return tuple(np.histogram(side.double().numpy(), edges)[0].tolist())

    return tuple(SideHistogram(tuple(edges.tolist()), count(toxic), count(civil)) for toxic, civil in sides)
