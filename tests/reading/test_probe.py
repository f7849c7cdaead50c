"""The probe: perfect where sides part, at chance on shuffled labels, and never fitted on a tested pair's twin."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from detox_engine.errors import Cancelled, InputError
from detox_engine.forward.embedded_pairs import Embeddings
from detox_engine.reading import probe
from detox_engine.reading.probe import count_projections, probe_layer, probe_layers, project_sides, split_pairs
from detox_engine.study.methods.detox import fit_subspace
from tests.factor_model import draw_factor_sample


def shuffle_labels(toxic: torch.Tensor, civil: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Which side is which, drawn anew within each pair."""
    swapped = torch.rand(len(toxic), generator=torch.Generator().manual_seed(seed))[:, None] < 0.5
    return torch.where(swapped, civil, toxic), torch.where(swapped, toxic, civil)


def test_separated_sides_are_told_apart_perfectly():
    generator = torch.Generator().manual_seed(0)
    civil = torch.randn(60, 30, generator=generator)
    found = probe_layer(3, civil + 8 * torch.eye(30)[0], civil)
    assert found.layer == 3
    for estimate in (found.accuracy, found.auc):
        assert (estimate.mean, estimate.low, estimate.high) == pytest.approx((1, 1, 1)) and estimate.n == 60


@pytest.mark.parametrize("hidden", [40, 400], ids=["more texts", "more dimensions"])
def test_shuffled_labels_are_at_chance(hidden):
    sample = draw_factor_sample(2, pairs=120, hidden=hidden)
    assert probe_layer(0, sample.toxic, sample.civil).auc.low > 0.8
    found = [probe_layer(0, *shuffle_labels(sample.toxic, sample.civil, seed)) for seed in range(8)]
    for name in ("accuracy", "auc"):
        estimates = [getattr(entry, name) for entry in found]
        assert np.mean([estimate.mean for estimate in estimates]) == pytest.approx(0.5, abs=0.05)
        assert sum(estimate.low <= 0.5 <= estimate.high for estimate in estimates) >= 6


def test_the_two_sides_of_a_pair_never_straddle_the_split(monkeypatch):
    pairs, hidden = 23, 6
    toxic = torch.randn(pairs, hidden, generator=torch.Generator().manual_seed(0))
    toxic[:, 0] = torch.arange(pairs)
    civil = toxic + torch.tensor([0.0, *[1.0] * (hidden - 1)])
    tested = []

    def watch(states, part):
        fitted = np.delete(states, part, axis=1)
        assert set(states[:, part, 0].ravel()).isdisjoint(fitted[..., 0].ravel())
        tested.extend(part)
        return score(states, part)

    score = probe._score_fold
    monkeypatch.setattr(probe, "_score_fold", watch)
    probe_layer(0, toxic, civil)
    assert sorted(tested) == list(range(pairs))


def test_folds_are_of_one_size_and_drawn_by_the_seed():
    parts = split_pairs(23, folds=5, seed=1)
    assert sorted(np.concatenate(parts).tolist()) == list(range(23))
    assert {len(part) for part in parts} == {4, 5}
    assert all(np.array_equal(one, other) for one, other in zip(parts, split_pairs(23, 5, 1), strict=True))
    assert not all(np.array_equal(one, other) for one, other in zip(parts, split_pairs(23, 5, 2), strict=True))


@pytest.mark.parametrize("hidden", [20, 200], ids=["more texts", "more dimensions"])
def test_a_fold_scores_as_scikit_learns_probe_on_all_dimensions(hidden):
    sample = draw_factor_sample(2, pairs=50, hidden=hidden, strength=0.5, noise=0.5)
    states = np.stack([sample.toxic.numpy(), sample.civil.numpy()]).astype(float)
    states[..., 3] = 7.0  # a dimension that never changes says nothing and breaks nothing
    part = split_pairs(50)[0]
    fitted = np.delete(states, part, axis=1).reshape(-1, hidden)
    scaler = StandardScaler().fit(fitted)
    reference = LogisticRegression(C=probe.PENALTY, max_iter=1000, tol=1e-8).fit(
        scaler.transform(fitted), [1] * (len(fitted) // 2) + [0] * (len(fitted) // 2)
    )
    expected = reference.decision_function(scaler.transform(states[:, part].reshape(-1, hidden))).reshape(2, -1)
    np.testing.assert_allclose(probe._score_fold(states, part), expected, atol=2e-2)


def test_accuracy_and_auc_are_those_of_the_definition_fold_by_fold():
    generator = np.random.default_rng(0)
    scores = np.round(generator.normal([[0.4], [-0.4]], 1, (2, 40)), 1)
    parts = split_pairs(40, 4)
    accuracy, auc = probe._estimate(scores, parts, seed=0)
    assert accuracy.mean == pytest.approx(((scores[0] > 0).mean() + (scores[1] <= 0).mean()) / 2)
    by_fold = [roc_auc_score([1] * 10 + [0] * 10, scores[:, part].ravel()) for part in parts]
    assert auc.mean == pytest.approx(np.mean(by_fold))
    for estimate in (accuracy, auc):
        assert estimate.low < estimate.mean < estimate.high


def test_intervals_cover_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(1)
    covered = []
    for _ in range(60):
        scores = generator.normal([[0.5], [-0.5]], 1, (2, 100))
        accuracy, _ = probe._estimate(scores, split_pairs(100), seed=0)
        covered.append(accuracy.low <= 0.6915 <= accuracy.high)  # Φ(0.5)
    assert 0.85 <= np.mean(covered) <= 1.0


def test_removing_the_planted_subspace_brings_the_probe_to_chance():
    sample = draw_factor_sample(1, pairs=100, hidden=40)
    subspace = fit_subspace(sample.toxic, sample.civil, 1)
    # The noise and the lean on the mean direction stay: only what was planted goes.
    mean = sample.mean_direction.float()
    sides = [side - side @ subspace.basis.T @ subspace.basis for side in (sample.toxic, sample.civil)]
    sides = [side - torch.outer(side @ mean, mean) for side in sides]
    assert probe_layer(0, sample.toxic, sample.civil).auc.low > 0.75
    assert probe_layer(0, *sides).auc.mean == pytest.approx(0.5, abs=0.05)


def test_layers_are_probed_in_order_with_progress_and_can_be_stopped():
    sample = draw_factor_sample(1, pairs=20, hidden=16)
    embeddings = Embeddings(torch.stack([sample.civil, sample.toxic]), torch.stack([sample.civil] * 2), 0, ())
    seen = []
    found = probe_layers(embeddings, progress=lambda *step: seen.append(step))
    assert [entry.layer for entry in found] == [0, 1]
    assert found[0].auc.mean == pytest.approx(0.5, abs=0.15) and found[1].auc.mean > 0.8
    assert seen == [("Probing layers", done, 2) for done in range(3)]
    assert probe_layers(embeddings, [1]) == found[1:]

    def stop(*step):
        raise Cancelled

    with pytest.raises(Cancelled):
        probe_layers(embeddings, progress=stop)


def test_too_few_pairs_or_folds_or_broken_numbers_get_a_sentence():
    few = torch.randn(9, 4)
    with pytest.raises(InputError, match="needs 10 pairs or more, and there are 9"):
        probe_layer(0, few, few + 1)
    with pytest.raises(InputError, match="2 folds or more, not 1"):
        probe_layer(0, few, few + 1, folds=1)
    with pytest.raises(InputError, match="layer 6 hold NaN"):
        probe_layer(6, torch.full((10, 4), float("nan")), torch.zeros(10, 4))


def test_histograms_share_their_bins_and_lose_no_text():
    sample = draw_factor_sample(1, pairs=50, hidden=20)
    direction = sample.planted[0]
    before = project_sides(sample.toxic, sample.civil, direction)
    torch.testing.assert_close(before[0], sample.toxic @ direction.float())
    after = project_sides(0 * sample.toxic, 0 * sample.civil, direction)
    one, other = count_projections([before, after], bins=12)
    assert one.edges == other.edges and len(one.edges) == 13
    for histogram in (one, other):
        assert sum(histogram.toxic) == sum(histogram.civil) == 50
    assert max(other.toxic) == 50 and max(one.toxic) < 50
    with pytest.raises(InputError, match="1 bin or more"):
        count_projections([before], bins=0)
