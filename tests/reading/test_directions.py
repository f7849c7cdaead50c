"""Direction cards: the pairs, tokens and neurons behind a direction, and its angles to other layers'."""

import pytest
import torch

from detox_engine.errors import InputError
from detox_engine.forward.embed import embed_pairs
from detox_engine.plans.fit import FitPlan
from detox_engine.reading.across_layers import measure_angles, measure_cosines
from detox_engine.reading.lens import read_tokens
from detox_engine.reading.neurons import expect_largest_cosine, find_value_vectors
from detox_engine.reading.pairs import carry_pairs
from detox_engine.study.subspace import ToxicSubspace, principal_angles
from tests.forward.test_embed import PAIRS
from tests.models import HIDDEN, INNER, open_tiny


def draw_basis(rank: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(HIDDEN, rank, generator=generator)).Q.T.contiguous()


def as_subspace(basis: torch.Tensor) -> ToxicSubspace:
    ones = torch.ones(len(basis))
    return ToxicSubspace(basis, ones, torch.zeros(basis.shape[1]), ones)


@pytest.mark.parametrize("pooling", ["mean", "continuation", "last"])
def test_contributions_of_the_tokens_add_up_to_the_embeddings_projection(pooling):
    model = open_tiny("gpt2")
    plan, direction = FitPlan(max_length=12, pooling=pooling), draw_basis(1)[0]
    if pooling == "continuation":
        plan = FitPlan(max_length=40, pooling=pooling)
    carried = carry_pairs(model, PAIRS, 1, direction, plan)
    embeddings = embed_pairs(model, PAIRS, plan.max_length, pooling)
    assert len(carried) == len(PAIRS)
    for index, sides in enumerate(carried):
        for text, embedding in zip(sides, (embeddings.toxic, embeddings.civil), strict=True):
            total = float(embedding[1, index] @ direction)
            assert float(text.contributions.sum()) == pytest.approx(total, abs=1e-4)
            assert len(text.projections) == len(text.text.pieces) <= plan.max_length
    longest = carried[1][0]
    if pooling == "mean":
        assert longest.text.cut > 0 and PAIRS[1].toxic_text.startswith("".join(longest.text.pieces))
    if pooling == "last":
        assert (longest.contributions != 0).sum() == 1


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_value_vectors_are_the_rows_with_the_largest_cosine(family):
    model = open_tiny(family)
    value = model.anatomy.values[1]
    assert (value.gain is not None) == (family == "gemma2")
    rows = value.rows.float() * (1 if value.gain is None else value.gain)
    cosines = torch.nn.functional.cosine_similarity(rows, draw_basis(1, seed=4), dim=-1)
    found = find_value_vectors(model, 1, 3 * draw_basis(1, seed=4)[0], top=6, tokens=4)
    assert [entry.neuron for entry in found.toward] == cosines.argsort(descending=True)[:6].tolist()
    assert [entry.neuron for entry in found.away] == cosines.argsort()[:6].tolist()
    best = found.toward[0]
    assert best.cosine == pytest.approx(float(cosines.max()), abs=1e-5)
    assert found.chance == expect_largest_cosine(*rows.shape)
    assert best.length == pytest.approx(float(rows[best.neuron].norm()), rel=1e-5)
    (expected,) = read_tokens(rows[best.neuron][None], model, 4)
    for pole in ("toxic_pole", "civil_pole"):
        assert [end.token for end in getattr(best.reading, pole)] == [end.token for end in getattr(expected, pole)]


def test_a_neurons_own_row_finds_that_neuron(monkeypatch):
    model = open_tiny("gpt2")
    monkeypatch.setattr("detox_engine.reading.neurons.ROWS_AT_ONCE", 7)
    for neuron in (0, 40, INNER - 1):
        found = find_value_vectors(model, 2, model.anatomy.values[2].rows[neuron], top=1)
        assert found.toward[0].neuron == neuron and found.toward[0].cosine == pytest.approx(1, abs=1e-5)
        opposite = find_value_vectors(model, 2, -model.anatomy.values[2].rows[neuron], top=1)
        assert opposite.away[0].neuron == neuron and opposite.away[0].cosine == pytest.approx(-1, abs=1e-5)
    with pytest.raises(InputError, match="Layer 3 is outside the model: its layers are 0-2"):
        find_value_vectors(model, 3, model.anatomy.values[2].rows[0])


@pytest.mark.parametrize(("vectors", "hidden"), [(640, 160), (100, 16), (8, 4)])
def test_the_largest_cosine_by_chance_is_that_of_random_vectors(vectors, hidden):
    generator = torch.Generator().manual_seed(0)
    random = torch.nn.functional.normalize(torch.randn(1000, vectors, hidden, generator=generator), dim=-1)
    assert expect_largest_cosine(vectors, hidden) == pytest.approx(float(random[..., 0].amax(1).median()), rel=0.03)


def test_angles_between_layers_are_the_principal_angles_both_ways():
    shared = draw_basis(4)
    subspaces = [as_subspace(shared), as_subspace(draw_basis(4, seed=1)), as_subspace(shared.flip(0))]
    angles = measure_angles(subspaces, 2)
    assert angles.shape == (3, 3, 2)
    assert torch.equal(angles, angles.transpose(0, 1)) and (angles.diagonal() == 0).all()
    torch.testing.assert_close(angles[0, 1], principal_angles(shared[:2], subspaces[1].basis[:2]).float())
    torch.testing.assert_close(angles[0, 2], torch.tensor([90.0, 90.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(measure_angles(subspaces, 4)[0, 2], torch.zeros(4), atol=1e-3, rtol=0)
    near = torch.linalg.qr((shared + 1e-5 * draw_basis(4, seed=2)).T).Q.T
    both = [as_subspace(near.float()), as_subspace(shared)]
    expected = principal_angles(near, shared)
    torch.testing.assert_close(measure_angles(both, 4)[0, 1], expected.float(), atol=2e-5, rtol=0)
    for rank in (0, 5):
        with pytest.raises(InputError, match=f"1 to 4, the directions kept at every layer, not {rank}"):
            measure_angles(subspaces, rank)


def test_a_pinned_direction_is_compared_with_every_direction_of_every_layer():
    basis = draw_basis(4)
    subspaces = [as_subspace(basis), as_subspace(-basis[[2, 0, 1]])]
    torch.testing.assert_close(
        measure_cosines(subspaces, basis[2]), torch.tensor([[0.0, 0, 1], [-1, 0, 0]]), atol=1e-6, rtol=0
    )
