"""Logits of last hidden states are the model's own, whatever its head does to them."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, CohereConfig, GraniteConfig

from detox_engine.errors import InputError
from detox_engine.model.head import check_head, read_head
from tests.models import FAMILIES, HEADS, HIDDEN, INNER, LAYERS, fresh_model, open_tiny

SCALED = {"cohere": (CohereConfig, {"logit_scale": 3.0}), "granite": (GraniteConfig, {"logits_scaling": 0.25})}
"""Families whose head multiplies or divides its scores."""


def open_scaled(family: str):
    """A tiny model whose head scales its scores far from what the unembedding alone gives."""
    kind, scale = SCALED[family]
    model = open_tiny("llama")
    config = kind(
        vocab_size=len(model.tokenizer), hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=2, initializer_range=0.2, pad_token_id=0, bos_token_id=0,
        eos_token_id=0, **scale,
    )  # fmt: skip
    torch.manual_seed(0)
    return replace(model, network=AutoModelForCausalLM.from_config(config).eval().requires_grad_(False))


@pytest.mark.parametrize("family", [*FAMILIES, *SCALED])
def test_logits_are_those_of_the_model(family):
    model = open_scaled(family) if family in SCALED else open_tiny(family)
    ids = torch.tensor([[5, 9, 33, 71]])
    with torch.inference_mode():
        states = model.anatomy.trunk(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)[0]
        torch.testing.assert_close(read_head(model, states), model.network(input_ids=ids).logits)
    check_head(model)


def test_head_that_does_more_is_refused():
    model = replace(open_tiny("gpt2"), network=fresh_model("gpt2"))
    model.network.lm_head.register_forward_hook(lambda module, given, logits: logits)
    check_head(model)
    forward = model.network.forward

    def louder(**given):
        output = forward(**given)
        output.logits = output.logits * 2
        return output

    model.network.forward = louder
    with pytest.raises(InputError, match="GPT2LMHeadModel"):
        check_head(model)
