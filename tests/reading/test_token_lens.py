"""Token lens: a planted direction lights up the planted tokens alone, before and after are the model really run."""

from dataclasses import replace

import pytest
import torch

from detox_engine.data.columns import Pair
from detox_engine.edit.in_weights import edited_weights
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError
from detox_engine.forward.sinks import FACTOR, Sinks
from detox_engine.forward.tokens import encode_text, project_rows
from detox_engine.model import batches
from detox_engine.model.anatomy import block_output
from detox_engine.reading.token_lens import find_scale, project_text
from tests.models import CONTEXT, FAMILIES, HIDDEN, LAYERS, SENTENCES, fresh_model, open_tiny

TEXT = SENTENCES[3]


def draw_basis(rank: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(HIDDEN, rank, generator=generator)).Q.T.contiguous()


def every_layer(basis: torch.Tensor) -> dict[int, torch.Tensor]:
    return dict.fromkeys(range(LAYERS), basis)


def states_of(model, ids) -> torch.Tensor:
    """`[layers, tokens, hidden]` from the blocks in a plain pass."""
    states = []
    handles = [
        block.register_forward_hook(lambda module, given, output: states.append(block_output(output)[0].clone()))
        for block in model.anatomy.blocks
    ]
    with torch.no_grad():
        model.network(input_ids=torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return torch.stack(states)


def plant(tokens: set[int], direction: torch.Tensor, height: float):
    """A model that has nothing along `direction` but what the embeddings of `tokens` bring."""
    model = fresh_model("gpt2")
    trunk = model.transformer
    writers = [block.attn.c_proj for block in trunk.h] + [block.mlp.c_proj for block in trunk.h]
    for matrix in (trunk.wte.weight, trunk.wpe.weight, *(part for writer in writers for part in writer.parameters())):
        matrix -= (matrix @ direction)[..., None] * direction
    trunk.wte.weight[list(tokens)] += height * direction
    return replace(open_tiny("gpt2"), network=model)


def test_a_planted_direction_lights_up_exactly_the_planted_tokens():
    tokenizer = open_tiny("gpt2").tokenizer
    ids = tokenizer(TEXT)["input_ids"]
    planted = {ids[4], ids[9]}
    basis = draw_basis(2)
    model = plant(planted, basis[1], 3.0)
    found = project_text(model, TEXT, every_layer(basis))
    lit = torch.tensor([id in planted for id in ids])
    assert 2 <= lit.sum() < len(ids)
    for layer in range(LAYERS):
        torch.testing.assert_close(found.along(1)[layer], 3.0 * lit, atol=1e-4, rtol=0)
        assert (found.along(0)[layer].abs() > 1e-3).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_before_and_after_are_the_states_of_the_model_and_of_the_edited_model(family):
    model = open_tiny(family)
    bases = {layer: draw_basis(3, layer) for layer in (0, 2)}
    edit = LowRankEdit({1: draw_basis(2, 7)})
    found = project_text(model, TEXT, bases, edit)
    assert found.layers == (0, 2) and found.before.shape == (2, len(found.text.ids), 3)
    before = states_of(model, found.text.ids)
    with edited_weights(model.anatomy, edit):
        after = states_of(model, found.text.ids)
    for place, layer in enumerate((0, 2)):
        torch.testing.assert_close(found.before[place], before[layer] @ bases[layer].T, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.after[place], after[layer] @ bases[layer].T, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.before[0], found.after[0])
    assert not torch.allclose(found.before[1], found.after[1], atol=1e-2)


def test_norms_and_signs_are_those_of_the_projection_on_the_subspace():
    model = open_tiny("gpt2")
    basis = draw_basis(4)
    edit = LowRankEdit({0: basis[:1]})
    found = project_text(model, TEXT, every_layer(basis), edit)
    states = states_of(model, found.text.ids)
    torch.testing.assert_close(found.along(2), states @ basis[2], rtol=1e-4, atol=1e-4)
    onto = states @ basis[:3].T @ basis[:3]
    torch.testing.assert_close(found.norms(3), onto.norm(dim=-1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.norms(1, after=True), found.along(0, after=True).abs())
    with pytest.raises(ValueError, match="without an edit"):
        project_text(model, TEXT, every_layer(basis)).along(0, after=True)


def test_states_that_pass_by_are_those_of_each_side_without_padding():
    model = open_tiny("llama")
    edit, seen = LowRankEdit({1: draw_basis(2, 7)}), {}
    found = project_text(
        model, TEXT, every_layer(draw_basis(2)), edit,
        read=lambda after, layer, states: seen.update({(after, layer): states.clone()}),
    )  # fmt: skip
    assert set(seen) == {(after, layer) for after in (False, True) for layer in range(LAYERS)}
    for after in (False, True):
        states = torch.stack([seen[after, layer] for layer in range(LAYERS)])
        assert states.shape == (LAYERS, len(found.text.ids), HIDDEN)
        projected = states @ draw_basis(2).T
        torch.testing.assert_close(projected, found.after if after else found.before, rtol=1e-4, atol=1e-4)


def test_a_row_does_not_depend_on_its_batch(monkeypatch):
    model = open_tiny("llama")
    bases = every_layer(draw_basis(2))
    edit = LowRankEdit({0: draw_basis(1, 5)})
    rows = [(encode_text(model, text).ids, None if row % 2 else edit) for row, text in enumerate(SENTENCES)]
    monkeypatch.setitem(batches.TOKEN_BUDGET, "cpu", 70)
    small = project_rows(model, rows, bases)
    for row, found in zip(rows, small, strict=True):
        (alone,) = project_rows(model, [row], bases)
        assert found.shape == (LAYERS, len(row[0]), 2)
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        "  two  spaces, a tab\tand a line\nbreak ",
        "אתה idiot גמור",
        "مرحبا",
        "Hey 👩‍🚒🏽 é naïve 日本",
        "a\x00b\x1b[31m\u202e\u200b",
        "<script>alert('&amp;')</script> [bold]",
    ],
    ids=["words", "spaces", "hebrew", "arabic", "emoji", "control", "html"],
)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_pieces_join_to_the_text_whatever_it_holds(family, text):
    model = open_tiny(family)
    encoded = encode_text(model, text)
    assert "".join(encoded.pieces) == text and encoded.cut == 0
    assert len(encoded.pieces) == len(encoded.tokens) == len(encoded.ids)
    assert all(token.isprintable() and token for token in encoded.tokens)
    found = project_text(model, text, every_layer(draw_basis(1)))
    assert found.before.isfinite().all()


def test_a_character_of_several_tokens_belongs_to_the_last_of_them():
    encoded = encode_text(open_tiny("gpt2"), "a日b")
    assert encoded.pieces == ("a", "", "", "日", "b")


def test_pieces_are_the_same_without_offsets():
    model = open_tiny("gpt2")

    class Slow:
        is_fast = False

        def __getattr__(self, name):
            return getattr(model.tokenizer, name)

        def __call__(self, text, return_offsets_mapping, **options):
            assert not return_offsets_mapping
            return model.tokenizer(text, **options)

    text = "You idiot, 日本 and a 👩‍🚒!"
    assert encode_text(replace(model, tokenizer=Slow()), text) == encode_text(model, text)


def test_tokens_that_the_tokenizer_adds_have_no_piece():
    model = open_tiny("gpt2")

    class Framed:
        """Begins and ends every text, as Gemma's and BERT's tokenizers do."""

        def __getattr__(self, name):
            return getattr(model.tokenizer, name)

        def __call__(self, text, **options):
            encoded = model.tokenizer(text, **options)
            end = model.tokenizer.eos_token_id
            encoded["input_ids"] = [end, *encoded["input_ids"], end]
            encoded["special_tokens_mask"] = [1, *encoded["special_tokens_mask"], 1]
            encoded["offset_mapping"] = [(0, 0), *encoded["offset_mapping"], (0, 0)]
            return encoded

    plain, framed = encode_text(model, TEXT), encode_text(replace(model, tokenizer=Framed()), TEXT)
    assert framed.pieces == ("", *plain.pieces, "") and framed.tokens[0] == "<|endoftext|>"


def test_ten_thousand_tokens_are_cut_to_the_context_and_say_so():
    model = open_tiny("gpt2")
    text = " idiot" * 10_000
    total = len(model.tokenizer(text, verbose=False)["input_ids"])
    encoded = encode_text(model, text)
    assert total >= 10_000 and len(encoded.ids) == CONTEXT and encoded.cut == total - CONTEXT
    assert text.startswith("".join(encoded.pieces)) and "".join(encoded.pieces).endswith("i")
    shorter = encode_text(model, text, longest=9)
    assert shorter.ids == encoded.ids[:9] and shorter.pieces == encoded.pieces[:9] and shorter.cut == total - 9
    assert len(encode_text(replace(model, context=None), text).ids) == 1024


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_an_empty_text_is_refused(text):
    with pytest.raises(InputError, match="empty: write some words"):
        encode_text(open_tiny("gpt2"), text)


def test_half_a_character_and_a_length_of_nothing_are_refused():
    with pytest.raises(InputError, match="not UTF-8"):
        encode_text(open_tiny("gpt2"), "you \ud83d idiot")
    with pytest.raises(InputError, match="1 token or more, not 0"):
        encode_text(open_tiny("gpt2"), "you", longest=0)


def test_states_that_are_not_finite_name_the_layer():
    model = replace(open_tiny("gpt2"), network=fresh_model("gpt2"))
    model.network.transformer.h[1].mlp.c_proj.bias[0] = float("nan")
    with pytest.raises(InputError, match="after layer 1 are not finite"):
        project_text(model, TEXT, every_layer(draw_basis(1)))


def test_too_little_memory_is_one_sentence(monkeypatch):
    model = open_tiny("gpt2")

    def fail(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("detox_engine.forward.tokens.run_trunk", fail)
    with pytest.raises(InputError, match="not enough memory for this text"):
        project_text(model, TEXT, every_layer(draw_basis(1)))


def test_the_scale_is_the_99th_percentile_over_the_studys_texts_without_their_first_tokens():
    model = open_tiny("gpt2")
    basis = draw_basis(3)
    pairs = [Pair("", one, other) for one, other in zip(SENTENCES, SENTENCES[::-1], strict=True)]
    scale = find_scale(model, pairs, every_layer(basis))
    assert scale.directions.shape == scale.norms.shape == (LAYERS, 3)
    found = [project_text(model, text, every_layer(basis)) for text in (*SENTENCES, *SENTENCES)]
    for layer in range(LAYERS):
        for direction in range(3):
            sizes = torch.cat([text.along(direction)[layer, 1:].abs() for text in found])
            limit = scale.directions[layer, direction] + 1e-5
            assert 0.98 <= (sizes <= limit).float().mean() <= 0.995
            norms = torch.cat([text.norms(direction + 1)[layer, 1:] for text in found])
            assert 0.98 <= (norms <= scale.norms[layer, direction] + 1e-5).float().mean() <= 0.995
    again = find_scale(model, pairs, every_layer(basis), sample=4, seed=1)
    assert torch.equal(again.norms, find_scale(model, pairs, every_layer(basis), sample=4, seed=1).norms)
    assert not torch.equal(again.norms, scale.norms)


def test_no_hook_is_left_even_after_a_failure(monkeypatch):
    model = open_tiny("gpt2")

    def count():
        return sum(len(part._forward_hooks) for part in model.network.modules())

    before = count()
    project_text(model, TEXT, every_layer(draw_basis(1)), LowRankEdit({0: draw_basis(1)}))
    assert count() == before
    with pytest.raises(RuntimeError):
        project_text(model, TEXT, {0: torch.zeros(1, HIDDEN + 1)})
    assert count() == before


def test_spaces_that_a_tokenizer_passes_over_stay_in_the_pieces():
    model = open_tiny("gpt2")

    class Trimming:
        """Leaves spaces out of the spans, as some tokenizers do."""

        def __getattr__(self, name):
            return getattr(model.tokenizer, name)

        def __call__(self, text, **options):
            assert text == "  a b"
            return {"input_ids": [65, 66], "special_tokens_mask": [0, 0], "offset_mapping": [(2, 3), (4, 5)]}

    assert encode_text(replace(model, tokenizer=Trimming()), "  a b").pieces == ("  a ", "b")


def test_sinks_are_told_and_left_out_of_the_scale():
    model, basis = open_tiny("gpt2"), draw_basis(2)
    pairs = [Pair("", SENTENCES[3], SENTENCES[4]), Pair("", SENTENCES[6], SENTENCES[1])]
    norms = torch.cat([states_of(model, encode_text(model, text).ids).norm(dim=-1) for text in SENTENCES], dim=1)
    # The largest quarter of all states is called sinks here, at the last layer alone.
    limits = torch.stack([norms[0].max(), norms[1].max(), norms[2].quantile(0.75)])
    sinks = Sinks(limits / FACTOR * 1.0001, torch.full((LAYERS,), 2 * FACTOR), torch.zeros(LAYERS, HIDDEN), (), ())
    found = project_text(model, TEXT, every_layer(basis), sinks=sinks)
    long = states_of(model, found.text.ids).norm(dim=-1) > limits[:, None] * 1.0001
    assert torch.equal(found.sinks, long) and found.sinks[2].any() and not found.sinks[:2].any()
    assert project_text(model, TEXT, every_layer(basis)).sinks is None
    plain, spared = (find_scale(model, pairs, every_layer(basis), sinks=each) for each in (None, sinks))
    states = [states_of(model, encode_text(model, text).ids)[2] for pair in pairs for text in (pair.toxic, pair.civil)]
    kept = torch.cat([each[each.norm(dim=-1) <= limits[2] * 1.0001] for each in states])
    expected = (kept @ basis.T).abs().sort(dim=0).values[int(0.99 * (len(kept) - 1))]
    torch.testing.assert_close(spared.directions[2], expected, rtol=1e-4, atol=1e-4)
    assert (plain.norms[2] != spared.norms[2]).any()
