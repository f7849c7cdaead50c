"""From the last hidden states to logits, as the model itself gets there."""

import torch
from torch import Tensor

from detox_engine.errors import InputError
from detox_engine.model.load import OpenModel


def read_head(model: OpenModel, states: Tensor) -> Tensor:
    """Logits `[..., vocab]` of last hidden states, as the model's own head gives them."""
    config = model.network.config.get_text_config()
    logits = model.anatomy.unembedding(states)
    cap = getattr(config, "final_logit_softcapping", None)
    if cap:  # Gemma 2
        logits = torch.tanh(logits / cap) * cap
    return logits * find_scale(model)


def find_scale(model: OpenModel) -> float:
    """What the head multiplies every score with (Cohere's `logit_scale`, Granite's `logits_scaling`); mostly 1."""
    config = model.network.config.get_text_config()
    return (getattr(config, "logit_scale", None) or 1) / (getattr(config, "logits_scaling", None) or 1)


@torch.inference_mode()
def check_head(model: OpenModel) -> None:
    """Refuse a model whose head does more than `read_head` knows: its logits are compared over three tokens."""
    ids = torch.tensor([[2, 3, 4]], device=model.device)
    states = model.anatomy.trunk(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)[0]
    own = model.network(input_ids=ids, use_cache=False).logits
    if not torch.allclose(
        read_head(model, states).float().to(own.device), own.float(), rtol=1e-3, atol=1e-3, equal_nan=True
    ):
        raise InputError(
            f"The head of {type(model.network).__name__} does more to its scores than is known here, so that its "
            "perplexity would be wrong: choose another model, such as GPT-2, Llama, Qwen or Gemma."
        )
