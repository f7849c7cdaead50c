"""Slopes and curvature from one gradient pass equal what edits of little strength do."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from detox_engine.data.columns import Pair
from detox_engine.edit.in_pass import edited
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import Cancelled
from detox_engine.forward import slopes as module
from detox_engine.forward.likelihood import Span, cut_continuations, read_likelihoods
from detox_engine.forward.slopes import Place, read_slopes
from detox_engine.model.head import read_head
from detox_engine.model.trunk import run_trunk
from tests.models import EXPERTS, FAMILIES, HIDDEN, LAYERS, MIXTURES, SENTENCES, fresh_model, open_tiny

PAIRS = tuple(
    Pair(SENTENCES[number][:20], " you idiot, what a pathetic day", " my friend, what a lovely day it is")
    for number in range(4)
)


def random_bases(seed: int = 0, rank: int = 2) -> dict[str, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)

    def draw(rows: int) -> torch.Tensor:
        return torch.linalg.qr(torch.randn(HIDDEN, rows, generator=generator)).Q.T

    return {"one": [draw(rank) for _ in range(LAYERS)], "other": [draw(1) for _ in range(LAYERS)]}


def make(bases, place: Place, strength: float, rank: int = 1) -> LowRankEdit:
    """The edit of the first `rank` directions at one place."""
    return LowRankEdit({place.layer: bases[place.method][place.layer][:rank]}, strength, sites=place.site)


def spans_of(model, count: int = 6) -> list[Span]:
    texts = [tuple(model.tokenizer(text)["input_ids"])[:20] for text in SENTENCES[:count]]
    return [Span(ids, len(ids) - 1) for ids in texts]


def read_gap(model, pairs, edits):
    sides = [span for pair in pairs for span in pair]
    read = read_likelihoods(model, sides, edits)
    means = read.surprise / read.tokens
    return (means[:, 0::2] - means[:, 1::2]).mean(1)


@pytest.mark.parametrize("family", [*FAMILIES, *MIXTURES])
def test_the_slope_of_the_gap_equals_its_finite_difference_at_every_place(family: str):
    model, bases = open_tiny(family), random_bases()
    if family in MIXTURES:
        # A step of any length makes a token change its experts, and the gap leap, where these are not all chosen.
        model = replace(model, network=fresh_model(family, num_experts_per_tok=EXPERTS))
    pairs = cut_continuations(model, PAIRS, 64)
    found = read_slopes(model, bases, pairs, spans_of(model, 2))
    first = [place for place in found.places if place.direction == 0]
    step = 0.02
    edits = [make(bases, place, sign * step) for place in first for sign in (1, -1)]
    gaps = read_gap(model, pairs, edits)
    expected = (gaps[0::2] - gaps[1::2]) / (2 * step)
    own = [found.gap[found.places.index(place)] for place in first]
    # A central difference errs by the third derivative, and float32 by rounding over twice the step.
    np.testing.assert_allclose(own, expected, rtol=0.05, atol=2e-3 * np.abs(expected).max())
    assert np.abs(expected).max() > 0.01
    assert {place.site for place in found.places} == {"mlp", "attention"}


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_a_rank_of_two_is_the_sum_of_its_directions(family: str):
    model, bases = open_tiny(family), random_bases()
    pairs = cut_continuations(model, PAIRS, 64)
    found = read_slopes(model, bases, pairs, spans_of(model, 2))
    place, step = Place(1, "mlp", "one", 0), 0.02
    gaps = read_gap(model, pairs, [make(bases, place, sign * step, rank=2) for sign in (1, -1)])
    whole = sum(found.gap[found.places.index(place._replace(direction=number))] for number in (0, 1))
    assert whole == pytest.approx((gaps[0] - gaps[1]) / (2 * step), rel=0.05, abs=1e-3)


def test_rows_of_a_batch_and_parts_of_the_head_do_not_mix(monkeypatch):
    model, bases = open_tiny("llama"), random_bases()
    pairs = cut_continuations(model, PAIRS, 64)
    together = read_slopes(model, bases, pairs, spans_of(model), draws=2)
    monkeypatch.setattr(module, "LEAST_TOKENS", 1)
    monkeypatch.setitem(module.NUMBERS_AT_ONCE, "cpu", 1)
    monkeypatch.setattr(module, "count_rows", lambda model: 1)
    apart = read_slopes(model, bases, pairs, spans_of(model), draws=2)
    np.testing.assert_allclose(together.gap, apart.gap, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(together.information, apart.information, rtol=1e-2, atol=1e-4)


def exact_information(model, bases, spans, places) -> np.ndarray:
    """Σ over places of a text of E_y[score scoreᵀ] / tokens, the scores from finite differences of log p."""
    step, total, tokens = 0.02, 0.0, 0
    for span in spans:
        moved = []
        for place in places:
            sides = []
            for sign in (1, -1):
                with edited(model.anatomy, [make(bases, place, sign * step)]):
                    states = run_trunk(model, [span.ids])[0, :-1]
                sides.append(read_head(model, states).double().log_softmax(-1))
            moved.append((sides[0] - sides[1]) / (2 * step))
        scores = torch.stack(moved)
        chances = read_head(model, run_trunk(model, [span.ids])[0, :-1]).double().softmax(-1)
        total = total + torch.einsum("atv,btv,tv->ab", scores, scores, chances)
        tokens += span.scored
    return (total / tokens).numpy()


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_the_information_equals_its_exact_expectation_over_labels(family: str):
    model, bases = open_tiny(family), random_bases(rank=1)
    spans = spans_of(model, 3)
    found = read_slopes(model, bases, cut_continuations(model, PAIRS[:1], 64), spans, draws=1500)
    exact = exact_information(model, bases, spans, found.places)
    scale = np.sqrt(np.outer(exact.diagonal(), exact.diagonal()))
    # Each entry is a mean of 4500 products, whose spread is about √2 times the scale.
    assert np.abs((found.information - exact) / scale).max() < 0.2
    np.testing.assert_allclose(found.information.diagonal(), exact.diagonal(), rtol=0.15)


def test_predicted_divergence_and_gap_are_those_measured_at_little_strength():
    model, bases = open_tiny("llama"), random_bases()
    pairs, spans = cut_continuations(model, PAIRS, 64), spans_of(model)
    found = read_slopes(model, bases, pairs, spans, draws=400)
    strength, chosen = 0.05, np.array([place.method == "one" for place in found.places], dtype=float)
    edit = LowRankEdit(dict(enumerate(bases["one"])), strength, sites="both")
    gap, divergence = found.predict(strength * chosen)
    read = read_likelihoods(model, spans, [None, edit])
    before, after = read_gap(model, pairs, [None, edit])
    assert divergence == pytest.approx(read.divergence[1].sum() / read.tokens.sum(), rel=0.2)
    assert gap == pytest.approx(after - before, rel=0.2)


def test_labels_follow_the_distribution():
    chances = torch.tensor([[0.5, 0.25, 0.25, 0.0]])
    luck = torch.tensor(np.random.default_rng(0).random((1, 20_000), dtype=np.float32))
    labels = module._draw_labels(chances.log(), luck)
    shares = torch.bincount(labels[0], minlength=4) / 20_000
    torch.testing.assert_close(shares, chances[0], rtol=0, atol=0.015)
    assert shares[3] == 0


def test_a_stop_leaves_no_hook_and_the_turn_free():
    model, bases = open_tiny("llama"), random_bases()

    def stop(stage: str, done: int, total: int) -> None:
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        read_slopes(model, bases, cut_continuations(model, PAIRS, 64), spans_of(model), progress=stop)
    assert not any(part._forward_hooks for part in model.network.modules())
    with model.turns:
        pass
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_a_continuation_is_scored_from_where_it_leaves_its_prompt():
    model = open_tiny("llama")
    [(toxic, civil)] = cut_continuations(model, [Pair("The train to", " crap town", " the coast")], 64)
    for span, text in ((toxic, "The train to crap town"), (civil, "The train to the coast")):
        assert list(span.ids) == model.tokenizer(text)["input_ids"]
        assert model.tokenizer.decode(span.ids[-span.scored :]) == text.removeprefix("The train to")
    [(alone, _)] = cut_continuations(model, [Pair("", "crap town", "the coast")], 64)
    assert alone.scored == len(alone.ids) - 1
    assert cut_continuations(model, [Pair("The train to", " crap town", " the coast")], 2) == ()
