import pytest
import torch

from detox_engine.errors import InputError
from detox_engine.study.methods.fisher import FisherOptions, fit, fit_streamed
from detox_engine.study.methods.mean_difference import fit as fit_mean
from detox_engine.study.moments import Moments
from tests.factor_model import draw_factor_sample


def sum_up(toxic, civil) -> Moments:
    moments = Moments.empty(toxic.shape[1])
    moments.add(toxic, civil)
    return moments


def spread(hidden: int, loud: int) -> torch.Tensor:
    """A covariance in which one dimension varies a hundred times as much as the others."""
    variances = torch.ones(hidden, dtype=torch.float64)
    variances[loud] = 100
    return variances.diag()


def test_the_direction_solves_the_shrunken_covariance():
    sample = draw_factor_sample(1, 60, 16)
    noise = torch.randn(200, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    covariance = torch.cov(noise.T)
    found = fit(sample.toxic, sample.civil, 8, covariance, 0.3)
    shrunken = 0.7 * covariance + 0.3 * covariance.diagonal().mean() * torch.eye(16, dtype=torch.float64)
    differences = (sample.toxic - sample.civil).double()
    expected = torch.linalg.inv(shrunken) @ differences.mean(0)
    expected = expected / expected.norm()
    torch.testing.assert_close(found.basis[0].double(), expected, rtol=0, atol=1e-5)
    along = differences @ expected
    assert found.kept == 1 and float(found.singular_values[0]) == pytest.approx(float(along.norm()), rel=1e-5)
    assert found.shares.sum() == pytest.approx(1, abs=1e-6)
    assert float(found.polarity[0]) == pytest.approx(float(along.mean() / along.square().mean().sqrt()), rel=1e-5)


def test_what_varies_much_in_civil_text_weighs_less_than_in_the_mean_difference():
    generator = torch.Generator().manual_seed(0)
    civil = torch.randn(80, 12, generator=generator)
    toxic = civil + torch.eye(12)[0] + torch.eye(12)[5]
    loud = spread(12, loud=5)
    plain = fit_mean(toxic, civil, 1).basis[0]
    assert abs(plain[5]) > 0.5
    found = fit(toxic, civil, 1, loud, 0.1).basis[0]
    assert abs(found[5]) < 0.1 and found[0] > 0.99
    # With nothing left of the covariance it is the mean difference, uncentred.
    whole = fit(toxic, civil, 1, loud, 1.0).basis[0]
    mean = (toxic - civil).mean(0)
    torch.testing.assert_close(whole, mean / mean.norm(), rtol=0, atol=1e-5)


def test_dimensions_that_were_taken_out_stay_out():
    sample = draw_factor_sample(1, 40, 10)
    toxic, civil = sample.toxic.clone(), sample.civil.clone()
    toxic[:, 3] = civil[:, 3] = 0
    covariance = torch.eye(10, dtype=torch.float64)
    covariance[3, 3] = 0
    assert fit(toxic, civil, 1, covariance, 0.5).basis[0, 3] == 0


@pytest.mark.parametrize(("pairs", "hidden"), [(200, 32), (20, 32)])
def test_moments_give_what_the_direct_way_gives(pairs: int, hidden: int):
    sample, covariance = draw_factor_sample(2, pairs, hidden), spread(hidden, 4)
    direct = fit(sample.toxic, sample.civil, 4, covariance, 0.5)
    streamed = fit_streamed(sum_up(sample.toxic, sample.civil), 4, covariance, 0.5)
    for name in ("basis", "mean_direction", "polarity", "singular_values"):
        torch.testing.assert_close(getattr(streamed, name), getattr(direct, name), rtol=1e-3, atol=1e-4)


def test_sides_of_one_mean_and_a_shrinkage_outside_are_refused():
    civil = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    eye = torch.eye(8, dtype=torch.float64)
    with pytest.raises(InputError, match="same mean embedding"):
        fit(civil, civil, 1, eye, 0.5)
    with pytest.raises(InputError, match="same mean embedding"):
        fit_streamed(sum_up(civil, civil), 1, eye, 0.5)
    with pytest.raises(InputError, match="shrinkage lies above 0"):
        FisherOptions(0.0)
