"""One hooked pass over the texts: a sentence embedding for each layer, pair and side (method, step 1)."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import local

import torch
from torch import Tensor

from detox_engine.data.columns import Pair
from detox_engine.edit.in_pass import edited
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.forward.embedded_pairs import Embeddings, TokenMoments
from detox_engine.forward.sinks import Sinks
from detox_engine.model.batches import OVERHEAD, count_workers, pack_batches, run_beside
from detox_engine.model.load import OpenModel
from detox_engine.model.tokens import tokenize_text
from detox_engine.model.trunk import run_trunk, watched
from detox_engine.plans.fit import Pooling

TOKEN_BUDGET = {"cpu": 1024, "cuda": 65536}
"""Most tokens of one forward pass."""

STATE_BUDGET = {"cpu": 2**18, "cuda": 2**28}
"""Most numbers in the states of one forward pass, tokens × hidden. On a CPU few: texts of nearly one length share a
pass, its states stay in the caches, and little memory is needed for each core."""

LEAST_BUDGET = 256
"""Tokens that a pass may always have: with fewer, reading the weights would cost more than using them."""


@dataclass(frozen=True)
class TokenizedText:
    """A text as the model reads it."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    """One for each token: what the sentence embedding counts of it. They sum to 1."""

    cut: bool

    special: bool
    """Whether the text itself holds special tokens, such as one that ends a text."""


def tokenize(model: OpenModel, prompt: str, text: str, max_length: int, pooling: Pooling) -> TokenizedText:
    """Tokens of `text` (which begins with `prompt`) and the pooling weight of each.

    Tokens that the tokenizer adds, such as a beginning-of-sequence token, and special tokens that stand in the text are
    run but never pooled: they are no words of it, and the model's attention to them says nothing about the text.

    Raises:
        InputError: the text has no token, or none of the continuation is left within `max_length`.
    """
    tokens = tokenize_text(model.tokenizer, text)
    ids, own = tokens.ids[:max_length], list(tokens.own[:max_length])
    if pooling == "continuation":
        ends = [end for _, end in tokens.spans[:max_length]]
        own = [kept and end > len(prompt) for kept, end in zip(own, ends, strict=True)]
    elif pooling == "last" and any(own):
        last = max(index for index, kept in enumerate(own) if kept)
        own = [index == last for index in range(len(own))]
    count = sum(own)
    if count == 0:
        part = "continuation" if pooling == "continuation" else "text"
        raise InputError(
            f"No token of the {part} is within the longest length of {max_length} tokens: “{_clip(text)}”; "
            "raise the longest length or drop the pair."
        )
    special = any(not mine and not by_itself for mine, by_itself in zip(tokens.own, tokens.added, strict=True))
    return TokenizedText(ids, tuple(kept / count for kept in own), len(tokens.ids) > max_length, special)


class _Pool(local):
    """Where the hooks pool to, for each thread that runs a batch of its own."""

    weights: Tensor
    """`[batch, tokens]`"""
    states: Tensor
    """`[layers, batch, hidden]`"""
    counted: Tensor
    """`[batch, tokens]` bool, the tokens whose states are counted into the moments."""
    left_out: Tensor
    """`[layers]` int64, tokens that were left out as sinks."""
    batch: Sequence[int]
    """Which texts these are."""


@torch.inference_mode()
def _run_batch(model: OpenModel, texts: Sequence[TokenizedText], pool: _Pool, counted: Sequence[bool] = ()) -> Tensor:
    """Pooled states `[layers, batch, hidden]` of one right-padded batch, on the model's device.

    Args:
        counted: which of the texts are counted into the moments; none where it is empty.
    """
    device = model.device
    weights = torch.zeros((len(texts), max(len(text.ids) for text in texts)))
    for row, text in enumerate(texts):
        weights[row, : len(text.ids)] = torch.tensor(text.weights)
    pool.weights = weights.to(device)
    pool.counted = (pool.weights > 0) & torch.tensor(counted or [False] * len(texts), device=device)[:, None]
    pool.left_out = torch.zeros(model.anatomy.layers, dtype=torch.int64, device=device)
    pool.states = torch.empty((model.anatomy.layers, len(texts), model.anatomy.hidden), device=device)
    run_trunk(model, [text.ids for text in texts])
    return pool.states


@torch.inference_mode()
def embed_pairs(
    model: OpenModel,
    pairs: Sequence[Pair],
    max_length: int = 128,
    pooling: Pooling = "mean",
    progress: Progress = ignore_progress,
    edit: LowRankEdit | None = None,
    sinks: Sinks | None = None,
    moments: TokenMoments | None = None,
    held_out: Collection[int] = (),
) -> Embeddings:
    """Sentence embeddings of both sides of `pairs` after each block.

    Each text runs once through the trunk, without the language-model head. The states of a batch's tokens are pooled
    inside the forward pass and gone with it. Progress counts texts.

    Args:
        edit: the embeddings are those of the model under this edit.
        sinks: tokens whose states are a sink's are left out of the mean of their layer, and the embeddings have 0 in
            the massive dimensions, so that no direction that is found in them reaches there. A text of which nothing
            would be left keeps all of it. None keeps the paper's arithmetic.
        moments: what the civil texts' token states add up to is added here, with the same left out.
        held_out: indices of pairs that are not counted into the moments.

    Raises:
        InputError: a text has no token left to pool, an embedding is not finite, or the memory does not
            suffice for a single text.
    """
    if model.context is not None:
        max_length = min(max_length, model.context)
    sides = [(pair.prompt, text) for pair in pairs for text in (pair.toxic_text, pair.civil_text)]
    texts = [tokenize(model, prompt, text, max_length, pooling) for prompt, text in sides]
    pooled = torch.empty((model.anatomy.layers, len(texts), model.anatomy.hidden))
    left_out = torch.zeros(model.anatomy.layers, dtype=torch.int64)
    massive = list(sinks.dimensions) if sinks is not None else []
    # A pass that runs out of memory has counted its lower layers, and its texts run again in smaller batches.
    in_moments = torch.zeros(model.anatomy.layers, len(texts), dtype=torch.bool)

    def counts(index: int) -> bool:
        return moments is not None and index % 2 == 1 and index // 2 not in held_out

    def run(batch: Sequence[int]) -> tuple[Tensor, Tensor]:
        pool.batch = list(batch)
        states = _run_batch(model, [texts[index] for index in batch], pool, [counts(index) for index in batch])
        _check_finite(states, batch, sides)
        return states.cpu(), pool.left_out.cpu()

    def pool_layer(layer: int, states: Tensor) -> None:
        wide = states.float()
        weights, counted = pool.weights.to(wide.device), pool.counted.to(wide.device)
        if sinks is not None:
            spare = sinks.spare(layer, wide)
            pool.left_out[layer] = ((weights > 0) & ~spare).sum()
            kept = weights * spare
            rest = kept.sum(1, keepdim=True)
            weights, counted = torch.where(rest > 0, kept / rest, weights), counted & spare
        pool.states[layer] = torch.bmm(weights[:, None], wide)[:, 0]
        pool.states[layer][:, massive] = 0
        if moments is not None:
            again = in_moments[layer, pool.batch]
            if again.any():
                counted = counted & ~again.to(wide.device)[:, None]
            if counted.any():
                tokens = wide[counted]
                tokens[:, massive] = moments.centres[layer, massive].to(tokens.device)
                moments.add(layer, tokens)
            in_moments[layer, pool.batch] = True

    @contextmanager
    def turn() -> Iterator[None]:
        blocks = dict(enumerate(model.anatomy.blocks))
        with model.turns, edited(model.anatomy, [edit]), watched(blocks, pool_layer):
            yield

    progress("Embedding texts", 0, len(texts))
    pool, device, done = _Pool(), model.device.type, 0
    most, states, overhead = (limits.get(device, limits["cpu"]) for limits in (TOKEN_BUDGET, STATE_BUDGET, OVERHEAD))
    budget = min(most, max(LEAST_BUDGET, states // model.anatomy.hidden))
    batches = pack_batches([len(text.ids) for text in texts], budget, overhead)
    workers = count_workers(model.device, model.is_split)
    try:
        for batch, (states, sink_tokens) in run_beside(batches, run, workers, turn, lambda: model.turns.wanted):
            pooled[:, batch] = states
            left_out += sink_tokens
            done += len(batch)
            progress("Embedding texts", done, len(texts))
    except MemoryError:
        raise InputError(
            f"There is not enough memory for one text of {len(texts[batches[0][0]].ids)} tokens: lower the longest "
            "length, or load the model in a smaller number format."
        ) from None
    return Embeddings(
        toxic=pooled[:, 0::2].contiguous(),
        civil=pooled[:, 1::2].contiguous(),
        tokens=sum(len(text.ids) for text in texts),
        cut=tuple(sorted({index // 2 for index, text in enumerate(texts) if text.cut})),
        lengths=torch.tensor([sum(weight > 0 for weight in text.weights) for text in texts]).view(-1, 2).T.contiguous(),
        sinks=tuple(left_out.tolist()) if sinks is not None else (),
        special=sum(text.special for text in texts),
    )


def _check_finite(states: Tensor, batch: Sequence[int], sides: Sequence[tuple[str, str]]) -> None:
    finite = states.isfinite().all(-1)
    if not finite.all():
        layer, row = (~finite).nonzero()[0].tolist()
        raise InputError(
            f"The embedding at layer {layer} of the text “{_clip(sides[batch[row]][1])}” is not finite (NaN or "
            "infinity): load the model in float32 or bfloat16, or check its weights."
        )


def _clip(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
