"""The paper's factor model as a synthetic world with a known answer, and who finds that answer in it.

An embedding is a mean part, a context part and, in toxic text only, toxic factors, plus noise (arXiv 2405.13967,
section 4.1):

    x⁺ᵢ = a⁺ᵢ μ + B fᵢ + B̃ f̃ᵢ + u⁺ᵢ        x⁻ᵢ = a⁻ᵢ μ + B fᵢ + u⁻ᵢ

A pair's difference cancels the context B fᵢ, centring takes out what a⁺ᵢ − a⁻ᵢ leaves along μ, and the singular value
decomposition averages the noise away.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from detox_engine.errors import InputError
from detox_engine.plans.lab.factors import MOST_CONTEXTS, MOST_FACTORS, Along, FactorPlan
from detox_engine.study.methods import detox, mean_difference
from detox_engine.study.noise.threshold import find_noise_threshold
from detox_engine.study.subspace import decompose, principal_angles

MEAN, CONTEXT = 20.0, 1.5
"""How far texts lie along μ, and the standard deviation of a context factor, in strengths of a toxic factor."""
JITTER = 0.1
"""By what share a text's place along μ differs from another's; alike on both sides of a pair."""
LENGTHS = (8, 24)
"""Tokens of a civil text, both ends included; every length is as frequent."""
RANDOM_DRAWS = 200
METHODS = ("detox", "uncentred", "mean-difference")
"""What is judged, in the order of `Recovery.angles` and `Curves.angles`."""
USUAL_VALUES: dict[Along, tuple[float, ...]] = {
    "pairs": (10, 20, 50, 100, 200, 500, 1000),
    "noise": (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.0),
    "flipped": (0.0, 0.1, 0.2, 0.3, 0.4, 0.45, 0.5),
}
"""What a curve runs through, unless a person asks for other values."""


@dataclass(frozen=True, eq=False)
class World:
    """Embeddings of pairs, and what they were made of."""

    plan: FactorPlan
    mean_direction: Tensor
    """`[hidden]` unit vector μ."""
    contexts: Tensor
    """`[contexts, hidden]` orthonormal rows: B."""
    planted: Tensor
    """`[factors, hidden]` orthonormal rows: B̃, the true toxic subspace."""
    toxic: Tensor
    """`[pairs, hidden]` float64: what is labelled toxic, so civil text where a label is flipped."""
    civil: Tensor
    """`[pairs, hidden]` float64."""
    flipped: Tensor
    """`[pairs]` whether the sides of a pair are swapped."""


@dataclass(frozen=True)
class Chance:
    """How far a random subspace lies from the planted one: its largest principal angle, in degrees."""

    mean: float
    low: float
    high: float
    """Ends of the range that holds 95 of 100 draws."""


@dataclass(frozen=True, eq=False)
class Recovery:
    """How far what is found lies from the planted subspace; all angles in degrees.

    Angles of subspaces are principal angles in rising order, as many as the smaller of both has directions. So with
    less rank than planted the last says whether what is found is toxic, with more whether all that is toxic is found.
    """

    detox: tuple[float, ...]
    uncentred: tuple[float, ...]
    """DeTox without centring."""
    mean_difference: float
    """Of one direction, the mean of the centred differences."""
    first_detox: float
    first_uncentred: float
    """Of the first direction alone."""
    uncentred_to_mean: float
    """Between the first direction without centring and the true mean direction μ: near 0 it follows the mean."""
    chance: Chance
    """Of random subspaces of the rank that DeTox found."""
    chance_of_one: Chance
    """Of one random direction, as the mean difference is one."""
    singular_values: Tensor
    """`[min(pairs, hidden)]` of the centred differences, in falling order."""
    uncentred_values: Tensor
    """`[min(pairs, hidden)]` of the differences as they are."""
    threshold: float
    """What a centred singular value must exceed to stand out from noise, as the engine tells it."""
    standing: int
    """How many do."""
    planted: int
    """The true rank."""

    @property
    def angles(self) -> tuple[tuple[float, ...], ...]:
        """Those of each of `METHODS`."""
        return self.detox, self.uncentred, (self.mean_difference,)


@dataclass(frozen=True, eq=False)
class Curves:
    """How far methods lie from the planted subspace in one world after another."""

    along: Along
    values: tuple[float, ...]
    angles: Tensor
    """`[methods, values, draws]` largest principal angle in degrees, methods in the order of `METHODS`."""
    chance: tuple[Chance, ...]
    """One a value, of random subspaces of the same rank."""


def draw_world(plan: FactorPlan) -> World:
    """A world of the plan; the same seed draws the same directions, factors and noise whatever their number or size.

    A toxic factor has as much mean as spread, and a root mean square of 1: f̃ = (1 + z) / √2 with z standard normal.
    A text's embedding is the mean over its tokens, so that a sink, which the first token alone has, enters it by one
    over the text's length: a = MEAN · (1 + jitter + sink / length), in toxic text plus `lean`. Flipping comes last and
    swaps the sides of pairs that are as they would be without it.
    """
    generator = torch.Generator().manual_seed(plan.seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def draw_lengths() -> Tensor:
        low, high = LENGTHS
        return torch.randint(low, high + 1, (plan.pairs,), generator=generator).double()

    # All directions and factors are drawn and some of them taken: more of them leave the others where they are.
    frame = torch.linalg.qr(normal(plan.hidden, 1 + MOST_FACTORS + MOST_CONTEXTS)).Q.T
    mean_direction, planted = frame[0], frame[1 : 1 + plan.factors]
    contexts = frame[1 + MOST_FACTORS :][: plan.contexts]
    context = CONTEXT * normal(plan.pairs, MOST_CONTEXTS)[:, : plan.contexts] @ contexts
    toxic_part = (1 + normal(plan.pairs, MOST_FACTORS)[:, : plan.factors]) / 2**0.5 @ planted
    place = 1 + JITTER * normal(plan.pairs)
    toxic_length, civil_length = (draw_lengths() * (1 + plan.longer)).round(), draw_lengths()
    toxic_place = MEAN * (place + plan.sink / toxic_length) + plan.lean
    civil_place = MEAN * (place + plan.sink / civil_length)
    toxic = torch.outer(toxic_place, mean_direction) + context + toxic_part + plan.noise * normal(*context.shape)
    civil = torch.outer(civil_place, mean_direction) + context + plan.noise * normal(*context.shape)

    flipped = torch.zeros(plan.pairs, dtype=torch.bool)
    flipped[torch.randperm(plan.pairs, generator=generator)[: round(plan.flipped * plan.pairs)]] = True
    swapped = flipped[:, None]
    return World(
        plan,
        mean_direction,
        contexts,
        planted,
        toxic=torch.where(swapped, civil, toxic),
        civil=torch.where(swapped, toxic, civil),
        flipped=flipped,
    )


def judge_world(world: World, rank: int) -> Recovery:
    """How close DeTox, DeTox without centring, the mean difference and chance come to the planted subspace.

    Raises:
        InputError: the rank is below 1, or both sides of the world do not differ.
    """
    if rank < 1:
        raise InputError(f"The rank must be 1 or more, not {rank}.")
    pairs, hidden = world.toxic.shape
    planted = len(world.planted)
    found = detox.fit_subspace(world.toxic, world.civil, rank)
    uncentred_values, uncentred = decompose(world.toxic - world.civil, rank)
    one = mean_difference.fit(world.toxic, world.civil, 1)
    threshold = find_noise_threshold(found.singular_values, pairs, hidden)
    return Recovery(
        detox=tuple(principal_angles(found.basis, world.planted).tolist()),
        uncentred=tuple(principal_angles(uncentred, world.planted).tolist()),
        mean_difference=principal_angles(one.basis, world.planted).item(),
        first_detox=principal_angles(found.basis[:1], world.planted).item(),
        first_uncentred=principal_angles(uncentred[:1], world.planted).item(),
        uncentred_to_mean=principal_angles(uncentred[:1], world.mean_direction[None]).item(),
        chance=measure_chance(hidden, found.kept, planted),
        chance_of_one=measure_chance(hidden, 1, planted),
        singular_values=found.singular_values,
        uncentred_values=uncentred_values.float(),
        threshold=threshold,
        standing=int((found.singular_values > threshold).sum()),
        planted=planted,
    )


@lru_cache(256)
def measure_chance(hidden: int, rank: int, planted: int, draws: int = RANDOM_DRAWS) -> Chance:
    """How far random subspaces of `rank` lie from one of `planted` directions; the same on every call.

    All directions are alike to a random subspace, so the planted ones may be the first axes.
    """
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(draws, hidden, rank, generator=generator, dtype=torch.float64)
    cosines = torch.linalg.svdvals(torch.linalg.qr(normal).Q[:, :planted])[:, -1].clamp(max=1)
    angles = torch.rad2deg(cosines.acos())
    low, high = angles.quantile(torch.tensor((0.025, 0.975), dtype=angles.dtype)).tolist()
    return Chance(angles.mean().item(), low, high)


def recover_over(plan: FactorPlan, along: Along, values: Sequence[float], draws: int = 5) -> Curves:
    """Worlds that differ from the plan's in one option, each drawn with `draws` seeds from the plan's own on.

    Raises:
        InputError: the plan cannot have one of the values, or there are no values or draws.
    """
    if not values or draws < 1:
        raise InputError("A curve needs a value and a draw: give one or more of both.")
    plans = [replace(plan, **{along: value}) for value in values]
    found = [
        [judge_world(draw_world(replace(one, seed=plan.seed + draw)), plan.rank) for draw in range(draws)]
        for one in plans
    ]
    angles = [[[each[-1] for each in recovery.angles] for recovery in drawn] for drawn in found]
    return Curves(
        along,
        tuple(values),
        torch.tensor(angles, dtype=torch.float64).permute(2, 0, 1),
        tuple(drawn[0].chance for drawn in found),
    )
