"""The paper's factor model has the answer that its theory says, and each method finds of it what theory says."""

import time
from dataclasses import replace
from math import asin, degrees

import numpy as np
import pytest
import torch

from detox_engine.errors import InputError
from detox_engine.lab.factor_model import (
    METHODS,
    USUAL_VALUES,
    draw_world,
    judge_world,
    measure_chance,
    recover_over,
)
from detox_engine.plans.lab.factors import FactorPlan
from detox_engine.study.methods.detox import fit_subspace
from detox_engine.study.subspace import centre, decompose, find_mean_direction, principal_angles

SEEDS = range(5)


def judge(**options):
    plan = FactorPlan(**options)
    return judge_world(draw_world(plan), plan.rank)


def test_a_world_is_made_of_the_parts_of_the_model():
    world = draw_world(FactorPlan(noise=0.0, factors=3, lean=2.0))
    parts = torch.cat([world.mean_direction[None], world.contexts, world.planted])
    assert torch.allclose(parts @ parts.T, torch.eye(1 + 8 + 3, dtype=parts.dtype), atol=1e-12)
    differences = world.toxic - world.civil
    # The pair's difference cancels the context; toxic factors have a root mean square of 1, a mean of √½.
    assert (differences @ world.contexts.T).abs().max() < 1e-9
    assert torch.allclose(differences @ world.mean_direction, torch.tensor(2.0, dtype=parts.dtype))
    factors = differences @ world.planted.T
    assert torch.allclose(factors.square().mean(0), torch.ones(3, dtype=parts.dtype), atol=0.2)
    assert torch.allclose(factors.mean(0), torch.full((3,), 0.5**0.5, dtype=parts.dtype), atol=0.1)
    assert (world.civil @ world.planted.T).abs().max() < 1e-9


def test_noise_is_as_large_as_asked_in_every_dimension_of_every_text():
    loud, still = (draw_world(FactorPlan(pairs=2000, noise=noise)) for noise in (0.5, 0.0))
    for side in ("toxic", "civil"):
        noise = getattr(loud, side) - getattr(still, side)
        assert noise.std().item() == pytest.approx(0.5, rel=0.02)


def test_the_same_seed_draws_the_same_factors_whatever_their_number():
    few, many = draw_world(FactorPlan(factors=1)), draw_world(FactorPlan(factors=5, contexts=0))
    assert torch.equal(few.planted[0], many.planted[0]) and torch.equal(few.mean_direction, many.mean_direction)
    for direction in (few.planted[0], few.mean_direction):
        assert torch.allclose(few.toxic @ direction, many.toxic @ direction, atol=1e-9)
    assert not torch.equal(few.planted, draw_world(FactorPlan(factors=1, seed=1)).planted)


def test_longer_texts_have_less_of_a_sink():
    options = {"noise": 0.0, "lean": 0.0, "sink": 50.0, "pairs": 1000}
    shift = {}
    for longer in (-0.5, 0.0, 0.5):
        world = draw_world(FactorPlan(longer=longer, **options))
        shift[longer] = ((world.toxic - world.civil) @ world.mean_direction).mean().item()
    # a = MEAN · sink / length, and a civil text's 1 / length is 0.07 on average.
    assert shift[-0.5] == pytest.approx(20 * 50 * 0.07, rel=0.15)
    assert abs(shift[0.0]) < 4
    assert shift[0.5] == pytest.approx(-20 * 50 * 0.07 / 3, rel=0.25)
    without = draw_world(FactorPlan(longer=0.5, **options | {"sink": 0.0}))
    assert ((without.toxic - without.civil) @ without.mean_direction).abs().max() < 1e-9


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_flipped_labels_swap_that_share_of_the_pairs_and_change_nothing_else(share):
    straight, flipped = draw_world(FactorPlan()), draw_world(FactorPlan(flipped=share))
    assert flipped.flipped.sum() == round(share * 500)
    rows = flipped.flipped
    assert torch.equal(flipped.toxic[rows], straight.civil[rows])
    assert torch.equal(flipped.civil[rows], straight.toxic[rows])
    assert torch.equal(flipped.toxic[~rows], straight.toxic[~rows])


@pytest.mark.parametrize("pairs", [40, 500])
def test_flipped_labels_leave_the_subspace_as_it_is_where_the_mean_direction_is_the_same(pairs):
    """Rows of T are negated, so TᵀT and its eigenvectors stay: exact to rounding, without centring and with one μ."""
    straight, flipped = draw_world(FactorPlan(pairs=pairs)), draw_world(FactorPlan(pairs=pairs, flipped=0.5))
    for mean_direction in (torch.zeros(64, dtype=torch.float64), straight.mean_direction):
        first, second = (
            decompose(centre(world.toxic, world.civil, mean_direction), 2) for world in (straight, flipped)
        )
        assert torch.allclose(first[0], second[0], rtol=1e-9, atol=1e-6)
        assert principal_angles(first[1], second[1]).max() < 1e-6


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("seed", SEEDS)
def test_flipped_labels_turn_the_subspace_no_further_than_the_change_of_the_mean_direction_allows(share, seed):
    """With S = TᵀT, which flipping leaves, and P = I − μμᵀ, what is decomposed is PSP. Then

    ‖PSP − P′SP′‖ = ‖(P − P′)SP + P′S(P − P′)‖ ≤ sin φ (‖SP‖ + ‖P′S‖), φ the angle between μ and μ′, and by
    Davis and Kahan (1970, the sin Θ theorem) sin θ ≤ ‖PSP − P′SP′‖ / (λ_rank(PSP) − λ_rank+1(P′SP′)).
    """
    plan = FactorPlan(noise=0.1, lean=1.0, seed=seed)
    worlds = [draw_world(plan), draw_world(replace(plan, flipped=share))]
    means = [find_mean_direction(world.civil) for world in worlds]
    left = [torch.eye(plan.hidden, dtype=torch.float64) - torch.outer(mean, mean) for mean in means]
    differences = worlds[0].toxic - worlds[0].civil
    gram = differences.T @ differences
    turn = torch.deg2rad(principal_angles(means[0][None], means[1][None])).sin().item()
    change = turn * sum(torch.linalg.matrix_norm(gram @ one, 2).item() for one in left)
    values = [torch.linalg.eigvalsh(one @ gram @ one).flip(0) for one in left]
    bound = change / (values[0][plan.rank - 1] - values[1][plan.rank]).item()
    bases = [fit_subspace(world.toxic, world.civil, plan.rank).basis for world in worlds]
    measured = principal_angles(*bases).max().item()
    assert turn > 1e-4, "flipping must move the mean direction, or the bound says nothing"
    assert 0 < bound < 1, "a bound of 90° would hold for anything"
    # Bases are float32: 1e-4 degrees of rounding.
    assert measured <= degrees(asin(bound)) + 1e-4
    # Differences lie in the span of μ and the planted directions but for noise, and what is found lies across μ in
    # it: as μ turns toward the planted directions, the subspace turns as far. The bound is some seven times that.
    assert measured == pytest.approx(degrees(asin(turn)), rel=0.05)


def test_flipped_labels_leave_detox_and_take_the_mean_difference():
    worlds = [{"noise": 0.6, "lean": 1.0, "pairs": 1000, "seed": seed} for seed in SEEDS]
    straight, flipped = ([judge(**options, flipped=share) for options in worlds] for share in (0.0, 0.5))
    for before, after in zip(straight, flipped, strict=True):
        assert after.detox[-1] == pytest.approx(before.detox[-1], abs=1.0)
        assert before.mean_difference < 15
    mean = np.mean([each.mean_difference for each in flipped])
    assert mean > straight[0].chance_of_one.low


def test_the_angle_falls_with_the_square_root_of_the_pairs():
    sizes = (200, 400, 800, 1600)
    curves = recover_over(FactorPlan(noise=0.2), "pairs", sizes, draws=8)
    angles = curves.angles[METHODS.index("detox")].mean(-1).numpy()
    slope = np.polyfit(np.log(sizes), np.log(angles), 1)[0]
    assert -0.65 < slope < -0.35


def test_the_angle_grows_with_the_noise():
    curves = recover_over(FactorPlan(), "noise", (0.05, 0.1, 0.2, 0.4, 0.8), draws=3)
    angles = curves.angles[METHODS.index("detox")].mean(-1)
    assert (angles.diff() > 0).all()
    # Where noise is small the angle is in proportion to it.
    assert (angles[2] / angles[1]).item() == pytest.approx(2, rel=0.15)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "in_the_way",
    [
        pytest.param({"lean": 6.0}, id="toxic text leans on the mean"),
        pytest.param({"lean": 0.0, "sink": 50.0, "longer": 0.5}, id="a sink, and toxic text is longer"),
        pytest.param({"lean": 0.0, "sink": 50.0, "longer": -0.5}, id="a sink, and toxic text is shorter"),
    ],
)
def test_without_centring_the_mean_takes_the_first_direction_and_with_it_not(in_the_way, seed):
    found = judge(seed=seed, noise=0.2, **in_the_way)
    assert found.first_uncentred > 70 and found.uncentred_to_mean < 20
    # What centring leaves of a strong shift is its size times how far the mean direction is mistaken.
    assert found.first_detox < 20 and found.detox[-1] < 20


@pytest.mark.parametrize("seed", SEEDS)
def test_where_nothing_is_in_the_way_centring_changes_nothing(seed):
    found = judge(seed=seed, lean=0.0, longer=0.5)
    assert found.first_uncentred == pytest.approx(found.first_detox, abs=0.5)


@pytest.mark.parametrize("factors", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", SEEDS)
def test_as_many_directions_stand_out_as_were_planted_where_noise_is_low(factors, seed):
    assert judge(factors=factors, noise=0.1, seed=seed).standing == factors


def test_no_direction_stands_out_of_noise_alone():
    count = []
    for seed in range(20):
        world = draw_world(FactorPlan(seed=seed))
        noise = torch.randn(500, 64, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        count.append(judge_world(replace(world, toxic=world.civil + noise), 2).standing)
    assert count.count(0) >= 19


def test_without_noise_the_planted_subspace_is_found_at_any_rank_asked():
    for rank in (1, 2, 3):
        found = judge(noise=0.0, lean=0.0, factors=3, rank=rank)
        assert len(found.detox) == rank and found.detox[-1] < 0.5


def test_chance_is_what_theory_says_of_one_direction():
    """The squared cosine between a random direction and a subspace is rank / hidden on average."""
    chance = measure_chance(64, 1, 2, draws=4000)
    assert chance.low < chance.mean < chance.high <= 90
    assert chance.mean == pytest.approx(degrees(np.arccos(np.sqrt(np.pi / 4 * 2 / 64))), abs=0.5)
    assert measure_chance(64, 2, 2).mean > measure_chance(64, 10, 2).mean


def test_a_curve_runs_through_the_values_and_draws_asked_for():
    plan = FactorPlan(seed=3)
    curves = recover_over(plan, "flipped", (0.0, 0.5), draws=2)
    assert curves.angles.shape == (3, 2, 2) and curves.values == (0.0, 0.5)
    alone = judge(seed=4, flipped=0.5)
    assert curves.angles[:, 1, 1].tolist() == pytest.approx(
        [alone.detox[-1], alone.uncentred[-1], alone.mean_difference]
    )


def test_a_world_and_a_curve_are_there_while_a_slider_moves():
    judge()
    start = time.perf_counter()
    judge(seed=1)
    world = time.perf_counter()
    for along, values in USUAL_VALUES.items():
        recover_over(FactorPlan(), along, values, draws=5)
    assert world - start < 0.25
    assert (time.perf_counter() - world) / len(USUAL_VALUES) < 2


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"pairs": 4}, "Pairs: a synthetic world takes 5 to 2000, not 4"),
        ({"flipped": 0.6}, "Share of flipped labels"),
        ({"noise": float("nan")}, "Noise"),
        ({"factors": 6}, "true rank"),
        ({"seed": -1}, "Seed: a synthetic world takes 0 or more"),
    ],
)
def test_a_world_that_cannot_be_is_said_in_a_sentence(wrong, told):
    with pytest.raises(InputError) as raised:
        FactorPlan(**wrong)
    assert told in str(raised.value)


def test_a_rank_or_curve_that_cannot_be_is_said_in_a_sentence():
    with pytest.raises(InputError, match="rank must be 1 or more"):
        judge_world(draw_world(FactorPlan()), 0)
    with pytest.raises(InputError, match="a value and a draw"):
        recover_over(FactorPlan(), "noise", ())
    with pytest.raises(InputError, match="Share of flipped labels"):
        recover_over(FactorPlan(), "flipped", (0.7,))
