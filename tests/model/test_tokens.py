"""Tokens come back as the exact text they add, piece by piece, whatever bytes they are made of."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from detox_engine.model.tokens import spell
from tests.models import SENTENCES, tiny_tokenizer


def sentencepiece_tokenizer() -> PreTrainedTokenizerBase:
    """Llama's kind: words begin with ▁, rare characters are bytes, and a decoder strips the first space."""
    trained = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    trained.train_from_iterator([sentence.replace(" ", "▁") for sentence in SENTENCES], trainer)
    model = json.loads(trained.to_str())["model"]
    vocabulary = model["vocab"]
    vocabulary |= {f"<0x{byte:02X}>": len(vocabulary) + byte for byte in range(256)}
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


TOKENIZERS = {"bytes": tiny_tokenizer, "sentencepiece": sentencepiece_tokenizer}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return TOKENIZERS[request.param]()


@pytest.mark.parametrize(
    ("prompt", "added"),
    [
        ("You burnt", " the soup again"),
        ("You burnt ", "the soup"),
        ("You burnt", ", it's  two spaces ."),
        ("A cup of", " café 🙂 naïve"),
        ("A smile 🙂", "🙂\nand a line"),
    ],
)
def test_pieces_join_to_the_exact_text(tokenizer: PreTrainedTokenizerBase, prompt: str, added: str) -> None:
    given = tokenizer(prompt)["input_ids"]
    # As a model writes: the tokens that follow the prompt's own.
    whole = tokenizer(prompt + added)["input_ids"]
    shared = next((i for i, (a, b) in enumerate(zip(given, whole, strict=False)) if a != b), len(given))
    text, pieces = spell(tokenizer, whole[:shared], whole[shared:])
    expected = (prompt + added)[len(tokenizer.decode(whole[:shared])) :]
    assert text == expected
    assert "".join(pieces) == text
    assert len(pieces) == len(whole) - shared


def test_a_character_of_several_tokens_belongs_to_the_last(tokenizer: PreTrainedTokenizerBase) -> None:
    given = tokenizer("You burnt")["input_ids"]
    added = tokenizer("You burnt🙂!")["input_ids"][len(given) :]
    text, pieces = spell(tokenizer, given, added)
    assert text == "🙂!"
    assert pieces == ("", "", "", "🙂", "!")


def test_a_character_cut_short_is_shown_as_broken(tokenizer: PreTrainedTokenizerBase) -> None:
    given = tokenizer("You burnt")["input_ids"]
    added = tokenizer("You burnt🙂")["input_ids"][len(given) : -1]
    text, pieces = spell(tokenizer, given, added)
    assert set(text) == {"\N{REPLACEMENT CHARACTER}"}
    assert "".join(pieces) == text
    assert len(pieces) == 3


def test_special_tokens_have_an_empty_piece(tokenizer: PreTrainedTokenizerBase) -> None:
    given = tokenizer("You burnt")["input_ids"]
    added = [tokenizer("You burnt!")["input_ids"][-1], tokenizer.eos_token_id]
    assert spell(tokenizer, given, added) == ("!", ("!", ""))


def test_nothing_added_is_an_empty_text(tokenizer: PreTrainedTokenizerBase) -> None:
    assert spell(tokenizer, tokenizer("You")["input_ids"], []) == ("", ())
