"""Centre, decompose, orient: the subspace is the planted one, and the numbers are those of a float64 SVD."""

import pytest
import torch

from detox_engine.errors import Cancelled, InputError
from detox_engine.study.methods import fit_subspaces
from detox_engine.study.methods.detox import fit_subspace
from detox_engine.study.subspace import centre, decompose, find_mean_direction, principal_angles
from tests.factor_model import draw_factor_sample


@pytest.mark.parametrize("rank", [1, 2, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_subspace_is_recovered_within_a_degree(rank, seed):
    sample = draw_factor_sample(rank, noise=0.02, seed=seed)
    subspace = fit_subspace(sample.toxic, sample.civil, keep=8)
    assert principal_angles(subspace.basis[:rank], sample.planted).max() < 1.0
    uncentred = torch.linalg.svd(sample.toxic.double(), full_matrices=False).Vh[:rank]
    assert principal_angles(uncentred, sample.planted).max() > 45.0


def test_mean_direction_is_the_one_that_civil_texts_share():
    sample = draw_factor_sample(2)
    subspace = fit_subspace(sample.toxic, sample.civil, keep=4)
    assert principal_angles(subspace.mean_direction[None], sample.mean_direction[None]).max() < 1.0
    assert (sample.civil @ subspace.mean_direction).mean() > 0
    assert (subspace.basis @ subspace.mean_direction).abs().max() < 1e-5


def test_centring_matters():
    sample = draw_factor_sample(1, strength=0.3)
    differences = (sample.toxic - sample.civil).double()
    uncentred = torch.linalg.svd(differences, full_matrices=False).Vh[:1]
    centred = fit_subspace(sample.toxic, sample.civil, keep=1).basis
    assert principal_angles(centred, sample.planted).max() < 5.0
    assert principal_angles(uncentred, sample.planted).max() > 20.0


@pytest.mark.parametrize("shape", [(40, 96), (96, 96), (300, 96), (2, 96)])
def test_singular_values_and_vectors_equal_a_float64_svd(shape):
    pairs, hidden = shape
    generator = torch.Generator().manual_seed(3)
    # A spectrum that falls over five decades, where the square of a Gram matrix in float32 would be all rounding.
    falling = torch.logspace(0, -5, min(shape), dtype=torch.float64)
    left = torch.linalg.qr(torch.randn(pairs, min(shape), generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(hidden, min(shape), generator=generator, dtype=torch.float64)).Q
    matrix = left * falling @ right.T
    values, basis = decompose(matrix, keep=8)
    reference = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(values, reference.S, rtol=1e-4, atol=0)
    for row, expected in zip(basis, reference.Vh, strict=False):
        assert principal_angles(row[None], expected[None]).max() < 0.1
    torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis), dtype=torch.float64), rtol=0, atol=1e-9)


def test_directions_point_toward_toxic_text_whatever_the_sign_of_the_svd():
    sample = draw_factor_sample(1)
    subspace = fit_subspace(sample.toxic, sample.civil, keep=1)
    turned = fit_subspace(sample.civil, sample.toxic, keep=1)
    for found, first, second in ((subspace, sample.toxic, sample.civil), (turned, sample.civil, sample.toxic)):
        projections = (first - second) @ found.basis.T
        assert (projections.mean(0) > 0).all()
    assert (subspace.basis @ sample.planted.float().T).diagonal().min() > 0.99
    assert (turned.basis @ sample.planted.float().T).diagonal().max() < -0.99


def test_polarity_tells_between_the_sides_from_within_toxic_text():
    generator = torch.Generator().manual_seed(0)
    pairs, hidden = 400, 32
    civil = torch.randn(pairs, hidden, generator=generator) * 0.01
    civil[:, 0] += 10
    toxic = civil.clone()
    toxic[:, 1] += 3 + 0.1 * torch.randn(pairs, generator=generator)
    toxic[:, 2] += 2 * torch.randn(pairs, generator=generator)
    subspace = fit_subspace(toxic, civil, keep=2)
    assert subspace.polarity[0] > 0.99
    assert subspace.polarity[1] < 0.2
    projections = (toxic - civil) @ subspace.basis.T
    by_hand = projections.mean(0).abs() / projections.square().mean(0).sqrt()
    torch.testing.assert_close(subspace.polarity, by_hand, rtol=1e-3, atol=1e-4)


def test_flipped_labels_leave_the_subspace_as_it_was():
    sample = draw_factor_sample(2)
    flipped = torch.rand(len(sample.toxic), generator=torch.Generator().manual_seed(1)) < 0.5
    assert flipped.float().mean() > 0.4
    toxic = torch.where(flipped[:, None], sample.civil, sample.toxic)
    civil = torch.where(flipped[:, None], sample.toxic, sample.civil)
    mean_direction = find_mean_direction(sample.civil)
    straight_values, straight_basis = decompose(centre(sample.toxic, sample.civil, mean_direction), 2)
    flipped_values, flipped_basis = decompose(centre(toxic, civil, mean_direction), 2)
    torch.testing.assert_close(flipped_values, straight_values, rtol=1e-9, atol=1e-9)
    assert principal_angles(flipped_basis, straight_basis).max() < 1e-6
    # Flipping also moves the mean direction a little, and takes the meaning out of the poles.
    straight, noisy = fit_subspace(sample.toxic, sample.civil, keep=2), fit_subspace(toxic, civil, keep=2)
    assert principal_angles(noisy.basis, straight.basis).max() < 3.0
    assert noisy.polarity[0] < 0.3 < straight.polarity[0]


def test_shares_of_variance_sum_to_one_and_follow_the_singular_values():
    sample = draw_factor_sample(2)
    subspace = fit_subspace(sample.toxic, sample.civil, keep=2)
    assert len(subspace.singular_values) == 96
    assert subspace.shares.sum().item() == pytest.approx(1)
    ratio = (subspace.singular_values[0] / subspace.singular_values[1]).square()
    assert (subspace.shares[0] / subspace.shares[1]).item() == pytest.approx(ratio.item(), rel=1e-4)


def test_directions_that_are_only_rounding_are_not_kept():
    sample = draw_factor_sample(1, pairs=6)
    assert fit_subspace(sample.toxic, sample.civil, keep=32).kept == 6
    centred = centre(sample.toxic, sample.civil, find_mean_direction(sample.civil))
    assert len(decompose(torch.cat([centred, centred]), keep=32)[1]) == 6


def test_sides_that_do_not_differ_are_an_input_error():
    civil = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="same embeddings"):
        fit_subspace(civil.clone(), civil, keep=4)


def test_every_layer_is_fitted_and_a_fit_can_be_stopped():
    samples = [draw_factor_sample(1, pairs=20, seed=seed) for seed in range(3)]
    toxic, civil = (torch.stack([getattr(sample, side) for sample in samples]) for side in ("toxic", "civil"))
    seen = []
    subspaces = fit_subspaces(toxic, civil, 4, lambda *event: seen.append(event))
    assert [event[1:] for event in seen] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    for subspace, sample in zip(subspaces, samples, strict=True):
        # A layer among others lies elsewhere in memory, where a product may be summed in another order.
        alone = fit_subspace(sample.toxic, sample.civil, 4)
        torch.testing.assert_close(subspace.singular_values[:4], alone.singular_values[:4])
        torch.testing.assert_close(subspace.basis, alone.basis, rtol=1e-4, atol=1e-4)

    def stop(stage, done, total):
        if done == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        fit_subspaces(toxic, civil, 4, stop)


def test_principal_angles_are_exact_for_small_and_large_angles():
    for degrees in (0.0, 1e-5, 0.5, 30.0, 60.0, 90.0):
        angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
        first = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.float64)
        second = torch.stack([torch.cos(angle) * first[0] + torch.sin(angle) * torch.eye(4)[2], first[1]])
        found = principal_angles(first, second)
        torch.testing.assert_close(found, torch.tensor([0.0, degrees], dtype=torch.float64), rtol=1e-6, atol=1e-9)
