"""Logit lens: what a direction of the residual stream means in tokens (method, step 6)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detox_engine.model.anatomy import Anatomy
from detox_engine.model.head import read_head
from detox_engine.model.load import OpenModel
from detox_engine.model.tokens import show_token
from detox_engine.plans.read import Measure


@dataclass(frozen=True)
class TokenScore:
    """A token of the vocabulary and how far it lies along a direction."""

    id: int
    token: str
    """As shown to people: a space is ·, a line break ↵, a byte that is no character of its own <0xE2>."""
    score: float


@dataclass(frozen=True)
class Reading:
    """The two ends of a direction, in tokens."""

    toxic_pole: tuple[TokenScore, ...]
    """The tokens with the largest scores, largest first."""

    civil_pole: tuple[TokenScore, ...]
    """The tokens with the smallest scores, smallest first."""


@torch.inference_mode()
def score_tokens(
    directions: Tensor, anatomy: Anatomy, measure: Measure = "product", through_norm: bool = False
) -> Tensor:
    """Scores `[directions, vocab]` of every token along each of `directions` `[directions, hidden]`, float32.

    Args:
        measure: the product of the direction with the token's unembedding row, or their cosine.
        through_norm: multiply the direction with the final normalisation's weight first, as the model does
            with the residual stream before the unembedding.
    """
    unembedding = anatomy.unembedding.weight
    rows = directions.to(unembedding.device).float()
    if through_norm:
        rows = rows * anatomy.norm_gain.to(rows.device).float()
    if measure == "product":
        # The unembedding can be the largest matrix of all: it is read in its own dtype, never copied to float32.
        return (rows.to(unembedding.dtype) @ unembedding.T).float().cpu()
    lengths = torch.linalg.vector_norm(unembedding, dim=1, dtype=torch.float32).clamp(min=1e-12)
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return ((rows.to(unembedding.dtype) @ unembedding.T).float() / lengths).cpu()


def read_tokens(
    directions: Tensor,
    model: OpenModel,
    top: int = 10,
    measure: Measure = "product",
    through_norm: bool = False,
) -> tuple[Reading, ...]:
    """Both poles of each of `directions` `[directions, hidden]`, `top` tokens each.

    Rows of the unembedding beyond the tokenizer's vocabulary, which some models have as padding, are left out.
    """
    tokenizer = model.tokenizer
    scores = score_tokens(directions, model.anatomy, measure, through_norm)[:, : len(tokenizer)]
    top = min(top, scores.shape[1])
    highest, lowest = scores.topk(top), scores.topk(top, largest=False)

    def listed(values: Sequence[float], ids: Sequence[int]) -> tuple[TokenScore, ...]:
        return tuple(TokenScore(id, show_token(tokenizer, id), value) for value, id in zip(values, ids, strict=True))

    return tuple(
        Reading(
            listed(highest.values[row].tolist(), highest.indices[row].tolist()),
            listed(lowest.values[row].tolist(), lowest.indices[row].tolist()),
        )
        for row in range(len(scores))
    )


TOKENS_READ_AT_ONCE = 64
"""Every token has as many logits as the vocabulary has entries: a few at a time, for the memory's sake."""


@torch.inference_mode()
def read_predictions(model: OpenModel, states: Tensor, top: int = 5) -> tuple[tuple[TokenScore, ...], ...]:
    """The logit lens at each of `states` `[tokens, hidden]`, as a block left them: the `top` most probable next tokens.

    The states go through the final normalisation and the head, as if the blocks above did not exist; after
    the last layer these are the model's own predictions. Scores are probabilities.
    """
    found: list[tuple[list[int], list[float]]] = []
    for part in states.split(TOKENS_READ_AT_ONCE):
        with model.turns:
            logits = read_head(model, model.anatomy.final_norm(part.to(model.network.device))).float()
        best = logits.softmax(-1)[:, : len(model.tokenizer)].topk(min(top, len(model.tokenizer)))
        found += zip(best.indices.tolist(), best.values.tolist(), strict=True)
    shown = {id: show_token(model.tokenizer, id) for ids, _ in found for id in ids}
    return tuple(
        tuple(TokenScore(id, shown[id], score) for id, score in zip(ids, scores, strict=True)) for ids, scores in found
    )
