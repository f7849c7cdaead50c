"""The model without its head: one pass over texts padded on the right, watched block by block."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from detox_engine.model.anatomy import block_output
from detox_engine.model.load import OpenModel


@torch.inference_mode()
def run_trunk(model: OpenModel, texts: Sequence[Sequence[int]]) -> Tensor:
    """As `record_trunk`, for who asks for no gradient."""
    return record_trunk(model, texts)


def record_trunk(model: OpenModel, texts: Sequence[Sequence[int]]) -> Tensor:
    """Last hidden states `[texts, tokens, hidden]` of token ids in one pass, on the model's device.

    Padding is on the right, so positions count from 0 by themselves. Nothing but ids and mask goes in: GPT-2 would
    add token types to the embeddings. What a gradient needs is recorded where the caller's hooks ask for one. The
    caller holds the model's turn.
    """
    device, longest = model.device, max(map(len, texts))
    ids = torch.full((len(texts), longest), model.tokenizer.pad_token_id or 0)
    mask = torch.zeros((len(texts), longest), dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
    return model.anatomy.trunk(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)[0]


@contextmanager
def watched(blocks: Mapping[int, nn.Module], read: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Every pass calls `read(layer, states [rows, tokens, hidden])` after each of `blocks`, layer -> block."""
    with ExitStack() as hooks:
        for layer, block in blocks.items():

            def hook(module: nn.Module, given: tuple, output: Tensor | tuple, layer: int = layer) -> None:
                read(layer, block_output(output))

            hooks.enter_context(block.register_forward_hook(hook))
        yield


@contextmanager
def resumed(
    blocks: Sequence[nn.Module], layer: int, read: Callable[[], Tensor], as_tuple: bool = False
) -> Iterator[None]:
    """Every pass inside goes on after `layer` from the states `[rows, tokens, hidden]` that `read` gives for it.

    The blocks up to there are passed over; masks and positions are those of the texts of the pass. Hooks of these
    blocks are called all the same.

    Args:
        blocks: all of the trunk's, layer 0 first.
        as_tuple: whether a block gives its states in a tuple, as some families' do.
    """

    def forward(*given: Any, **named: Any) -> Tensor | tuple[Tensor]:
        states = read()
        return (states,) if as_tuple else states

    passed = blocks[: layer + 1]
    # A split model's blocks have one of their own that brings their weights.
    own = {block: block.__dict__["forward"] for block in passed if "forward" in block.__dict__}
    try:
        for block in passed:
            block.forward = forward
        yield
    finally:
        for block in passed:
            block.__dict__.pop("forward", None)
        for block, kept in own.items():
            block.forward = kept
