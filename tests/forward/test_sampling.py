"""Draws follow the model's distribution, top-p keeps the right tokens, and luck depends on its label alone."""

import pytest
import torch

from detox_engine.forward import sampling
from detox_engine.forward.sampling import choose_tokens, draw_luck, keep_nucleus, read_choice
from detox_engine.plans.sampling import SamplingPlan

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, 1.5, -3.0])
DRAWS = 20_000


def draw(plan: SamplingPlan) -> torch.Tensor:
    """Share of each token among many draws, one step each."""
    counts = torch.zeros(len(LOGITS))
    for step in range(DRAWS // 200):
        tokens, _ = choose_tokens(LOGITS.expand(200, -1), plan, ["a prompt"] * 200, range(200), step)
        counts += tokens.bincount(minlength=len(LOGITS))
    return counts


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_draws_follow_the_softmax(temperature: float) -> None:
    counts = draw(SamplingPlan(temperature=temperature))
    expected = DRAWS * (LOGITS / temperature).softmax(-1)
    # The 99.9th percentile of chi-squared with 5 degrees of freedom.
    assert ((counts - expected).square() / expected).sum() < 20.5


def test_draws_under_top_p_follow_the_softmax_of_what_is_kept() -> None:
    counts = draw(SamplingPlan(top_p=0.8))
    kept = torch.tensor([0, 1, 4])
    expected = DRAWS * LOGITS[kept].softmax(-1)
    assert counts.sum() == counts[kept].sum() == DRAWS
    assert ((counts[kept] - expected).square() / expected).sum() < 13.8


@pytest.mark.parametrize("likely", [1, 2, 1024])
def test_top_p_keeps_the_fewest_tokens_that_reach_it(likely: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "LIKELY", likely)
    probabilities = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.97, 0.01, 0.01, 0.01], [0.25, 0.25, 0.25, 0.25]])
    kept = keep_nucleus(probabilities, 0.65) > 0
    assert kept.tolist() == [[False, True, False, True], [True, False, False, False], [True] * 4]
    assert torch.equal(keep_nucleus(probabilities, 1e-9)[:2].argmax(-1), torch.tensor([1, 0]))
    assert (keep_nucleus(probabilities, 1e-9)[:2] > 0).sum() == 2


def test_top_p_equals_the_sort_of_the_whole_vocabulary() -> None:
    probabilities = (3 * torch.randn(20, 5000, generator=torch.Generator().manual_seed(0))).softmax(-1)
    ranked, order = probabilities.sort(-1, descending=True)
    kept = torch.zeros_like(probabilities, dtype=torch.bool).scatter(-1, order, ranked.cumsum(-1) - ranked < 0.9)
    assert torch.equal(keep_nucleus(probabilities, 0.9) > 0, kept)


def test_luck_depends_on_each_part_of_its_label() -> None:
    first = draw_luck(0, "a prompt", 0, 0, 500)
    assert torch.equal(first, draw_luck(0, "a prompt", 0, 0, 500))
    for label in ((1, "a prompt", 0, 0), (0, "another", 0, 0), (0, "a prompt", 1, 0), (0, "a prompt", 0, 1)):
        assert (first != draw_luck(*label, 500)).float().mean() > 0.9


def test_luck_is_exponential() -> None:
    luck = draw_luck(0, "a prompt", 0, 0, 100_000)
    assert luck.mean() == pytest.approx(1, abs=0.02)
    assert luck.std() == pytest.approx(1, abs=0.03)
    assert (luck > 1).float().mean() == pytest.approx(0.3679, abs=0.01)


def test_rows_of_one_prompt_and_sample_draw_alike_in_any_batch() -> None:
    flat = torch.zeros(1, 300)
    plan = SamplingPlan(seed=7)
    alone, _ = choose_tokens(flat, plan, ["a"], [1], 4)
    tokens, probabilities = choose_tokens(flat.expand(4, -1), plan, ["b", "a", "a", "a"], [1, 0, 1, 1], 4)
    assert tokens[2] == tokens[3] == alone[0]
    assert len({*tokens.tolist()}) == 3
    assert probabilities.tolist() == pytest.approx([1 / 300] * 4)


def test_the_probability_is_that_of_the_raw_logits() -> None:
    plan = SamplingPlan(temperature=0.1, top_p=0.5)
    tokens, probabilities = choose_tokens(LOGITS[None], plan, ["a"], [0], 0)
    torch.testing.assert_close(probabilities[0], LOGITS.softmax(-1)[tokens[0]])
    tokens, probabilities = choose_tokens(LOGITS[None], SamplingPlan(greedy=True), ["a"], [0], 0)
    assert tokens.tolist() == [0]
    torch.testing.assert_close(probabilities[0], LOGITS.softmax(-1)[0])


def test_what_was_chosen_leaves_the_device_together_and_whole() -> None:
    tokens, probabilities = torch.tensor([3, 150_000, 0]), torch.tensor([[0.1, 1e-30, torch.nan]])
    read, own = read_choice(tokens, probabilities[0])
    assert read == [3, 150_000, 0] and own[:2] == probabilities[0, :2].tolist() and own[2] != own[2]
