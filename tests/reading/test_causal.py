"""The causal reading: what a direction promotes is what two whole passes, with it and without it, differ in."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from detox_engine.data.bundled import bundled_pairs
from detox_engine.data.pairs import read_pairs
from detox_engine.data.rude_words import INSULTS
from detox_engine.errors import Cancelled, InputError, ignore_progress
from detox_engine.estimates import estimate_means
from detox_engine.forward.embed import embed_pairs
from detox_engine.forward.sinks import FACTOR
from detox_engine.model.load import OpenModel, load_model
from detox_engine.model.tokens import show_token
from detox_engine.plans.sources import BUNDLED, ModelSpec, PairSpec
from detox_engine.reading import causal
from detox_engine.reading.causal import CausalReading, TokenEffect, pick_prompts, read_causally, run_clean
from detox_engine.study.methods.detox import fit_subspace
from tests.edit.test_edit import count_hooks
from tests.model.test_head import SCALED, open_scaled
from tests.models import FAMILIES, HIDDEN, LAYERS, SENTENCES, fresh_model, open_tiny

PROMPTS = ("What an idiot! He", "The train is late, and the referee said", "My neighbour", "She explained the soup")
EVERY = 10**6
"""More tokens than any pole has."""


def draw_directions(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, HIDDEN, generator=generator), dim=1)


def scores(reading: CausalReading) -> dict[int, float]:
    return {end.id: end.score for end in (*reading.toxic_pole, *reading.civil_pole)}


@torch.inference_mode()
def read_by_force(model: OpenModel, layer: int, direction: Tensor | None, spared: Sequence[int] = ()) -> Tensor:
    """Log p `[prompts, vocab]` of the next token from the whole model, prompt by prompt, the direction removed from
    what the block of `layer` gives; the tokens at `spared` places keep it."""
    found = []

    def remove(module, given, output):
        states = (output if isinstance(output, Tensor) else output[0]).clone()
        along = states @ direction
        along[:, list(spared)] = 0
        states -= along[..., None] * direction
        return states if isinstance(output, Tensor) else (states, *output[1:])

    handle = model.anatomy.blocks[layer].register_forward_hook(remove) if direction is not None else None
    for prompt in sorted(PROMPTS, key=lambda prompt: -len(model.tokenizer(prompt)["input_ids"])):
        ids = torch.tensor([model.tokenizer(prompt)["input_ids"]])
        found.append(model.network(input_ids=ids).logits[0, -1].float().log_softmax(-1))
    if handle is not None:
        handle.remove()
    return torch.stack(found)


@pytest.mark.parametrize("layer", range(LAYERS))
@pytest.mark.parametrize("family", [*FAMILIES, *SCALED])
def test_a_reading_is_the_difference_of_two_whole_passes(family, layer):
    model = open_scaled(family) if family in SCALED else open_tiny(family)
    directions = draw_directions(2)
    clean = run_clean(model, [layer], PROMPTS)
    before = read_by_force(model, layer, None)
    torch.testing.assert_close(clean.logarithms, before[:, clean.tokens], atol=1e-4, rtol=1e-4)
    for direction, reading in zip(directions, read_causally(model, clean, layer, directions, EVERY), strict=True):
        held = (before - read_by_force(model, layer, direction)).mean(0)
        found = scores(reading)
        assert set(found) == set(clean.tokens.tolist()) and len(found) == reading.tokens
        expected = held[list(found)].tolist()
        assert list(found.values()) == [pytest.approx(value, abs=2e-4) for value in expected]
        assert max(map(abs, expected)) > 0.01
        assert list(reading.toxic_pole) == sorted(reading.toxic_pole, key=lambda end: -end.score)
        assert [end.id for end in reading.civil_pole] == [end.id for end in reading.toxic_pole][::-1]


def test_directions_read_together_are_what_each_is_alone():
    model, directions = open_tiny("gemma2"), draw_directions(3)
    clean = run_clean(model, [0, 1], PROMPTS)
    together = read_causally(model, clean, 1, directions, EVERY)
    for direction, reading in zip(directions, together, strict=True):
        (alone,) = read_causally(model, run_clean(model, [1], PROMPTS), 1, direction[None], EVERY)
        assert scores(alone) == pytest.approx(scores(reading), abs=1e-5)
        assert (alone.chance, alone.prompts) == (pytest.approx(reading.chance, abs=1e-5), len(PROMPTS))


def test_only_the_blocks_above_the_layer_run_again():
    model, ran = open_tiny("llama"), []
    clean = run_clean(model, [1], PROMPTS)
    handles = [
        value.module.register_forward_hook(lambda module, given, output, layer=layer: ran.append(layer))
        for layer, value in enumerate(model.anatomy.values)
    ]
    # No token is listed: words are finished by the whole model.
    read_causally(model, clean, 1, draw_directions(1), top=0)
    for handle in handles:
        handle.remove()
    assert set(ran) == {2}


def test_tokens_below_the_floor_and_special_ones_are_left_out(monkeypatch):
    model = open_tiny("llama")
    mean = read_by_force(model, 0, None).exp().mean(0)
    # In the widest gap about the median: a floor that is a token's own figure would leave that token to rounding.
    middle = mean.sort().values[len(mean) // 2 - 20 : len(mean) // 2 + 20]
    widest = int(middle.diff().argmax())
    floor = float(middle[widest : widest + 2].mean())
    monkeypatch.setattr(causal, "LIKELY", floor)
    clean = run_clean(model, [0], PROMPTS)
    likely = set((mean > floor).nonzero()[:, 0].tolist())
    assert set(clean.tokens.tolist()) == likely - set(model.tokenizer.all_special_ids)
    assert 0 < len(clean.tokens) < len(mean) - 100
    monkeypatch.setattr(causal, "LIKELY", 0.0)
    everything = run_clean(model, [0], PROMPTS).tokens
    assert model.tokenizer.eos_token_id not in everything and len(everything) == len(mean) - 1


def open_changed(network) -> OpenModel:
    return replace(open_tiny("llama"), network=network)


def plant(model: OpenModel, clean_layer: int, tokens: Sequence[int]) -> Tensor:
    """A direction along which the last states lie in part, and which the unembedding's rows of `tokens` answer to."""
    clean = run_clean(model, [clean_layer], SENTENCES)
    mean = torch.stack([states[-1] for states in clean.states[clean_layer]]).mean(0)
    direction = torch.nn.functional.normalize(1.2 * mean / mean.norm() + draw_directions(1, seed=8)[0], dim=0)
    gained = direction * model.anatomy.norm_gain
    model.anatomy.unembedding.weight.data[list(tokens)] += 2 * gained / gained.norm()
    return direction


def test_a_planted_direction_reads_as_its_tokens_and_a_dead_one_does_not_read():
    network = fresh_model("llama", tie_word_embeddings=False)
    model = open_changed(network)
    # The first coordinate of the residual stream is never written.
    network.model.embed_tokens.weight.data[:, 0] = 0
    for block in model.anatomy.blocks:
        block.mlp.down_proj.weight.data[0] = 0
        block.self_attn.o_proj.weight.data[0] = 0
    tokens = range(300, 308)
    direction = plant(model, LAYERS - 1, tokens)
    dead = torch.eye(HIDDEN)[0]
    clean = run_clean(model, [LAYERS - 1], SENTENCES)
    planted, none = read_causally(model, clean, LAYERS - 1, torch.stack([direction, dead]), top=8)
    assert {end.id for end in planted.toxic_pole} == set(tokens)
    assert all(end.is_read and 0 < planted.chance < end.low <= end.score <= end.high for end in planted.toxic_pole)
    assert planted.is_readable and planted.read >= 8
    assert not none.is_readable and none.read == 0 and none.chance < 1e-4
    assert all(abs(end.score) < 1e-4 and not end.is_read for end in none.toxic_pole + none.civil_pole)


def chain_tokens(model: OpenModel, after: dict[int, Sequence[int]]) -> None:
    """Change a model without ties so that each of these tokens is followed by one of its list, all of it as likely."""
    for block in model.anatomy.blocks:
        block.mlp.down_proj.weight.data[:] = 0
        block.self_attn.o_proj.weight.data[:] = 0
    rows = model.anatomy.unembedding.weight.data
    rows[[one for following in after.values() for one in following]] = 0
    for axis, (token, following) in enumerate(after.items()):
        model.network.model.embed_tokens.weight.data[token] = 10 * torch.eye(HIDDEN)[axis]
        rows[list(following), axis] = 50 / model.anatomy.norm_gain[axis]


def test_a_token_that_begins_a_word_is_finished_as_the_model_goes_on(monkeypatch):
    monkeypatch.setattr(causal, "LIKELY", -1.0)
    model = open_changed(fresh_model("llama", tie_word_embeddings=False))
    shown = {id: show_token(model.tokenizer, id) for id in range(len(model.tokenizer))}
    starts = [id for id, token in shown.items() if token.startswith("·") and token[1:].isalpha()][:3]
    inner = [id for id, token in shown.items() if token.isalpha()][:5]
    chain_tokens(model, {starts[0]: [inner[0]], inner[0]: [inner[1]], inner[1]: [starts[2]], starts[1]: inner[2:]})
    clean = run_clean(model, [LAYERS - 1], SENTENCES)
    read_causally(model, clean, LAYERS - 1, draw_directions(1), EVERY)
    assert len(clean.endings) == 2 * causal.MOST_FINISHED
    causal._finish_words(model, clean, {*starts, inner[0]}, ignore_progress)
    ends = [TokenEffect(id, shown[id], 1.0, 0.5, 1.5, True, ending=clean.endings[id]) for id in (*starts[:2], inner[0])]
    assert [end.word for end in ends] == [
        shown[starts[0]] + shown[inner[0]] + shown[inner[1]],
        shown[starts[1]],  # three pieces are as likely
        shown[inner[0]] + shown[inner[1]],
    ]


def test_a_reading_has_the_endings_of_its_words(monkeypatch):
    model = open_tiny("llama")
    clean = run_clean(model, [1], PROMPTS)

    def finish(model, clean, tokens, progress):
        clean.endings.update({token: f"-{token}" for token in tokens})

    monkeypatch.setattr(causal, "_finish_words", finish)
    for reading in read_causally(model, clean, 1, draw_directions(2), top=3):
        assert all(end.ending == f"-{end.id}" for end in reading.toxic_pole + reading.civil_pole)


def test_attention_sinks_are_left_as_they_are():
    network = fresh_model("llama")
    first = open_tiny("llama").tokenizer(PROMPTS[0])["input_ids"][0]
    model = open_changed(network)
    network.model.embed_tokens.weight.data[first] *= 300
    (direction,) = draw_directions(1, seed=3)
    clean = run_clean(model, [1], PROMPTS[:1])
    norms = clean.states[1][0].norm(dim=-1)
    assert norms[0] > FACTOR * norms.median() and (norms[1:] < FACTOR * norms.median()).all()
    (reading,) = read_causally(model, clean, 1, direction[None], EVERY)
    row = sorted(PROMPTS, key=lambda prompt: -len(model.tokenizer(prompt)["input_ids"])).index(PROMPTS[0])
    before, spared, whole = (
        read_by_force(model, 1, *asked)[row] for asked in ((None,), (direction, [0]), (direction,))
    )
    found = scores(reading)
    assert found == pytest.approx({id: float((before - spared)[id]) for id in found}, abs=2e-4)
    assert (spared - whole).abs().max() > 0.01


def test_controls_keep_off_the_massive_dimensions_and_are_the_same_for_every_direction():
    control = causal._draw_control(2, HIDDEN, (3, 7))
    assert control[3] == control[7] == 0 and float(control.norm()) == pytest.approx(1)
    torch.testing.assert_close(control, causal._draw_control(2, HIDDEN, (3, 7)))
    assert abs(float(control @ causal._draw_control(1, HIDDEN, ()))) < 0.9


def test_stopping_leaves_the_model_as_it_was():
    model = open_tiny("gpt2")
    hooks = count_hooks(model.network)
    clean = run_clean(model, [1], PROMPTS)
    before = read_by_force(model, 0, None)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "Removing directions" and done:
            raise Cancelled

    with pytest.raises(Cancelled):
        read_causally(model, clean, 1, draw_directions(2), progress=stop)
    assert count_hooks(model.network) == hooks
    assert not any("forward" in vars(block) for block in model.anatomy.blocks)
    assert torch.equal(read_by_force(model, 0, None), before)


def test_progress_counts_prompts_then_removals_with_their_controls():
    model, told = open_tiny("gpt2"), []
    clean = run_clean(model, [0], PROMPTS, progress=lambda *step: told.append(step))
    read_causally(model, clean, 0, draw_directions(2), progress=lambda *step: told.append(step))
    assert told[0] == ("Reading prompts", 0, 4) and ("Reading prompts", 4, 4) in told
    assert ("Removing directions", 16, 16) in told
    assert {stage for stage, *_ in told[told.index(("Removing directions", 16, 16)) + 1 :]} == {"Finishing words"}


def test_the_prompts_are_the_shortest_of_the_models_own():
    model = open_tiny("gpt2")
    prompts = pick_prompts(model, 5)
    assert len(prompts) == 5 and len(pick_prompts(model)) == causal.PROMPTS
    assert max(map(len, prompts)) <= min(map(len, pick_prompts(model)[5:]))
    bundled = replace(model, spec=replace(model.spec, name="bundled"))
    assert all(prompt.endswith(', "You are a') for prompt in pick_prompts(bundled))
    assert len(pick_prompts(bundled)) == causal.PROMPTS


def test_what_cannot_be_read_is_one_sentence():
    model = open_tiny("llama")
    with pytest.raises(InputError, match="Layer 3 is outside the model"):
        run_clean(model, [3], PROMPTS)
    network = fresh_model("llama")
    broken = open_changed(network)
    network.model.embed_tokens.weight.data[:] = torch.nan
    with pytest.raises(InputError, match="not numbers"):
        run_clean(broken, [0], PROMPTS)


def test_means_of_rows_have_the_interval_of_items_drawn_again():
    values = np.random.default_rng(0).normal([[0.0], [5.0]], [[1.0], [2.0]], (2, 400))
    one, other = estimate_means(values, 2000, 0)
    for estimate, row in ((one, values[0]), (other, values[1])):
        assert estimate.mean == pytest.approx(row.mean()) and estimate.n == 400
        error = 1.96 * row.std() / 20
        assert (estimate.low, estimate.high) == pytest.approx(
            (row.mean() - error, row.mean() + error), abs=0.15 * error
        )
    assert estimate_means(np.ones((1, 7)), 100, 0)[0].low == 1


def test_the_first_direction_of_the_bundled_model_reads_as_insults():
    model = load_model(ModelSpec(device="cpu"))
    embeddings = embed_pairs(model, read_pairs(PairSpec(limit=60), bundled_pairs(BUNDLED)).pairs)
    subspace = fit_subspace(embeddings.toxic[6], embeddings.civil[6], 1)
    clean = run_clean(model, [6], pick_prompts(model, 12))
    (reading,) = read_causally(model, clean, 6, subspace.basis)
    insults = [end.token.strip("·").lower() in INSULTS for end in reading.toxic_pole]
    assert reading.is_readable and sum(insults) >= 8 and all(end.is_read for end in reading.toxic_pole[:5])
