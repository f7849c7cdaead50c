"""The noise threshold: ScreeNOT's own, planted ranks come back, noise has none, and no bound has to be chosen."""

import pytest
import torch

from detox_engine.forward.embedded_pairs import Embeddings
from detox_engine.study.fit import sum_moments
from detox_engine.study.methods import fit_subspaces, fit_subspaces_of
from detox_engine.study.noise.threshold import (
    count_dominant_directions,
    find_noise_threshold,
    find_noise_thresholds,
    screen,
)
from tests.study.noise.test_null_spectra import draw_samples

SAMPLES = 100


def count(embeddings: Embeddings, keep: int = 8) -> list[int]:
    _, pairs, hidden = embeddings.toxic.shape
    subspaces = fit_subspaces(embeddings.toxic, embeddings.civil, keep)
    return list(count_dominant_directions(subspaces, find_noise_thresholds(subspaces, pairs, hidden)))


def draw_noise(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("bound", [0, 1, 3, 10])
@pytest.mark.parametrize(("rows", "columns"), [(60, 60), (50, 90), (120, 40)])
def test_threshold_is_that_of_the_authors_package(rows, columns, bound):
    from screenot import adaptiveHardThresholding

    spread = torch.logspace(0, -1, columns, dtype=torch.float64)
    planted = torch.outer(draw_noise(rows, 1, 1)[:, 0], draw_noise(columns, 1, 2)[:, 0])
    matrix = draw_noise(rows, columns) * spread + 8 * planted
    _, expected, _ = adaptiveHardThresholding(matrix.numpy(), bound)
    shape = min(rows, columns) / max(rows, columns)
    assert screen(torch.linalg.svdvals(matrix), bound, shape) == pytest.approx(expected, abs=3e-5)


def test_threshold_of_white_noise_is_four_over_the_root_of_three():
    """Gavish and Donoho 2014, for a square matrix, in units of the noise times the root of its size."""
    values = torch.linalg.svdvals(draw_noise(400, 400)) / 400**0.5
    assert screen(values, 4, 1.0) == pytest.approx(4 / 3**0.5, rel=0.01)


@pytest.mark.parametrize("rank", [0, 1, 2, 5])
@pytest.mark.parametrize(
    ("pairs", "hidden", "noise"), [(80, 32, 0.02), (32, 50, 0.02), (200, 40, 0.3), (60, 120, 0.15)]
)
def test_planted_rank_stands_out_in_95_of_100_draws(rank, pairs, hidden, noise):
    assert count(draw_samples(rank, pairs, hidden, noise, SAMPLES)).count(rank) >= 95


@pytest.mark.parametrize("rank", [0, 1, 2, 5])
@pytest.mark.parametrize("along", ["pairs", "hidden", "both"])
def test_noise_that_differs_over_pairs_or_dimensions_is_no_direction(rank, along):
    quiet = draw_samples(rank, 200, 48, 0.02, SAMPLES)
    generator = torch.Generator().manual_seed(0)
    noise = 0.2 * torch.randn(quiet.toxic.shape, generator=generator)
    if along in ("pairs", "both"):
        noise *= 0.5 + torch.rand(SAMPLES, 200, 1, generator=generator)
    if along in ("hidden", "both"):
        noise *= 0.5 + torch.rand(SAMPLES, 1, 48, generator=generator)
    assert count(Embeddings(quiet.toxic + noise, quiet.civil, 0, ())).count(rank) >= 95


def test_a_direction_as_weak_as_the_edge_hides_none_of_those_before_it():
    found = count(draw_samples(5, 100, 200, 0.25, SAMPLES))
    assert min(found) >= 3 and max(found) == 5 and found.count(4) + found.count(5) >= 95


def test_a_spectrum_without_an_edge_has_a_number_that_no_bound_was_chosen_for():
    falling = torch.arange(1, 561).double().pow(-0.5)
    given = [int((falling > screen(falling, bound, 560 / 575)).sum()) for bound in (4, 8, 16, 32)]
    assert given == sorted(set(given)), "each bound gives a number of its own"
    assert (falling > find_noise_threshold(falling, 560, 576)).sum() <= 1
    broken = falling.clone()
    broken[:3] *= 3
    assert (broken > find_noise_threshold(broken, 560, 576)).sum() == 3


def test_every_bound_that_is_large_enough_gives_the_same_number_where_noise_has_an_edge():
    embeddings = draw_samples(3, 300, 120, 0.3, 1)
    values = fit_subspaces(embeddings.toxic, embeddings.civil, 8)[0].singular_values[:119]
    assert {int((values > screen(values, bound, 119 / 300)).sum()) for bound in (3, 5, 10, 20, 32)} == {3}
    assert (values > find_noise_threshold(values, 300, 120)).sum() == 3


def test_threshold_follows_the_scale_and_not_the_order_or_the_directions_kept():
    embeddings = draw_samples(5, 200, 64, 0.3, 1)
    few, many = (fit_subspaces(embeddings.toxic, embeddings.civil, keep) for keep in (3, 20))
    threshold = find_noise_threshold(many[0].singular_values, 200, 64)
    assert find_noise_thresholds(few, 200, 64) == (threshold,)
    assert count_dominant_directions(few, [threshold]) == (3,) and count_dominant_directions(many, [threshold]) == (5,)
    other = 1e-4 * many[0].singular_values.flip(0)
    assert find_noise_threshold(other, 200, 64) == pytest.approx(1e-4 * threshold, rel=1e-5)


def test_dimensions_that_are_left_out_change_nothing():
    embeddings = draw_samples(2, 300, 60, 0.3, 1)
    sides = (torch.cat([side, torch.zeros(1, 300, 4)], 2) for side in (embeddings.toxic, embeddings.civil))
    wider = Embeddings(*sides, 0, ())
    found = [
        find_noise_thresholds(fit_subspaces(one.toxic, one.civil, 4), 300, one.toxic.shape[2])[0]
        for one in (embeddings, wider)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_streamed_pairs_have_the_same_threshold():
    embeddings = draw_samples(2, 400, 48, 0.3, 3)
    at_once = fit_subspaces(embeddings.toxic, embeddings.civil, 6)
    streamed = fit_subspaces_of(sum_moments(embeddings), 6)
    found, expected = (find_noise_thresholds(subspaces, 400, 48) for subspaces in (streamed, at_once))
    assert found == pytest.approx(expected, rel=1e-4)
    assert count_dominant_directions(streamed, found) == (2, 2, 2)


@pytest.mark.parametrize("pairs", [1, 2, 3])
def test_too_few_pairs_to_tell_noise_by_have_no_direction_that_stands_out(pairs):
    assert count(draw_samples(1, pairs, 32, 0.1, 3), keep=32) == [0, 0, 0]
    assert find_noise_threshold(torch.zeros(4), 4, 8) == 0
