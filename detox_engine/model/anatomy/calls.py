"""What was seen of a model's modules during one traced pass."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

ADVICE = "use a decoder-only language model such as GPT-2, Llama, Qwen or Gemma, or the bundled model"

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Call(NamedTuple):
    """One finished call of a module during the traced pass; tensors are copies on the CPU, `[tokens, width]`."""

    module: nn.Module
    given: Tensor | None
    returned: Tensor | None
    shape: tuple[int, ...]
    """What was returned had before it was flattened; empty where that is no tensor."""
    arguments: Arguments | None = None
    """What it was called with, to call it again; kept within mixtures of experts alone."""


def copy_arguments(given: Sequence[Any], named: Mapping[str, Any]) -> Arguments:
    """Arguments whose tensors nobody changes any more."""

    def copied(part: Any) -> Any:
        return part.detach().clone() if isinstance(part, Tensor) else part

    return tuple(map(copied, given)), {name: copied(part) for name, part in named.items()}


def first_tensor(value: object) -> Tensor | None:
    """What a module is given or gives first; None where that is no tensor."""
    first = value[0] if isinstance(value, tuple | list) and value else value
    return first if isinstance(first, Tensor) else None


def last_call(calls: Sequence[Call], module: nn.Module) -> Call:
    return next(call for call in reversed(calls) if call.module is module)


def same(one: Tensor | None, other: Tensor) -> bool:
    # NaN equals NaN here: weights that are not finite get their own sentence when texts are embedded.
    return one is not None and one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def kind(module: nn.Module) -> str:
    """The class of a module, by name."""
    return type(module).__name__
