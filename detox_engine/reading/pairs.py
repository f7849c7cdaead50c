"""Which pairs a direction sets apart, and whether they settle which of its poles is the toxic one."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from detox_engine.data.columns import Pair
from detox_engine.errors import Progress, ignore_progress
from detox_engine.forward.embed import tokenize
from detox_engine.forward.embedded_pairs import Embeddings
from detox_engine.forward.tokens import LensText, encode_text, project_rows
from detox_engine.model.load import OpenModel
from detox_engine.plans.fit import FitPlan
from detox_engine.study.subspace import ToxicSubspace

Entry = TypeVar("Entry")
SURE_FROM = 2.0
"""Standard errors that a mean must lie from zero for its sign to be known."""


class TellingPairs(NamedTuple, Generic[Entry]):
    """The pairs that say most about a direction."""

    most: tuple[Entry, ...]
    """Set apart most, the toxic text nearer to the toxic pole; the largest first."""
    least: tuple[Entry, ...]
    """Hardly set apart; the smallest first."""
    against: tuple[Entry, ...]
    """Set apart most the other way round, the toxic text nearer to the civil pole; the largest first."""

    @property
    def pairs(self) -> tuple[Entry, ...]:
        return self.most + self.least + self.against


@dataclass(frozen=True, eq=False)
class Separation:
    """How far apart the two sides of every pair lie along each kept direction of one layer."""

    differences: Tensor
    """`[pairs, kept]` float32: (toxic − civil)·v, above 0 where the toxic text lies nearer to the toxic pole."""

    agreeing: tuple[int, ...]
    """For each direction the pairs whose difference is above 0."""

    def rank_pairs(self, direction: int) -> list[tuple[int, float]]:
        """Every pair's index and its difference over their root mean square, the largest first."""
        column = self.differences[:, direction]
        times = column / column.square().mean().sqrt().clamp(min=1e-12)
        order = times.argsort(descending=True)
        return list(zip(order.tolist(), times[order].tolist(), strict=True))

    def pick_pairs(
        self, direction: int, most: int = 3, least: int = 2, against: int = 2
    ) -> TellingPairs[tuple[int, float]]:
        """At most so many of `rank_pairs` of each kind; none stands in two."""
        ranked = self.rank_pairs(direction)
        ends = [one for one in ranked[:most] if one[1] > 0], [one for one in ranked[::-1][:against] if one[1] < 0]
        rest = [one for one in ranked if one not in ends[0] and one not in ends[1]]
        rest.sort(key=lambda one: abs(one[1]))
        return TellingPairs(tuple(ends[0]), tuple(rest[:least]), tuple(ends[1]))


def separate_pairs(embeddings: Embeddings, layer: int, subspace: ToxicSubspace) -> Separation:
    """Every pair along every kept direction of `layer`, whose subspace is given.

    Centring would change nothing: the directions have no part along the mean direction.
    """
    differences = (embeddings.toxic[layer] - embeddings.civil[layer]) @ subspace.basis.T
    return Separation(differences, tuple((differences > 0).sum(0).tolist()))


def knows_poles(polarity: float, pairs: int) -> bool:
    """Whether the pole that is called toxic is so by more than chance.

    A polarity p = |mean| / rms over n pairs puts the mean p √(n − 1) / √(1 − p²) standard errors from 0.
    """
    return polarity * sqrt(max(0, pairs - 1)) > SURE_FROM * sqrt(max(0.0, 1 - polarity**2))


@dataclass(frozen=True, eq=False)
class CarriedText:
    """What each token adds to a text's place along a direction."""

    text: LensText
    projections: Tensor
    """`[tokens]` signed, of each token's own state."""
    contributions: Tensor
    """`[tokens]` the part of each in the sentence embedding's projection, which is their sum."""


def carry_pairs(
    model: OpenModel,
    pairs: Sequence[Pair],
    layer: int,
    direction: Tensor,
    plan: FitPlan,
    progress: Progress = ignore_progress,
) -> tuple[tuple[CarriedText, CarriedText], ...]:
    """For each pair, toxic side first: what each token adds to its place along `direction` `[hidden]` after `layer`.

    Texts are cut and pooled as `plan` says, so that contributions add up to the study's sentence embeddings.
    """
    longest = min(plan.max_length, model.context or plan.max_length)
    sides = [(pair.prompt, text) for pair in pairs for text in (pair.toxic_text, pair.civil_text)]
    pooled = [tokenize(model, prompt, text, longest, plan.pooling) for prompt, text in sides]
    found = project_rows(model, [(text.ids, None) for text in pooled], {layer: direction[None]}, progress)
    carried = []
    for (_, text), weighted, projections in zip(sides, pooled, found, strict=True):
        own = projections[0, :, 0]
        carried.append(CarriedText(encode_text(model, text, longest), own, own * torch.tensor(weighted.weights)))
    return tuple(zip(carried[0::2], carried[1::2], strict=True))
