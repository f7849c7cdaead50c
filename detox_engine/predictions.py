"""The logit lens at a token: what the model would write next if the blocks above a layer did not exist."""

from collections.abc import Sequence

import torch
from torch import Tensor

from detox_engine.anatomy import Anatomy
from detox_engine.edit import LowRankEdit
from detox_engine.errors import InputError
from detox_engine.lens import TokenScore, show_token
from detox_engine.loading import LoadedModel
from detox_engine.token_lens import LensText, run_trunk

TOKENS_READ_AT_ONCE = 64


def read_predictions(
    loaded: LoadedModel,
    anatomy: Anatomy,
    text: LensText,
    layers: Sequence[int],
    edit: LowRankEdit | None = None,
    top: int = 5,
    positions: Sequence[int] | None = None,
) -> tuple[tuple[tuple[TokenScore, ...], ...], ...]:
    """The logit lens at every token: `result[layer][position]`, the `top` most probable next tokens there.

    The residual stream after a block goes through the final normalisation and the unembedding, as if the blocks
    above did not exist; after the last layer these are the model's own predictions. Scores are probabilities.

    Args:
        positions: places of tokens in the text; all by default.
    """
    places = list(range(len(text.ids)) if positions is None else positions)
    if any(not 0 <= place < len(text.ids) for place in places):
        raise InputError(f"The text has the tokens 0-{len(text.ids) - 1}: choose among them.")
    states: dict[int, Tensor] = {}

    def keep(layer: int, found: Tensor) -> None:
        states[layer] = found[0, places]

    with loaded.turns:
        run_trunk(loaded, anatomy, [(text.ids, edit)], layers, keep)
    return tuple(_read_next(loaded, anatomy, states[layer], top) for layer in layers)


@torch.inference_mode()
def _read_next(
    loaded: LoadedModel, anatomy: Anatomy, states: Tensor, top: int
) -> tuple[tuple[TokenScore, ...], ...]:
    """The `top` next tokens of each of `states` `[tokens, hidden]`, a few states at a time for the memory's sake."""
    cap = getattr(loaded.model.config.get_text_config(), "final_logit_softcapping", None)
    found = []
    for part in states.split(TOKENS_READ_AT_ONCE):
        logits = anatomy.unembedding(anatomy.final_norm(part)).float()
        if cap:
            logits = cap * (logits / cap).tanh()
        probabilities, ids = logits.softmax(-1)[:, : len(loaded.tokenizer)].topk(min(top, len(loaded.tokenizer)))
        found.extend(
            tuple(
                TokenScore(id, show_token(loaded.tokenizer, id), score)
                for id, score in zip(row, scores, strict=True)
            )
            for row, scores in zip(ids.tolist(), probabilities.tolist(), strict=True)
        )
    return tuple(found)
