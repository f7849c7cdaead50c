import pytest
import torch

from detox_engine.errors import InputError
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import PairSpec
from detox_engine.study.methods.mean_difference import fit, fit_streamed
from detox_engine.study.moments import Moments
from detox_engine.workbench import Workbench
from tests.factor_model import draw_factor_sample
from tests.models import open_tiny


def sum_up(toxic, civil) -> Moments:
    moments = Moments.empty(toxic.shape[1])
    moments.add(toxic, civil)
    return moments


def test_the_direction_is_the_mean_of_the_centred_differences():
    sample = draw_factor_sample(2, 40, 16)
    found = fit(sample.toxic, sample.civil, 8)
    differences = (sample.toxic - sample.civil).double()
    mean_direction = torch.linalg.svd(sample.civil.double(), full_matrices=False).Vh[0]
    centred = differences - torch.outer(differences @ mean_direction, mean_direction)
    mean = centred.mean(0)
    assert found.kept == 1
    torch.testing.assert_close(found.basis[0].double(), mean / mean.norm(), rtol=0, atol=1e-5)
    # The direction's share and what is left account for all of the differences.
    assert found.shares.sum() == pytest.approx(1, abs=1e-5) and len(found.singular_values) == 2
    assert found.singular_values.double().square().sum() == pytest.approx(float(centred.square().sum()), rel=1e-5)
    along = centred @ (mean / mean.norm())
    assert float(found.polarity[0]) == pytest.approx(float(along.mean() / along.square().mean().sqrt()), rel=1e-4)


@pytest.mark.parametrize(("pairs", "hidden"), [(200, 32), (20, 32)])
def test_moments_give_what_the_direct_way_gives(pairs: int, hidden: int):
    sample = draw_factor_sample(2, pairs, hidden)
    direct = fit(sample.toxic, sample.civil, 4)
    streamed = fit_streamed(sum_up(sample.toxic, sample.civil), 4)
    for name in ("basis", "mean_direction", "polarity"):
        torch.testing.assert_close(getattr(streamed, name), getattr(direct, name), rtol=1e-3, atol=1e-4)
    largest = float(direct.singular_values[0])
    torch.testing.assert_close(streamed.singular_values, direct.singular_values, rtol=1e-3, atol=1e-4 * largest)


def test_sides_of_one_mean_are_refused():
    civil = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="same mean embedding"):
        fit(civil, civil, 1)
    with pytest.raises(InputError, match="same mean embedding"):
        fit_streamed(sum_up(civil, civil), 1)


def test_a_study_has_one_direction_of_it_a_layer_that_can_be_edited_and_extended():
    bench = Workbench(open_tiny("gpt2"))
    study = bench.fit(FitPlan(PairSpec(limit=12)))
    assert study.kept_of("mean-difference") == 1 < study.kept
    edit = bench.edit(study, EditPlan((1, 2), 1, method="mean-difference"))
    torch.testing.assert_close(edit.bases[2], study.of("mean-difference")[2].basis)
    with pytest.raises(InputError, match="rank 2 is above the 1 direction"):
        bench.edit(study, EditPlan((1, 2), 2, method="mean-difference"))
    extended = bench.extend(study, PairSpec(limit=6, seed=1))
    assert extended.kept_of("mean-difference") == 1 and extended.pair_count == 18
