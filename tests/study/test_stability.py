"""Bootstrap over pairs: planted directions stay where they are, noise turns, and more pairs settle a direction."""

import numpy
import pytest
import torch

from detox_engine.errors import Cancelled, InputError
from detox_engine.forward.embedded_pairs import Embeddings
from detox_engine.study.methods import fit_subspaces
from detox_engine.study.stability import STAGE, measure_stability
from detox_engine.study.subspace import centre, principal_angles
from tests.factor_model import draw_factor_sample


@pytest.fixture(autouse=True)
def one_core():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw_embeddings(*samples) -> Embeddings:
    return Embeddings(torch.stack([one.toxic for one in samples]), torch.stack([one.civil for one in samples]), 0, ())


def measure(embeddings: Embeddings, rank: int, keep: int = 6, **options):
    return measure_stability(embeddings, fit_subspaces(embeddings.toxic, embeddings.civil, keep), rank, **options)


@pytest.mark.parametrize("hidden", [48, 300])
def test_planted_layer_is_settled_and_a_layer_of_noise_is_not(hidden):
    planted, noise = (draw_factor_sample(rank, 200, hidden, 0.1) for rank in (2, 0))
    found = measure(draw_embeddings(planted, noise), rank=2)
    assert found.angles.shape == (2, 20)
    assert found.high[0] < 15
    assert found.median[1] > 50


def test_rank_beyond_the_planted_one_is_unsettled():
    embeddings = draw_embeddings(draw_factor_sample(2, 200, 64, 0.1))
    assert measure(embeddings, 2).high[0] < 15
    assert measure(embeddings, 3).median[0] > 45


def test_more_pairs_settle_a_direction():
    few, many = (measure(draw_embeddings(draw_factor_sample(1, pairs, 64, 0.5)), 1) for pairs in (50, 800))
    assert many.median[0] < few.median[0] / 2


def test_weighted_rows_equal_pairs_repeated_as_often_as_they_were_drawn():
    embeddings = draw_embeddings(draw_factor_sample(1, 30, 16, 0.3))
    subspaces = fit_subspaces(embeddings.toxic, embeddings.civil, 4)
    drawn = torch.from_numpy(numpy.random.default_rng((5, 0)).integers(0, 30, 30))
    repeated = centre(embeddings.toxic[0, drawn], embeddings.civil[0, drawn], subspaces[0].mean_direction.double())
    basis = torch.linalg.svd(repeated, full_matrices=False).Vh[:2]
    by_hand = principal_angles(basis, subspaces[0].basis[:2])[-1]
    found = measure_stability(embeddings, subspaces, 2, resamples=1, seed=5)
    torch.testing.assert_close(found.angles[0, 0], by_hand.float(), rtol=1e-4, atol=1e-4)


def test_same_seed_gives_the_same_angles_and_another_seed_others():
    embeddings = draw_embeddings(draw_factor_sample(1, 40, 32, 0.3))
    first, again, other = (measure(embeddings, 1, seed=seed, resamples=4) for seed in (0, 0, 1))
    assert torch.equal(first.angles, again.angles)
    assert not torch.equal(first.angles, other.angles)


def test_resample_with_too_few_distinct_pairs_has_lost_a_direction():
    embeddings = draw_embeddings(draw_factor_sample(1, 4, 32, 0.3))
    assert measure(embeddings, 4, keep=4).median[0] == 90


@pytest.mark.parametrize("rank", [0, 7])
def test_rank_outside_what_was_kept_is_an_input_error(rank):
    with pytest.raises(InputError, match="1 to 6"):
        measure(draw_embeddings(draw_factor_sample(1, 40, 32, 0.3)), rank)


def test_progress_counts_resamples_and_can_stop_them():
    embeddings = draw_embeddings(draw_factor_sample(1, 40, 32, 0.3))
    seen = []
    measure(embeddings, 1, resamples=3, progress=lambda *event: seen.append(event))
    resampled = [event[1:] for event in seen if event[0] == STAGE]
    assert resampled == [(0, 3), (1, 3), (2, 3), (3, 3)]

    def stop(stage, done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        measure(embeddings, 1, progress=stop)
