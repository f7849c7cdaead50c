"""Logit lens: a planted direction is read back, and every space and byte of a token can be seen."""

from dataclasses import replace

import pytest
import torch

from detox_engine.model.tokens import show_token
from detox_engine.reading.lens import read_tokens, score_tokens
from detox_engine.study.methods.detox import fit_subspace
from detox_engine.study.subspace import principal_angles
from tests.factor_model import draw_factor_sample
from tests.models import FAMILIES, open_tiny


@pytest.mark.parametrize("family", FAMILIES)
def test_a_planted_direction_reads_back_as_its_tokens(family):
    model = open_tiny(family)
    token = 300
    direction = model.anatomy.unembedding.weight[token].float()
    direction = direction / direction.norm()
    (toward,) = read_tokens(direction[None], model, top=5, measure="cosine")
    (away,) = read_tokens(-direction[None], model, top=5, measure="cosine")
    assert toward.toxic_pole[0].id == token and toward.toxic_pole[0].score == pytest.approx(1, abs=1e-4)
    assert away.civil_pole[0].id == token and away.civil_pole[0].score == pytest.approx(-1, abs=1e-4)
    generator = torch.Generator().manual_seed(0)
    (random,) = read_tokens(torch.randn(1, 32, generator=generator), model, measure="cosine")
    assert token not in [score.id for score in random.toxic_pole]


def test_a_direction_planted_in_the_factor_model_is_recovered_and_read_back():
    model = open_tiny("llama")
    insult = model.tokenizer("idiot")["input_ids"][0]
    planted = torch.nn.functional.normalize(model.anatomy.unembedding.weight[insult].double(), dim=0)[None]
    sample = draw_factor_sample(1, pairs=500, hidden=32, noise=0.02, planted=planted)
    (before,) = read_tokens((sample.toxic.mean(0) / 40)[None], model, top=3, measure="cosine")
    assert insult not in [score.id for score in before.toxic_pole]
    subspace = fit_subspace(sample.toxic, sample.civil, keep=4)
    assert principal_angles(subspace.basis[:1], planted).max() < 1.0
    (found,) = read_tokens(subspace.basis[:1], model, top=3, measure="cosine")
    assert found.toxic_pole[0].id == insult and found.toxic_pole[0].score > 0.999


def test_scores_are_the_products_and_cosines_of_the_definition():
    model = open_tiny("llama")
    directions = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    rows = model.anatomy.unembedding.weight
    torch.testing.assert_close(score_tokens(directions, model.anatomy), directions @ rows.T)
    cosine = torch.nn.functional.cosine_similarity(directions[:, None], rows[None], dim=-1)
    torch.testing.assert_close(score_tokens(directions, model.anatomy, "cosine"), cosine)
    gained = (directions * model.network.model.norm.weight) @ rows.T
    torch.testing.assert_close(score_tokens(directions, model.anatomy, through_norm=True), gained)
    assert not torch.allclose(gained, directions @ rows.T, atol=1e-2)


def test_both_poles_are_sorted_from_their_end():
    model = open_tiny("gpt2")
    directions = torch.randn(2, 32, generator=torch.Generator().manual_seed(2))
    for row, reading in enumerate(read_tokens(directions, model, top=7)):
        scores = score_tokens(directions, model.anatomy)[row]
        assert [score.id for score in reading.toxic_pole] == scores.argsort(descending=True)[:7].tolist()
        assert [score.id for score in reading.civil_pole] == scores.argsort()[:7].tolist()


def test_rows_beyond_the_tokenizer_are_left_out():
    model = open_tiny("gpt2")
    last = len(model.tokenizer) - 1
    direction = model.anatomy.unembedding.weight[last][None].float()

    class Shorter:
        def __init__(self, tokenizer):
            self.tokenizer = tokenizer

        def __len__(self):
            return last

        def __getattr__(self, name):
            return getattr(self.tokenizer, name)

    (whole,) = read_tokens(direction, model, measure="cosine")
    (shorter,) = read_tokens(direction, replace(model, tokenizer=Shorter(model.tokenizer)), measure="cosine")
    assert whole.toxic_pole[0].id == last
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
