"""Logit lens: a planted direction is read back, and every space and byte of a token can be seen."""

import copy
from dataclasses import replace

import pytest
import torch

from detox_engine.model.head import read_head
from detox_engine.model.load import OpenModel
from detox_engine.model.tokens import show_token
from detox_engine.reading import lens
from detox_engine.reading.lens import read_tokens, score_tokens
from detox_engine.study.methods.detox import fit_subspace
from detox_engine.study.subspace import principal_angles
from tests.factor_model import draw_factor_sample
from tests.model.test_head import open_scaled
from tests.models import FAMILIES, fresh_model, open_tiny


def vectors_of(model: OpenModel) -> torch.Tensor:
    """`[vocab, hidden]` the unembedding with the final norm folded in, centred over all tokens but special ones."""
    rows = model.anatomy.unembedding.weight.float()
    words = [id for id in range(len(rows)) if id not in model.tokenizer.all_special_ids]
    return (rows - rows[words].mean(0)) * model.anatomy.norm_gain


@pytest.mark.parametrize("family", FAMILIES)
def test_a_planted_direction_reads_back_as_its_tokens(family):
    model = open_tiny(family)
    token = 300
    direction = vectors_of(model)[token]
    (toward,) = read_tokens(direction[None], model, top=5)
    (away,) = read_tokens(-direction[None], model, top=5)
    assert toward.toxic_pole[0].id == token and toward.toxic_pole[0].score == pytest.approx(1, abs=1e-4)
    assert away.civil_pole[0].id == token and away.civil_pole[0].score == pytest.approx(-1, abs=1e-4)
    generator = torch.Generator().manual_seed(0)
    (random,) = read_tokens(torch.randn(1, 32, generator=generator), model)
    assert token not in [score.id for score in random.toxic_pole]


def test_a_direction_planted_in_the_factor_model_is_recovered_and_read_back():
    model = open_tiny("llama")
    insult = model.tokenizer("idiot")["input_ids"][0]
    planted = torch.nn.functional.normalize(vectors_of(model)[insult].double(), dim=0)[None]
    sample = draw_factor_sample(1, pairs=500, hidden=32, noise=0.02, planted=planted)
    (before,) = read_tokens((sample.toxic.mean(0) / 40)[None], model, top=3)
    assert insult not in [score.id for score in before.toxic_pole]
    subspace = fit_subspace(sample.toxic, sample.civil, keep=4)
    assert principal_angles(subspace.basis[:1], planted).max() < 1.0
    (found,) = read_tokens(subspace.basis[:1], model, top=3)
    assert found.toxic_pole[0].id == insult and found.toxic_pole[0].score > 0.999


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_the_lens_is_the_cosine_with_centred_rows_through_the_norm(family, monkeypatch):
    model = open_tiny(family)
    monkeypatch.setattr(lens, "ROWS_AT_ONCE", 150)
    directions = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    found, vectors = score_tokens(directions, model), vectors_of(model)
    read = ~found.isnan()
    expected = torch.nn.functional.cosine_similarity(directions[:, None], vectors[None], dim=-1)
    torch.testing.assert_close(found[read], expected[read])
    assert read.sum(1).tolist() == [len(vectors) - 1] * 3 and not read[:, model.tokenizer.eos_token_id].any()
    # What all rows share says nothing of a token.
    moved = replace(model, network=copy.deepcopy(model.network))
    moved.network.get_output_embeddings().weight = torch.nn.Parameter(
        model.anatomy.unembedding.weight + 5 * torch.ones(32), requires_grad=False
    )
    torch.testing.assert_close(score_tokens(directions, moved), found, equal_nan=True, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("family", "scale"), [("llama", 1), ("cohere", 3), ("granite", 4)])
def test_the_product_is_what_a_step_along_the_direction_adds_to_the_logit(family, scale):
    model = open_tiny(family) if scale == 1 else open_scaled(family)
    directions = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    found = score_tokens(directions, model, "product")
    torch.testing.assert_close(found, directions @ model.anatomy.unembedding.weight.T * scale)
    states = torch.randn(1, 32, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        step = read_head(model, states + directions) - read_head(model, states)
    torch.testing.assert_close(step, found, atol=1e-4, rtol=1e-4)


def test_rows_that_were_never_trained_are_left_out_of_the_lens():
    network = fresh_model("llama", tie_word_embeddings=False)
    model = replace(open_tiny("llama"), network=network)
    rows = network.get_output_embeddings().weight.data
    unused = [200, 201, 202, 203]
    rows[unused[:2]] = rows.mean(0) + 1e-4 * rows[unused[:2]]
    rows[unused[2:]] = rows[model.tokenizer.eos_token_id] + 1e-2 * rows[unused[2:]]
    direction = vectors_of(model)[202][None]
    (reading,) = read_tokens(direction, model, top=len(rows))
    listed = {end.id for end in reading.toxic_pole}
    assert not listed & set(unused) and len(listed) == len(rows) - 1 - len(unused)
    (product,) = read_tokens(direction, model, top=len(rows), measure="product")
    assert {end.id for end in product.toxic_pole} >= set(unused)


def test_a_direction_is_readable_where_more_tokens_than_by_chance_lie_along_it():
    network = fresh_model("llama", tie_word_embeddings=False)
    model = replace(open_tiny("llama"), network=network)
    planted = torch.nn.functional.normalize(torch.randn(32, generator=torch.Generator().manual_seed(5)), dim=0)
    network.get_output_embeddings().weight.data[300:308] += 9 * planted / model.anatomy.norm_gain
    random = torch.randn(32, generator=torch.Generator().manual_seed(6))
    both = torch.stack([planted, random])
    readable, chance = read_tokens(both, model, judge=True)
    assert readable.is_readable and readable.read >= 5
    assert not chance.is_readable and chance.read < 5
    assert all(one.read is None and one.is_readable for one in read_tokens(both, model))
    assert all(one.read is None for one in read_tokens(both, model, measure="product", judge=True))


@pytest.mark.parametrize("measure", ["lens", "product"])
def test_both_poles_are_sorted_from_their_end(measure):
    model = open_tiny("gpt2")
    directions = torch.randn(2, 32, generator=torch.Generator().manual_seed(2))
    for row, reading in enumerate(read_tokens(directions, model, 7, measure)):
        scores = score_tokens(directions, model, measure)[row]
        assert [end.id for end in reading.toxic_pole] == scores.nan_to_num(-9e9).argsort(descending=True)[:7].tolist()
        assert [end.id for end in reading.civil_pole] == scores.nan_to_num(9e9).argsort()[:7].tolist()


@pytest.mark.parametrize("measure", ["lens", "product"])
def test_rows_beyond_the_tokenizer_are_left_out(measure):
    model = open_tiny("gpt2")
    last = len(model.tokenizer) - 1
    direction = 9 * vectors_of(model)[last][None]

    class Shorter:
        def __init__(self, tokenizer):
            self.tokenizer = tokenizer

        def __len__(self):
            return last

        def __getattr__(self, name):
            return getattr(self.tokenizer, name)

    (whole,) = read_tokens(direction, model, measure=measure)
    (shorter,) = read_tokens(direction, replace(model, tokenizer=Shorter(model.tokenizer)), measure=measure)
    assert last in [score.id for score in whole.toxic_pole]
    assert last not in [score.id for score in shorter.toxic_pole]


def test_spaces_line_breaks_and_bytes_are_visible():
    tokenizer = open_tiny("gpt2").tokenizer
    id_of = tokenizer.convert_tokens_to_ids
    assert show_token(tokenizer, id_of("Ġthe")) == "·the"
    assert show_token(tokenizer, id_of("Ċ")) == "↵"
    assert show_token(tokenizer, id_of("ĉ")) == "⇥"
    assert show_token(tokenizer, id_of("â")) == "<0xE2>"
    assert show_token(tokenizer, id_of("Ģ")) == "<0x80>"
    assert show_token(tokenizer, id_of("<")) == "<"
    assert show_token(tokenizer, tokenizer.eos_token_id) == "<|endoftext|>"
    assert show_token(tokenizer, 10**6) == "<1000000>"


def test_sentencepiece_marks_are_shown_as_spaces():
    class SentencePiece:
        all_special_ids = ()

        def convert_ids_to_tokens(self, id):
            return ["▁idiot", "<0x0A>", "é"][id]

    assert [show_token(SentencePiece(), id) for id in range(3)] == ["·idiot", "<0x0A>", "é"]
