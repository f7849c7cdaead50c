"""One hooked pass: every embedding is what its text alone would give, and none of the published faults is repeated."""

import copy
import math
import threading
import time
from dataclasses import replace

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from detox_engine.data.columns import Pair
from detox_engine.errors import Cancelled, InputError
from detox_engine.forward import embed as embeddings
from detox_engine.forward.embed import TOKEN_BUDGET, _run_batch, embed_pairs
from detox_engine.forward.embedded_pairs import TokenMoments
from detox_engine.model.anatomy import block_output
from detox_engine.model.tokens import tokenize_text
from detox_engine.study.methods.detox import fit_subspace, fit_subspace_of
from detox_engine.study.moments import Moments
from detox_engine.study.subspace import principal_angles
from tests.models import FAMILIES, SENTENCES, fresh_model, open_tiny
from tests.three_tokens import three_tokens

PAIRS = [
    Pair("", SENTENCES[3], SENTENCES[4]),
    Pair("The printer is", " crap, it eats every page I give it, and so are you, you idiot.", " out of paper."),
    Pair("Well,", " shut up.", " please read the review once more before you merge the branch, and thank you."),
    Pair("", SENTENCES[6], SENTENCES[1]),
    Pair("My neighbour", " is an idiot.", " plays the trumpet."),
]


def embed(family="gpt2", pairs=PAIRS, **options):
    model = open_tiny(family)
    return embed_pairs(model, pairs, **options)


def count_hooks(model):
    """The transformers library leaves hooks of its own, so only the number can be compared."""
    return sum(len(part._forward_hooks) for part in model.modules())


def block_states(model, text):
    """`[layers, tokens, hidden]` of one text by itself, taken from the blocks in a plain pass."""
    states = []
    handles = [
        block.register_forward_hook(lambda module, args, output: states.append(block_output(output)[0].clone()))
        for block in model.anatomy.blocks
    ]
    with torch.no_grad():
        model.network(**model.tokenizer(text, return_tensors="pt"))
    for handle in handles:
        handle.remove()
    return torch.stack(states)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_embedding_is_the_mean_over_the_texts_own_tokens_whatever_else_is_in_the_batch(family):
    model = open_tiny(family)
    found = embed(family)
    assert found.toxic.shape == (3, len(PAIRS), 32)
    for side, texts in ((found.toxic, [p.toxic_text for p in PAIRS]), (found.civil, [p.civil_text for p in PAIRS])):
        for index, text in enumerate(texts):
            alone = block_states(model, text).mean(1)
            torch.testing.assert_close(side[:, index], alone, rtol=1e-4, atol=1e-5)


def test_the_last_layer_is_taken_before_the_final_norm():
    model = open_tiny("gpt2")
    text = PAIRS[0].toxic_text
    last = block_states(model, text)[-1]
    with torch.no_grad():
        normed = model.network(**model.tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
    assert not torch.allclose(normed[-1][0], last)
    torch.testing.assert_close(model.anatomy.final_norm(last), normed[-1][0])
    torch.testing.assert_close(embed().toxic[-1, 0], last.mean(0), rtol=1e-4, atol=1e-5)


def test_pooling_over_the_continuation_leaves_the_prompt_out():
    model = open_tiny("llama")
    whole, continuation, last = (embed("llama", pooling=pooling) for pooling in ("mean", "continuation", "last"))
    pair = PAIRS[1]
    states = block_states(model, pair.toxic_text)
    prompt_tokens = len(model.tokenizer(pair.prompt)["input_ids"])
    torch.testing.assert_close(continuation.toxic[:, 1], states[:, prompt_tokens:].mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last.toxic[:, 1], states[:, -1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(whole.toxic[:, 1], continuation.toxic[:, 1], atol=1e-2)
    # Without a prompt the whole text is the continuation.
    torch.testing.assert_close(whole.toxic[:, 0], continuation.toxic[:, 0])


def with_beginning(model):
    """The model with a tokenizer that puts its first token before every text, as Llama's does."""
    tokenizer = copy.deepcopy(model.tokenizer)
    begin = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.bos_token_id)]
    )
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    return replace(model, tokenizer=tokenizer)


def test_tokens_that_the_tokenizer_adds_are_run_but_not_pooled():
    model = open_tiny("llama")
    begin = model.tokenizer.bos_token
    found = embed_pairs(with_beginning(model), PAIRS[:2])
    states = block_states(model, begin + PAIRS[0].toxic_text)
    torch.testing.assert_close(found.toxic[:, 0], states[:, 1:].mean(1), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found.toxic[:, 0], states.mean(1), atol=1e-3)
    assert found.special == 0


def test_a_text_that_begins_with_what_the_tokenizer_adds_has_it_once():
    model = open_tiny("llama")
    begin = model.tokenizer.bos_token
    marked = [Pair(pair.prompt, begin + pair.toxic, begin + pair.civil) for pair in PAIRS[3:4]]
    found, plain = (embed_pairs(with_beginning(model), pairs) for pairs in (marked, PAIRS[3:4]))
    torch.testing.assert_close(found.toxic, plain.toxic, rtol=1e-4, atol=1e-5)
    assert found.tokens == plain.tokens


def test_special_tokens_in_a_text_are_read_and_never_pooled():
    model = open_tiny("llama")
    end = model.tokenizer.eos_token
    pair = Pair("", f"You idiot.{end} Shut up.", "Thank you.")
    found = embed_pairs(model, [pair, *PAIRS[:1]])
    states, ids = block_states(model, pair.toxic), model.tokenizer(pair.toxic)["input_ids"]
    own = [place for place, id in enumerate(ids) if id != model.tokenizer.eos_token_id]
    assert len(own) == len(ids) - 1
    torch.testing.assert_close(found.toxic[:, 0], states[:, own].mean(1), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found.toxic[:, 0], states.mean(1), atol=1e-3)
    assert found.special == 1
    with pytest.raises(InputError, match="No token of the text is within the longest length"):
        embed_pairs(model, [Pair("", end, "Thank you."), *PAIRS[:1]])


def test_a_word_that_the_tokenizer_does_not_know_is_the_texts_own():
    model = three_tokens()
    assert tokenize_text(model.tokenizer, "a zebra b").own == (True, True, True)
    assert tokenize_text(model.tokenizer, "a <end> b").own == (True, False, True)


def test_every_pair_is_embedded_also_those_of_an_incomplete_batch(monkeypatch):
    monkeypatch.setitem(TOKEN_BUDGET, "cpu", 64)
    pairs = (PAIRS * 3)[:13]
    small_batches = embed(pairs=pairs)
    assert small_batches.toxic.shape[1] == 13
    monkeypatch.setitem(TOKEN_BUDGET, "cpu", 10**6)
    torch.testing.assert_close(small_batches.civil, embed(pairs=pairs).civil, rtol=1e-4, atol=1e-5)


def test_batches_that_run_side_by_side_give_what_one_after_the_other_gives(monkeypatch):
    alone = embed(pairs=PAIRS * 4)
    threads, seen = torch.get_num_threads(), set()
    run = _run_batch

    def watched(*arguments):
        seen.add(threading.current_thread().name)
        return run(*arguments)

    monkeypatch.setattr(embeddings, "_run_batch", watched)
    monkeypatch.setitem(TOKEN_BUDGET, "cpu", 64)
    torch.set_num_threads(4)
    try:
        together = embed(pairs=PAIRS * 4)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(threads)
    assert len(seen) > 1
    torch.testing.assert_close(together.toxic, alone.toxic, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.civil, alone.civil, rtol=1e-4, atol=1e-5)


def test_a_comparison_that_waits_gets_its_turn_between_two_batches(monkeypatch):
    monkeypatch.setitem(TOKEN_BUDGET, "cpu", 64)
    model = open_tiny("gpt2")
    order, asked = [], threading.Event()
    run = _run_batch

    def compare():
        with model.turns:
            order.append("comparison")

    other = threading.Thread(target=compare)

    def watched(*arguments):
        if not asked.is_set():
            asked.set()
            other.start()
            while not model.turns.wanted:
                time.sleep(0.001)
        order.append("batch")
        return run(*arguments)

    monkeypatch.setattr(embeddings, "_run_batch", watched)
    found = embed_pairs(model, PAIRS * 4)
    other.join()
    assert "batch" in order[: order.index("comparison")]
    assert "batch" in order[order.index("comparison") :]
    torch.testing.assert_close(found.toxic, embed(pairs=PAIRS * 4).toxic, rtol=1e-4, atol=1e-5)


def test_the_head_does_not_run_and_no_hook_is_left():
    model = open_tiny("gpt2")
    ran, hooks = [], count_hooks(model.network)
    with (
        model.anatomy.unembedding.register_forward_hook(lambda *_: ran.append("head")),
        model.anatomy.blocks[2].register_forward_hook(lambda *_: ran.append("block 2")),
    ):
        embed_pairs(model, PAIRS)
    assert set(ran) == {"block 2"}
    assert count_hooks(model.network) == hooks


def test_long_texts_are_cut_at_their_end_and_named():
    pairs = [PAIRS[4], Pair("", "shut up " * 12, "thank you " * 5)]
    found = embed(pairs=pairs, max_length=20)
    assert found.cut == (1,)
    model = open_tiny("gpt2")
    states = block_states(model, pairs[1].toxic_text)
    torch.testing.assert_close(found.toxic[:, 1], states[:, :20].mean(1), rtol=1e-4, atol=1e-5)


def test_a_continuation_that_is_cut_away_whole_is_an_input_error():
    with pytest.raises(InputError, match="No token of the continuation is within the longest length of 4 tokens"):
        embed(pairs=[Pair("thank you " * 5, " idiot", " friend")] * 2, max_length=4, pooling="continuation")


def test_progress_counts_texts_and_can_stop_the_pass(monkeypatch):
    monkeypatch.setitem(TOKEN_BUDGET, "cpu", 64)
    seen, hooks = [], count_hooks(open_tiny("gpt2").network)
    embed(progress=lambda *event: seen.append(event))
    assert [event[1] for event in seen] == sorted(event[1] for event in seen)
    assert seen[-1][1:] == (10, 10)

    def stop(stage, done, total):
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        embed(progress=stop)
    assert count_hooks(open_tiny("gpt2").network) == hooks


def test_embeddings_that_are_not_finite_name_the_layer_and_the_text():
    broken = replace(open_tiny("gpt2"), network=fresh_model("gpt2"))
    broken.anatomy.values[1].module.weight.data[:] = 1e38
    with pytest.raises(InputError, match="embedding at layer 1 of the text “"):
        embed_pairs(broken, PAIRS)


def test_a_batch_that_does_not_fit_is_halved_and_a_text_that_does_not_fit_is_an_input_error(monkeypatch):
    expected = embed()
    run, sizes = _run_batch, []

    def scarce(model, texts, pool, counted):
        sizes.append(len(texts))
        if len(texts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")
        return run(model, texts, pool, counted)

    monkeypatch.setattr(embeddings, "_run_batch", scarce)
    found = embed()
    assert max(sizes) > 2
    torch.testing.assert_close(found.toxic, expected.toxic, rtol=1e-4, atol=1e-5)

    def nothing_fits(*args):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 123 bytes.")

    monkeypatch.setattr(embeddings, "_run_batch", nothing_fits)
    with pytest.raises(InputError, match="not enough memory for one text of 36 tokens"):
        embed()


def test_tokens_of_a_pass_that_ran_out_of_memory_are_counted_once():
    model = replace(open_tiny("gpt2"), network=fresh_model("gpt2"))
    centres, sizes = torch.zeros(3, 32), []
    whole, halved = TokenMoments.empty(centres), TokenMoments.empty(centres)
    expected = embed_pairs(model, PAIRS, moments=whole)

    def scarce(block, given, returned):
        sizes.append(len(block_output(returned)))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")

    model.anatomy.blocks[2].register_forward_hook(scarce)
    found = embed_pairs(model, PAIRS, moments=halved)
    assert max(sizes) > 2
    assert torch.equal(halved.count, whole.count) and whole.count.min() > 0
    torch.testing.assert_close(halved.products, whole.products, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.civil, expected.civil, rtol=1e-4, atol=1e-5)


def test_states_in_bfloat16_are_summed_in_float32():
    model = replace(open_tiny("llama"), network=fresh_model("llama").bfloat16())
    seen = []
    handle = model.anatomy.blocks[1].register_forward_hook(lambda _block, _given, out: seen.append(block_output(out)))
    found = embed_pairs(model, PAIRS[:1])
    handle.remove()
    assert found.toxic.dtype == torch.float32 and seen[0].dtype == torch.bfloat16
    wide = [state.double().mean(0) for states in seen for state in states]
    rounded = [state.mean(0).double() for states in seen for state in states]
    own = found.toxic[1, 0].double()
    assert min((own - each).norm() for each in wide) < 1e-6 * own.norm() < min((own - each).norm() for each in rounded)


def published_subspace(model, tokenizer, texts_toxic, texts_civil, layer):
    """The published steps for one layer, in plain code: padded mean, full SVDs, last block run again by hand."""

    def states(texts):
        with torch.no_grad():
            batch = tokenizer(texts, return_tensors="pt", padding=True)
            hidden = model(**batch, output_hidden_states=True).hidden_states
            if layer + 1 < len(hidden) - 1:
                return hidden[layer + 1].mean(1)
            return block_output(model.transformer.h[-1](hidden[-2])).mean(1)

    toxic, civil = states(texts_toxic), states(texts_civil)
    mean = torch.linalg.svd(civil, full_matrices=False).Vh[0]
    differences = toxic - civil
    differences = differences - differences @ torch.outer(mean, mean)
    decomposed = torch.linalg.svd(differences, full_matrices=False)
    return decomposed.S, decomposed.Vh


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_on_texts_of_equal_length_the_result_is_the_published_one(layer):
    model = open_tiny("gpt2")
    tokenizer: PreTrainedTokenizerFast = model.tokenizer
    generator = torch.Generator().manual_seed(0)

    def text():
        while True:
            ids = torch.randint(10, 350, (12,), generator=generator).tolist()
            candidate = tokenizer.decode(ids)
            if len(tokenizer(candidate)["input_ids"]) == 12 and "�" not in candidate:
                return candidate

    toxic, civil = [text() for _ in range(24)], [text() for _ in range(24)]
    pairs = [Pair("", *sides) for sides in zip(toxic, civil, strict=True)]
    found = embed_pairs(model, pairs)
    ours = fit_subspace(found.toxic[layer], found.civil[layer], keep=8)
    values, rows = published_subspace(model.network, tokenizer, toxic, civil, layer)
    torch.testing.assert_close(ours.singular_values[:20], values[:20], rtol=1e-4, atol=1e-5)
    for rank in (1, 2, 4):
        assert principal_angles(ours.basis[:rank], rows[:rank]).max() < 0.1


def test_padding_would_have_changed_the_published_embeddings():
    """The fault itself, so that the test above cannot pass for a wrong reason: texts of unequal length differ."""
    model = open_tiny("gpt2")
    found = embed()
    toxic, civil = [pair.toxic_text for pair in PAIRS], [pair.civil_text for pair in PAIRS]
    values, _ = published_subspace(model.network, model.tokenizer, toxic, civil, 1)
    ours = fit_subspace(found.toxic[1], found.civil[1], keep=4)
    assert math.dist(ours.singular_values[:4].tolist(), values[:4].tolist()) > 0.05


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("streamed", [False, True], ids=["kept", "streamed"])
def test_a_fit_is_that_of_a_float64_reference_text_by_text(family, streamed, monkeypatch):
    monkeypatch.setitem(TOKEN_BUDGET, "cpu", 64)
    pairs = [Pair(one.prompt, one.toxic, other.civil) for one in PAIRS for other in PAIRS]
    found = embed(family, pairs)
    reference = replace(open_tiny(family), network=fresh_model(family).double())
    toxic, civil = (
        torch.stack([block_states(reference, text).mean(1) for text in texts], dim=1)
        for texts in ([pair.toxic_text for pair in pairs], [pair.civil_text for pair in pairs])
    )
    assert toxic.dtype == torch.float64
    for layer in range(len(toxic)):
        mean = torch.linalg.svd(civil[layer], full_matrices=False).Vh[0]
        differences = toxic[layer] - civil[layer]
        values, basis = torch.linalg.svd(differences - torch.outer(differences @ mean, mean))[1:]
        if streamed:
            moments = Moments.empty(found.toxic.shape[-1])
            for part in (slice(0, 10), slice(10, None)):
                moments.add(found.toxic[layer, part], found.civil[layer, part])
            fitted = fit_subspace_of(moments, 3)
        else:
            fitted = fit_subspace(found.toxic[layer], found.civil[layer], 3)
        torch.testing.assert_close(fitted.singular_values[:8].double(), values[:8], rtol=1e-4, atol=0)
        assert principal_angles(fitted.basis, basis[:3]).max() < 0.1
