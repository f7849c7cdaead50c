"""GLOSS finds what layers have in common, where each of them alone shows something else first."""

import pytest
import torch
from torch import Tensor

from detox_engine.forward.embedded_pairs import Embeddings
from detox_engine.plans.choice import Choice
from detox_engine.study.fit import sum_moments
from detox_engine.study.methods import fit_subspaces, fit_subspaces_of
from detox_engine.study.subspace import principal_angles

LAYERS, PAIRS, HIDDEN = 6, 300, 40
GLOSS = Choice("gloss")


def draw_layers(pairs: int = PAIRS) -> tuple[Tensor, Tensor, Tensor]:
    """Toxic and civil embeddings `[layers, pairs, hidden]`, longer from layer to layer, and the direction in common.

    Along the common direction toxic texts lie higher by 1 ± 1; along another of its own each layer varies more, but
    has no side.
    """
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    frame = torch.linalg.qr(normal(HIDDEN, HIDDEN)).Q.T
    shared, common, own = frame[0], frame[1], frame[2 : 2 + LAYERS]
    civil = 20 * shared + normal(LAYERS, pairs, HIDDEN)
    scale = 3.0 ** torch.arange(LAYERS, dtype=torch.float64)[:, None, None]
    parts = (1 + normal(LAYERS, pairs, 1)) * common + 2 * normal(LAYERS, pairs, 1) * own[:, None]
    noise = 0.1 * normal(LAYERS, pairs, HIDDEN)
    return (scale * (civil + parts + noise)).float(), (scale * civil).float(), common


def turn_from(found: Tensor, wanted: Tensor) -> float:
    """Degrees between directions."""
    return float(principal_angles(found[None], wanted[None].float())[0])


def test_the_common_direction_is_the_first_and_no_layers_own_first_is():
    toxic, civil, common = draw_layers()
    alone = fit_subspaces(toxic, civil, 4)
    found = fit_subspaces(toxic, civil, 4, method=GLOSS)
    assert len(found) == LAYERS and all(torch.equal(one.basis, found[0].basis) for one in found)
    assert turn_from(found[0].basis[0], common) < 5 and found[0].basis[0].double() @ common > 0
    assert all(turn_from(one.basis[0], common) > 45 for one in alone)
    # Where every layer counts by its length, the last one's own direction is the first.
    stacked = torch.cat([one.singular_values[:4, None] * one.basis for one in alone])
    assert turn_from(torch.linalg.svd(stacked).Vh[0], common) > 45


def test_what_it_says_of_its_directions_is_so():
    toxic, civil, common = draw_layers()
    found = fit_subspaces(toxic, civil, HIDDEN, method=GLOSS)
    for layer, one in enumerate(found):
        differences = (toxic[layer] - civil[layer]).double()
        mean_direction = one.mean_direction.double()
        differences -= torch.outer(differences @ mean_direction, mean_direction)
        along = differences @ one.basis[:5].double().T
        polarity = along.mean(0).abs() / along.square().mean(0).sqrt()
        torch.testing.assert_close(one.polarity[:5].double(), polarity, rtol=0, atol=1e-4)
        assert (one.polarity >= 0).all() and (one.polarity <= 1).all()
        assert float(one.shares.sum()) == pytest.approx(1, abs=1e-6)
    shares = []
    for layer, one in enumerate(found):
        centred = (toxic[layer] - civil[layer]).double()
        centred -= torch.outer(centred @ one.mean_direction.double(), one.mean_direction.double())
        shares.append((centred @ one.basis.double().T).square().sum(0) / centred.square().sum())
    torch.testing.assert_close(found[0].shares[: found[0].kept].double(), sum(shares) / LAYERS, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pairs", [300, 20])
def test_moments_give_what_all_pairs_give(pairs: int):
    toxic, civil, _ = draw_layers(pairs)
    direct = fit_subspaces(toxic, civil, 3, method=GLOSS)
    streamed = fit_subspaces_of(sum_moments(Embeddings(toxic, civil, 0, ())), 3, method=GLOSS)
    for one, other in zip(streamed, direct, strict=True):
        for name in ("basis", "singular_values", "mean_direction", "polarity"):
            torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-3, atol=1e-4)


def test_one_layer_alone_has_detoxs_directions():
    toxic, civil, _ = draw_layers()
    (found,), (alone,) = (fit_subspaces(toxic[:1], civil[:1], 3, method=method) for method in (GLOSS, Choice("detox")))
    torch.testing.assert_close(found.basis, alone.basis, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.polarity, alone.polarity, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.shares[:3], alone.shares[:3], rtol=0, atol=1e-5)


def test_dimensions_that_were_taken_out_stay_out():
    toxic, civil, _ = draw_layers()
    toxic[..., 7] = civil[..., 7] = 0
    assert fit_subspaces(toxic, civil, 16, method=GLOSS)[0].basis[:, 7].abs().max() < 1e-6
