"""Parallel analysis with deflation: planted ranks come back, noise has none, and the chart agrees with the number."""

from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest
import torch

from detox_engine.errors import Cancelled, InputError
from detox_engine.forward.embedded_pairs import Embeddings
from detox_engine.model.threads import run_side_by_side
from detox_engine.study.methods import fit_subspaces
from detox_engine.study.noise.null_spectra import draw_null_spectra
from tests.factor_model import draw_factor_sample

SAMPLES = 100


@pytest.fixture(autouse=True)
def one_core():
    """Small matrices are faster on one core, and many times so where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw_samples(rank: int, pairs: int, hidden: int, noise: float, samples: int) -> Embeddings:
    """Independent samples of the factor model, each standing in for a layer."""
    drawn = [draw_factor_sample(rank, pairs, hidden, noise, seed=seed) for seed in range(samples)]
    return Embeddings(torch.stack([one.toxic for one in drawn]), torch.stack([one.civil for one in drawn]), 0, ())


def suggest(embeddings: Embeddings, keep: int = 8, seed: int = 0) -> list[int]:
    subspaces = fit_subspaces(embeddings.toxic, embeddings.civil, keep)
    nulls = draw_null_spectra(embeddings, subspaces, seed=seed)
    return [null.count_real(subspace.singular_values) for null, subspace in zip(nulls, subspaces, strict=True)]


@pytest.mark.parametrize("rank", [0, 1, 2, 5])
@pytest.mark.parametrize(("pairs", "hidden", "noise"), [(80, 32, 0.02), (32, 50, 0.02), (200, 40, 0.3)])
def test_planted_rank_is_suggested_in_95_of_100_draws(rank, pairs, hidden, noise):
    ranks = suggest(draw_samples(rank, pairs, hidden, noise, SAMPLES))
    assert ranks.count(rank) >= 95


def test_rows_that_differ_in_noise_are_no_direction():
    quiet = draw_samples(0, 100, 48, 0.1, SAMPLES)
    generator = torch.Generator().manual_seed(0)
    loudness = torch.randn(SAMPLES, 100, 1, generator=generator).mul(0.5).exp()
    noise = 0.2 * loudness * torch.randn(quiet.toxic.shape, generator=generator)
    assert suggest(Embeddings(quiet.toxic + noise, quiet.civil, 0, ())).count(0) >= 95


def test_threshold_crosses_the_singular_values_at_the_suggested_rank_and_the_band_hugs_noise():
    embeddings = draw_samples(2, 200, 64, 0.3, 4)
    subspaces = fit_subspaces(embeddings.toxic, embeddings.civil, 12)
    for null, subspace in zip(draw_null_spectra(embeddings, subspaces), subspaces, strict=True):
        values = subspace.singular_values[:12]
        assert null.draws.shape == (20, 12)
        assert ((values > null.threshold)[:3]).tolist() == [True, True, False]
        low, middle, high = null.band()
        assert (low <= middle).all() and (middle <= high).all()
        assert (middle[:-1] >= middle[1:]).all()
        torch.testing.assert_close(values[2:], middle[2:], rtol=0.08, atol=0)
        assert (values[:2] > high[:2]).all()


def test_layer_that_keeps_fewer_directions_than_are_real_suggests_all_it_keeps():
    assert suggest(draw_samples(5, 200, 64, 0.02, 2), keep=3) == [3, 3]


@pytest.mark.parametrize("pairs", [2, 3, 6])
def test_few_pairs_give_finite_nulls(pairs):
    embeddings = draw_samples(1, pairs, 32, 0.1, 2)
    subspaces = fit_subspaces(embeddings.toxic, embeddings.civil, 32)
    for null, subspace in zip(draw_null_spectra(embeddings, subspaces), subspaces, strict=True):
        assert null.draws.isfinite().all()
        assert 0 <= null.count_real(subspace.singular_values) <= subspace.kept


def test_same_seed_gives_the_same_null_and_another_seed_another():
    embeddings = draw_samples(1, 40, 32, 0.1, 3)
    subspaces = fit_subspaces(embeddings.toxic, embeddings.civil, 4)
    first, again, other = (draw_null_spectra(embeddings, subspaces, seed=seed) for seed in (0, 0, 1))
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a.draws, b.draws)
        assert not torch.equal(a.draws, c.draws)


def test_layers_null_does_not_depend_on_the_other_layers():
    mixed = draw_samples(2, 60, 32, 0.1, 3)
    alone = Embeddings(mixed.toxic[1:2], mixed.civil[1:2], 0, ())
    together = draw_null_spectra(mixed, fit_subspaces(mixed.toxic, mixed.civil, 6))[1]
    apart = draw_null_spectra(alone, fit_subspaces(alone.toxic, alone.civil, 6))[0]
    # To rounding: a layer among others lies elsewhere in memory, where a product may be summed in another order.
    torch.testing.assert_close(together.draws, apart.draws, rtol=1e-5, atol=1e-6)


def test_progress_counts_draws_to_the_end_and_can_stop_them():
    embeddings = draw_samples(1, 40, 32, 0.1, 1)
    subspaces = fit_subspaces(embeddings.toxic, embeddings.civil, 4)
    seen = []
    draw_null_spectra(embeddings, subspaces, 5, progress=lambda *event: seen.append(event))
    done = [event[1] for event in seen]
    assert done == sorted(done) and done[0] == 0 and seen[-1][1] == seen[-1][2] == 10
    started = []

    def work(draw):
        started.append(draw)
        sleep(0.005)

    def stop(stage, done, total):
        if done == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        run_side_by_side(work, 1000, "draws", stop)
    assert len(started) < 1000


def test_draws_leave_the_number_of_threads_as_it_was():
    torch.set_num_threads(2)
    inside = run_side_by_side(lambda draw: torch.get_num_threads(), 8, "draws", lambda *event: None)
    assert set(inside) == {1}
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 2


def test_single_draw_is_an_input_error():
    embeddings = draw_samples(1, 10, 16, 0.1, 1)
    with pytest.raises(InputError, match="2 draws"):
        draw_null_spectra(embeddings, fit_subspaces(embeddings.toxic, embeddings.civil, 4), draws=1)
