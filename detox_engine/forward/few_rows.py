"""A few rows times a weight matrix: what generating is made of, and what CPU libraries leave to one core of two."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

MOST_ROWS = 16
"""More rows are a matrix product like any other."""
MANY_THREADS = 4
"""With as many threads MKL shares even a product of two rows among them; with fewer it takes one of them."""
LARGE = 1 << 18
"""Weights of a matrix that is worth it: smaller ones stay in a core's cache."""
PARTS = 8


@contextmanager
def few_rows_shared(model: nn.Module) -> Iterator[None]:
    """Inside, the model's linear layers share products of 2 to `MOST_ROWS` rows among a CPU's threads.

    Two rows of GPT-2's shape took 1.6 times as long as one on two cores, since reading the weights is all that
    counts and one core alone reads them. A single row is left as it is. Results differ by rounding only.
    """
    weights = next(model.parameters())
    layers = []
    if weights.device.type == "cpu" and weights.dtype == torch.float32 and torch.get_num_threads() < MANY_THREADS:
        layers = [
            layer
            for layer in model.modules()
            if type(layer) in (nn.Linear, Conv1D) and layer.weight.numel() >= LARGE and not hasattr(layer, "_hf_hook")
        ]
    try:
        for layer in layers:
            layer.forward = _shared(layer)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _shared(layer: nn.Linear | Conv1D) -> Callable[[Tensor], Tensor]:
    plain = layer.forward
    multiply = multiply_rows if isinstance(layer, Conv1D) else multiply_columns

    def forward(states: Tensor) -> Tensor:
        rows = states.numel() // states.shape[-1]
        if not 2 <= rows <= MOST_ROWS:
            return plain(states)
        product = multiply(states.reshape(rows, -1), layer.weight)
        if layer.bias is not None:
            product += layer.bias
        return product.view(*states.shape[:-1], -1)

    return forward


def multiply_columns(states: Tensor, weight: Tensor) -> Tensor:
    """`states @ weight.T` `[rows, out]` for states `[rows, in]` and a weight `[out, in]`."""
    parts = _count_parts(len(weight))
    if len(states) <= 4 or parts == 1:
        # With the weight on the left its rows are what is shared.
        return torch.mm(weight, states.T).T.contiguous()
    blocks = weight.view(parts, len(weight) // parts, -1).transpose(1, 2)
    return torch.bmm(states.expand(parts, *states.shape), blocks).transpose(0, 1).reshape(len(states), -1)


def multiply_rows(states: Tensor, weight: Tensor) -> Tensor:
    """`states @ weight` `[rows, out]` for states `[rows, in]` and a weight `[in, out]`, GPT-2's way round."""
    inner, out = weight.shape
    parts = _count_parts(inner)
    pieces = states.view(len(states), parts, -1).transpose(0, 1)
    return torch.bmm(pieces, weight.view(parts, inner // parts, out)).sum(0)


def _count_parts(size: int) -> int:
    return next(parts for parts in (PARTS, 4, 2, 1) if size % parts == 0)
