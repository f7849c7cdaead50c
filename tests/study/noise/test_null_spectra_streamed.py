"""Parallel analysis from moments: planted ranks come back, as from the pairs themselves."""

import pytest
import torch

from detox_engine.errors import InputError
from detox_engine.forward.embedded_pairs import Embeddings
from detox_engine.study.fit import sum_moments
from detox_engine.study.methods import fit_subspaces_of
from detox_engine.study.noise.null_spectra import draw_null_spectra
from detox_engine.study.noise.null_spectra_streamed import draw_null_spectra_of
from tests.study.noise.test_null_spectra import draw_samples

SAMPLES = 40


def analyse(embeddings: Embeddings, keep: int = 8, sample: int = 300, seed: int = 0):
    moments = sum_moments(embeddings)
    drawn = torch.randperm(embeddings.toxic.shape[1], generator=torch.Generator().manual_seed(1))[:sample].sort().values
    part = Embeddings(embeddings.toxic[:, drawn], embeddings.civil[:, drawn], 0, ())
    subspaces = fit_subspaces_of(moments, keep)
    return subspaces, draw_null_spectra_of(moments, part, subspaces, seed=seed)


def suggest(embeddings: Embeddings, **options) -> list[int]:
    return [
        null.count_real(subspace.singular_values)
        for subspace, null in zip(*analyse(embeddings, **options), strict=True)
    ]


@pytest.mark.parametrize("rank", [0, 1, 2, 5])
@pytest.mark.parametrize(("pairs", "hidden", "noise"), [(80, 32, 0.02), (400, 32, 0.3), (32, 50, 0.02)])
def test_planted_rank_is_suggested_in_95_of_100_draws(rank, pairs, hidden, noise):
    ranks = suggest(draw_samples(rank, pairs, hidden, noise, SAMPLES))
    assert ranks.count(rank) >= 0.95 * SAMPLES


@pytest.mark.parametrize("rank", [0, 5])
def test_rows_that_differ_in_noise_are_no_direction(rank):
    quiet = draw_samples(rank, 1200, 32, 0.1, SAMPLES)
    generator = torch.Generator().manual_seed(0)
    loudness = torch.randn(SAMPLES, 1200, 1, generator=generator).mul(0.5).exp()
    noise = 0.2 * loudness * torch.randn(quiet.toxic.shape, generator=generator)
    ranks = suggest(Embeddings(quiet.toxic + noise, quiet.civil, 0, ()))
    assert ranks.count(rank) >= 0.95 * SAMPLES


@pytest.mark.parametrize("rank", [0, 2])
def test_null_agrees_with_that_of_the_pairs_themselves(rank):
    embeddings = draw_samples(rank, 600, 48, 0.3, 4)
    subspaces, nulls = analyse(embeddings, keep=6)
    for null, direct in zip(nulls, draw_null_spectra(embeddings, subspaces), strict=True):
        torch.testing.assert_close(null.draws.mean(0), direct.draws.mean(0), rtol=0.02, atol=0)
        torch.testing.assert_close(null.threshold, direct.threshold, rtol=0.04, atol=0)


def test_same_seed_gives_the_same_null_and_another_seed_another():
    embeddings = draw_samples(1, 200, 32, 0.1, 2)
    first, again, other = (analyse(embeddings, seed=seed)[1] for seed in (0, 0, 1))
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a.draws, b.draws) and not torch.equal(a.draws, c.draws)


@pytest.mark.parametrize("pairs", [2, 3, 20])
def test_few_pairs_give_finite_nulls(pairs):
    subspaces, nulls = analyse(draw_samples(1, pairs, 32, 0.1, 2), keep=32)
    for null, subspace in zip(nulls, subspaces, strict=True):
        assert null.draws.isfinite().all()
        assert 0 <= null.count_real(subspace.singular_values) <= subspace.kept


def test_single_draw_is_an_input_error():
    embeddings = draw_samples(1, 10, 16, 0.1, 1)
    moments = sum_moments(embeddings)
    with pytest.raises(InputError, match="2 draws"):
        draw_null_spectra_of(moments, embeddings, fit_subspaces_of(moments, 4), draws=1)
