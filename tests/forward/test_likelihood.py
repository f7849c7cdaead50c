import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from detox_engine.edit.control import draw_controls
from detox_engine.edit.in_weights import edited_weights
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import Cancelled, InputError
from detox_engine.forward.likelihood import (
    MATCHING,
    Span,
    count_rows,
    cut_windows,
    match_controls,
    match_divergence,
    read_likelihoods,
)
from tests.models import CONTEXT, FAMILIES, HIDDEN, SENTENCES, open_tiny
from tests.three_tokens import CONTEXT as TOY_CONTEXT
from tests.three_tokens import swap_edit, three_tokens


def some_edits(seed: int = 0) -> tuple[LowRankEdit | None, ...]:
    """No edit, and random ones of other layers, ranks and strengths."""
    shapes = ({1: 2, 2: 2}, {2: 1}, {0: 3})
    edits = []
    for number, shape in enumerate(shapes):
        like = LowRankEdit({layer: torch.eye(HIDDEN)[:rank] for layer, rank in shape.items()}, 1 - 0.3 * number)
        edits += draw_controls(like, 1, seed + number)
    return (None, *edits)


def read_by_hand(model, ids, scored, edit):
    """Surprise of the last tokens and log-probabilities `[scored, vocab]`, one text and one edit at a time."""

    def run():
        with torch.no_grad():
            return model.network(torch.tensor([ids])).logits[0, -scored - 1 : -1].double().log_softmax(-1)

    if edit is None:
        found = run()
    else:
        with edited_weights(model.anatomy, edit):
            found = run()
    return -found[range(scored), ids[-scored:]].sum().item(), found


@pytest.mark.parametrize("family", FAMILIES)
def test_one_pass_equals_each_text_and_edit_by_itself(family: str):
    model = open_tiny(family)
    spans = [
        Span(tuple(model.tokenizer(text)["input_ids"]), scored)
        for text, scored in zip(SENTENCES[:4], (9, 3, 1, 12), strict=True)
    ]
    edits = some_edits()
    read = read_likelihoods(model, spans, edits)
    moved = 0
    for column, span in enumerate(spans):
        _, first = read_by_hand(model, span.ids, span.scored, None)
        for row, edit in enumerate(edits):
            surprise, logs = read_by_hand(model, span.ids, span.scored, edit)
            divergence = (first.exp() * (first - logs)).sum().item()
            assert read.surprise[row, column] == pytest.approx(surprise, rel=1e-4)
            assert read.divergence[row, column] == pytest.approx(divergence, rel=1e-3, abs=1e-4)
            moved = max(moved, divergence)
    assert moved > 0.01
    assert read.tokens.tolist() == [9, 3, 1, 12]


def test_divergence_is_never_negative_and_zero_without_an_edit():
    model = open_tiny("gpt2")
    spans = cut_windows(model.tokenizer(" ".join(SENTENCES), verbose=False)["input_ids"], 32, 16)
    slight = [LowRankEdit(edit.bases, 1e-4) for edit in some_edits()[1:]]
    read = read_likelihoods(model, spans, [None, None, *slight])
    assert (read.divergence >= 0).all() and (read.divergence[0] == 0).all() and read.divergence[2:].max() < 1e-3
    # Another row without an edit is a product of its own, equal to rounding at each of its tokens, 31 at most.
    assert read.divergence[1].max() < 31 * 1e-6


@pytest.mark.parametrize("family", ["gpt2", "gemma3", "falcon"])
@pytest.mark.parametrize("strength", [0.5, -1.0])
def test_a_matched_control_moves_predictions_as_far_as_the_edit(family: str, strength: float):
    model = open_tiny(family)
    spans = [Span(tuple(model.tokenizer(text)["input_ids"]), 8) for text in SENTENCES]
    edit = LowRankEdit({1: torch.eye(HIDDEN)[:4], 2: torch.eye(HIDDEN)[:4]}, strength, sites="both")
    drawn = draw_controls(replace(edit, bases={2: edit.bases[2][:2]}), 3, 0, off=(1, 5))
    matches = match_controls(model, spans, edit, drawn)
    matched = [replace(each, strength=match.strength) for each, match in zip(drawn, matches, strict=True)]
    moved = read_likelihoods(model, spans, [None, edit, *drawn, *matched]).divergence.sum(1)
    assert all(match.reached and match.strength * strength > strength**2 for match in matches)
    assert moved[5:] == pytest.approx([moved[1]] * 3, rel=0.02)
    assert max(moved[2:5]) < 0.7 * moved[1]


def test_a_control_that_cannot_be_matched_is_as_strong_as_any_that_was_tried():
    model = open_tiny("gpt2")
    spans = [Span(tuple(model.tokenizer(text)["input_ids"]), 8) for text in SENTENCES[:3]]
    edit = LowRankEdit({layer: torch.eye(HIDDEN)[:16] for layer in range(3)}, sites="both")
    weak = LowRankEdit({2: torch.eye(HIDDEN)[:1]})
    (match,) = match_controls(model, spans, edit, [weak])
    assert not match.reached and match.strength == MATCHING[-1] and 0 < match.divergence < match.wanted


def test_the_strength_between_two_that_were_read_is_that_of_a_power_law():
    for power in (1.5, 2.0, 3.0):
        moved = {times: 0.01 * times**power for times in MATCHING}
        for times in (1.0, 1.7, 3.0, 5.0, 9.0):
            assert match_divergence(moved, 0.01 * times**power) == pytest.approx((times, 0.01 * times**power))
    # Below all that were read, KL grows with the square; nothing is needed to move nothing.
    assert match_divergence({1: 0.04, 3: 0.3, 9: 1.0}, 0.01) == pytest.approx((0.5, 0.01))
    assert match_divergence({1: 0.04, 3: 0.3, 9: 1.0}, 0.0) == (0.0, 0.0)
    assert match_divergence({1: 0.0, 3: 0.0, 9: 0.09}, 0.01) == pytest.approx((3.0, 0.01))
    assert match_divergence({1: 0.1, 3: 0.2, 9: 0.3}, 0.5) == (9, 0.3)


@pytest.mark.parametrize(("vocab", "rows"), [(3072, 341), (49152, 128), (262144, 64), (2**25, 1)])
def test_rows_fill_a_cache_but_a_large_unembedding_is_not_read_for_a_few(vocab, rows):
    model = SimpleNamespace(device=torch.device("cpu"), anatomy=SimpleNamespace(vocab=vocab))
    assert count_rows(model) == rows


def test_chunks_of_positions_do_not_change_the_sums(monkeypatch):
    model = open_tiny("llama")
    spans = cut_windows(model.tokenizer(SENTENCES[0])["input_ids"], 16, 8)
    whole = read_likelihoods(model, spans, some_edits())
    assert count_rows(model) > len(some_edits())
    monkeypatch.setitem(read_likelihoods.__globals__, "count_rows", lambda model: 1)
    one_by_one = read_likelihoods(model, spans, some_edits())
    np.testing.assert_allclose(whole.surprise, one_by_one.surprise, rtol=1e-6)
    np.testing.assert_allclose(whole.divergence, one_by_one.divergence, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("tokens", "window", "stride"), [(1, 8, 4), (2, 8, 4), (8, 8, 4), (9, 8, 4), (50, 8, 7), (50, 8, 3)]
)
def test_windows_score_every_token_but_the_first_exactly_once(tokens: int, window: int, stride: int):
    spans = cut_windows(range(tokens), window, stride)
    scored = [token for span in spans for token in span.ids[-span.scored :]]
    assert scored == list(range(1, tokens)) and all(len(span.ids) <= window for span in spans)


def test_windowed_surprise_equals_a_loop_token_by_token():
    model = open_tiny("gpt2")
    ids = model.tokenizer(" ".join(SENTENCES), verbose=False)["input_ids"]
    read = read_likelihoods(model, cut_windows(ids, 64, 24), [None])
    total = 0.0
    for place in range(1, len(ids)):
        # The window that first reaches this token.
        begin = 0 if place < 64 else 24 * math.ceil((place - 63) / 24)
        with torch.no_grad():
            logits = model.network(torch.tensor([ids[begin:place]])).logits[0, -1]
        total -= logits.double().log_softmax(-1)[ids[place]].item()
    assert read.tokens.sum() == len(ids) - 1
    own = math.exp(read.surprise.sum() / read.tokens.sum())
    assert own == pytest.approx(math.exp(total / (len(ids) - 1)), rel=1e-4)


def test_windowed_perplexity_equals_the_recipe_of_the_transformers_documentation():
    model = open_tiny("gpt2")
    ids = torch.tensor([model.tokenizer("\n\n".join(SENTENCES * 4), verbose=False)["input_ids"]])
    window, stride, length = CONTEXT, CONTEXT // 2, ids.shape[1]
    sums, counts, previous = 0.0, 0, 0
    for begin in range(0, length, stride):
        end = min(begin + window, length)
        labels = ids[:, begin:end].clone()
        labels[:, : previous - end] = -100
        with torch.no_grad():
            loss = model.network(ids[:, begin:end], labels=labels).loss.item()
        # The documentation takes one token off the weight of every window, because labels shift by one; in fact only
        # the first window loses one, so its recipe and a count of every token differ by a hair.
        kept = int((labels != -100).sum())
        sums, counts = sums + loss * (kept - 1), counts + kept - 1
        if begin == 0:
            exact, exactly = loss * (kept - 1), kept - 1
        else:
            exact, exactly = exact + loss * kept, exactly + kept
        previous = end
        if end == length:
            break
    read = read_likelihoods(model, cut_windows(ids[0].tolist(), window, stride), [None])
    own = math.exp(read.surprise.sum() / read.tokens.sum())
    assert own == pytest.approx(math.exp(exact / exactly), rel=1e-5)
    assert own == pytest.approx(math.exp(sums / counts), rel=1e-4)


def test_scores_that_are_no_numbers_are_refused():
    model = three_tokens()
    model.network.transformer.h[0].mlp.c_proj.bias[0] = float("nan")
    with pytest.raises(InputError, match="not numbers"):
        read_likelihoods(model, [Span((0, 1), 1)], [None])


def test_reading_stops_from_its_progress_and_leaves_no_hook():
    model = three_tokens()
    spans = cut_windows([0, 1, 2] * 40, TOY_CONTEXT, 4)
    seen = []

    def stop(stage: str, done: int, total: int) -> None:
        seen.append((stage, done, total))
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        read_likelihoods(model, spans, [None, swap_edit()], stop, "Reading neutral text")
    assert seen == [("Reading neutral text", 0, len(spans)), ("Reading neutral text", 1, len(spans))]
    assert not any(module._forward_hooks for module in model.network.modules())
    with model.turns:
        pass
