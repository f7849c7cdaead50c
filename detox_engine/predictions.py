"""The logit lens at a token: what the model would write next if the blocks above a layer did not exist."""

import torch
from torch import Tensor

from detox_engine.anatomy import Anatomy
from detox_engine.lens import TokenScore, show_token
from detox_engine.loading import LoadedModel

TOKENS_READ_AT_ONCE = 64
"""Every token has as many logits as the vocabulary has entries: a few at a time, for the memory's sake."""


@torch.inference_mode()
def read_predictions(
    loaded: LoadedModel, anatomy: Anatomy, states: Tensor, top: int = 5
) -> tuple[tuple[TokenScore, ...], ...]:
    """The logit lens at each of `states` `[tokens, hidden]`, as a block left them: the `top` most probable next tokens.

    The states go through the final normalisation and the unembedding, as if the blocks above did not exist; after
    the last layer these are the model's own predictions. Scores are probabilities.
    """
    cap = getattr(loaded.model.config.get_text_config(), "final_logit_softcapping", None)
    found: list[tuple[list[int], list[float]]] = []
    for part in states.split(TOKENS_READ_AT_ONCE):
        with loaded.turns:
            logits = anatomy.unembedding(anatomy.final_norm(part.to(loaded.model.device))).float()
        if cap:
            logits = cap * (logits / cap).tanh()
        best = logits.softmax(-1)[:, : len(loaded.tokenizer)].topk(min(top, len(loaded.tokenizer)))
        found += zip(best.indices.tolist(), best.values.tolist(), strict=True)
    shown = {id: show_token(loaded.tokenizer, id) for ids, _ in found for id in ids}
    return tuple(
        tuple(TokenScore(id, shown[id], score) for id, score in zip(ids, scores, strict=True)) for ids, scores in found
    )
