"""A model of three tokens whose every number is known: a, b, c have 1/2, 1/4, 1/4, and under an edit 1/4, 1/2, 1/4.

It predicts the same after every text. Its one block writes a fixed vector e5 into the residual stream, and the edit
removes it; the head is made so that the states with and without e5 give those probabilities.
"""

import math

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.model.load import OpenModel
from detox_engine.plans.sources import ModelSpec

BEFORE = (1 / 2, 1 / 4, 1 / 4)
AFTER = (1 / 4, 1 / 2, 1 / 4)
HIDDEN, INNER, CONTEXT = 8, 16, 16
NEVER = -60.0
"""Logarithm of the probability of the two tokens that only the tokenizer needs."""


def three_tokens() -> OpenModel:
    vocab = {"a": 0, "b": 1, "c": 2, "<end>": 3, "<unk>": 4}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>", pad_token="<end>",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    config = GPT2Config(
        vocab_size=5, n_embd=HIDDEN, n_inner=INNER, n_layer=1, n_head=1, n_positions=CONTEXT,
        layer_norm_epsilon=1e-12, tie_word_embeddings=False, bos_token_id=3, eos_token_id=3,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
    inside = model.transformer
    inside.wte.weight.copy_(torch.eye(5, HIDDEN))
    mlp = inside.h[0].mlp
    mlp.c_fc.bias[0] = 1.0
    mlp.c_proj.weight[0, 5] = 1 / mlp.act(torch.tensor(1.0))
    model.lm_head.weight.copy_(_make_head())
    return OpenModel(ModelSpec("three tokens", device="cpu"), model, fast, None, "sha256:three", CONTEXT)


def _make_head() -> Tensor:
    """`[5, 8]` rows of sum 0, so that the final norm acts as a factor: 8/√7 on e_i, 8/√12 on e_i + e5."""
    head = torch.zeros(5, HIDDEN, dtype=torch.float64)
    before, after = (torch.tensor([*map(math.log, chances), NEVER, NEVER]).double() for chances in (BEFORE, AFTER))
    head[:, :5] = (after / (8 / math.sqrt(7)))[:, None]
    head[:, 5] = before / (8 / math.sqrt(12)) - head[:, 0]
    head[:, 7] = -head.sum(1)
    return head.float()


def swap_edit() -> LowRankEdit:
    """The edit that removes e5, and so swaps the chances of a and b."""
    return LowRankEdit({0: torch.eye(HIDDEN)[5:6]})
