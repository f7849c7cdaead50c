"""Moments give the subspace that all the pairs together would give, to rounding, and add up."""

import pytest
import torch

from detox_engine.errors import InputError
from detox_engine.study.methods import fit_subspaces_of
from detox_engine.study.methods.detox import fit_subspace, fit_subspace_of
from detox_engine.study.moments import Moments, load_moments, save_moments
from detox_engine.study.subspace import principal_angles
from tests.factor_model import draw_factor_sample


def sum_up(toxic, civil, chunk: int = 64) -> Moments:
    moments = Moments.empty(toxic.shape[1])
    for start in range(0, len(toxic), chunk):
        moments.add(toxic[start : start + chunk], civil[start : start + chunk])
    return moments


def draw_steep(pairs: int, hidden: int, decades: float, lean: float) -> tuple:
    """Both sides, with differences whose spectrum falls over `decades`, and `lean` times as large along the mean."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    right = torch.linalg.qr(normal(hidden, hidden)).Q
    falling = torch.logspace(0, -decades, hidden - 1, dtype=torch.float64)
    differences = (normal(pairs, hidden - 1) + 0.5) * falling @ right[:, 1:].T + lean * normal(pairs, 1) * right[:, 0]
    civil = 40 * right[:, 0] + 0.01 * normal(pairs, hidden)
    civil = civil.float()
    return (civil + differences.float()), civil


@pytest.mark.parametrize("lean", [0, 1, 30])
@pytest.mark.parametrize("decades", [1, 4])
def test_streamed_subspaces_equal_a_float64_svd_of_all_pairs(decades, lean):
    toxic, civil = draw_steep(1500, 64, decades, lean)
    streamed = fit_subspace_of(sum_up(toxic, civil), keep=48)
    wide = civil.double()
    mean_direction = torch.linalg.svd(wide, full_matrices=False).Vh[0]
    differences = toxic.double() - wide
    centred = differences - torch.outer(differences @ mean_direction, mean_direction)
    reference = torch.linalg.svd(centred, full_matrices=False)
    assert principal_angles(streamed.mean_direction[None], mean_direction[None]).max() < 0.1
    torch.testing.assert_close(streamed.singular_values[:-1].double(), reference.S[:-1], rtol=1e-4, atol=0)
    assert streamed.kept == 48
    for rank in (1, 2, 8, 48):
        assert principal_angles(streamed.basis[:rank], reference.Vh[:rank]).max() < 0.1
    projections = centred @ streamed.basis.double().T
    assert (projections.mean(0) >= 0).all()
    by_hand = projections.mean(0) / projections.square().mean(0).sqrt()
    torch.testing.assert_close(streamed.polarity.double(), by_hand, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("pairs", "hidden"), [(500, 96), (60, 96), (2, 16)])
def test_moments_give_what_the_direct_way_gives_with_more_and_with_fewer_pairs_than_dimensions(pairs, hidden):
    sample = draw_factor_sample(2, pairs, hidden)
    streamed = fit_subspace_of(sum_up(sample.toxic, sample.civil, 7), keep=8)
    direct = fit_subspace(sample.toxic, sample.civil, keep=8)
    assert streamed.kept == direct.kept
    assert len(streamed.singular_values) == len(direct.singular_values)
    torch.testing.assert_close(streamed.basis, direct.basis, rtol=0, atol=1e-4)
    torch.testing.assert_close(streamed.polarity, direct.polarity, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(streamed.mean_direction, direct.mean_direction, rtol=0, atol=1e-5)


def test_moments_of_two_parts_add_up_to_those_of_the_whole():
    sample = draw_factor_sample(2, 300, 40)
    first, second = (sum_up(sample.toxic[part], sample.civil[part]) for part in (slice(0, 110), slice(110, 300)))
    before = first.differences.clone()
    both, whole = first + second, sum_up(sample.toxic, sample.civil)
    assert int(both.count) == 300 and torch.equal(first.differences, before)
    for name in ("civil", "civil_sum", "differences", "differences_sum"):
        torch.testing.assert_close(getattr(both, name), getattr(whole, name), rtol=1e-12, atol=1e-9)
    assert torch.equal(both.loudest, whole.loudest)


def test_the_loudest_differences_are_kept_and_no_others():
    sample = draw_factor_sample(1, 200, 30)
    moments = sum_up(sample.toxic, sample.civil, 9)
    norms = (sample.toxic - sample.civil).norm(dim=1).sort(descending=True).values
    torch.testing.assert_close(moments.loudest.norm(dim=1), norms[:15])


def test_directions_that_are_only_rounding_are_not_kept():
    toxic, civil = draw_steep(400, 32, 1, 100)
    flat = torch.linalg.svd((toxic - civil).double(), full_matrices=False)
    few = civil + (flat.U[:, :4] * flat.S[:4] @ flat.Vh[:4]).float()
    assert fit_subspace_of(sum_up(few, civil), keep=32).kept <= 5


def test_sides_that_do_not_differ_are_an_input_error():
    civil = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="same embeddings"):
        fit_subspace_of(sum_up(civil.clone(), civil), keep=4)
    with pytest.raises(InputError, match="embeddings of zero"):
        fit_subspace_of(sum_up(civil, torch.zeros(8, 16)), keep=4)


def test_moments_read_back_as_they_were_written(tmp_path):
    sample = draw_factor_sample(1, 50, 24)
    moments = (sum_up(sample.toxic, sample.civil), sum_up(sample.toxic[:9], sample.civil[:9]))
    save_moments(moments, tmp_path / "moments.safetensors")
    again = load_moments(tmp_path / "moments.safetensors", 2)
    for first, second, subspace in zip(moments, again, fit_subspaces_of(again, 4), strict=True):
        assert all(torch.equal(getattr(first, name), getattr(second, name)) for name in vars(first))
        # What is read lies elsewhere in memory, where a product may be summed in another order.
        assert principal_angles(subspace.basis[:1], fit_subspace_of(first, 4).basis[:1]).max() < 1e-3
        torch.testing.assert_close(subspace.singular_values[:4], fit_subspace_of(first, 4).singular_values[:4])
