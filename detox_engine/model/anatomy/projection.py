"""What writes into the residual stream: one matrix, or in a mixture of experts those of all experts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from detox_engine.errors import InputError
from detox_engine.model.placement import find_device, read_weight
from detox_engine.plans.edit import Site

ROWS_AT_ONCE = 1024
"""Unit rows that a quantised layer is read with at once."""


@dataclass(frozen=True, eq=False)
class WrittenTensor:
    """A tensor whose rows are written into the residual stream: a layer's matrix, or all experts' in one."""

    name: str
    """Full dotted name of the module that holds it, such as `transformer.h.3.mlp.c_proj`."""

    module: nn.Module

    part: str
    """What the module calls it: `weight`, or a fused mixture's own name."""

    transposed: bool
    """True: the matrices are `[hidden, inner]` (Linear); False: `[inner, hidden]` (Conv1D)."""

    bias: str | None
    """What the module calls its bias, `[hidden]` or `[experts, hidden]`; None where it has none."""

    @property
    def packed(self) -> bool:
        """Whether it is quantised: what the module keeps are no numbers that could be rewritten."""
        return is_packed(self.module, self.part)

    @property
    def value(self) -> Tensor:
        """The whole tensor, `[…]` or `[experts, …]`, wherever it lies; of a quantised one what is left of it."""
        return unpack(self.module) if self.packed else read_weight(self.module, self.part)

    @property
    def shape(self) -> tuple[int, ...]:
        if self.packed and isinstance(getattr(self.module, "in_features", None), int):
            return (self.module.out_features, self.module.in_features)
        return tuple(getattr(self.module, self.part).shape)

    @property
    def experts(self) -> int:
        """How many matrices are in it."""
        return self.shape[0] if len(self.shape) == 3 else 1

    @property
    def inner(self) -> int:
        """Rows of each matrix."""
        return self.shape[-1 if self.transposed else -2]

    def split(self, whole: Tensor) -> tuple[Tensor, ...]:
        """Views `[inner, hidden]` of every matrix in `whole`, which is laid out like `value`."""
        parts = whole.unbind() if whole.dim() == 3 else (whole,)
        return tuple(part.T if self.transposed else part for part in parts)


@dataclass(frozen=True, eq=False)
class OutputProjection:
    """What writes an MLP's or an attention's result into the residual stream of one block."""

    name: str
    """Full dotted name in the model of `module`."""

    site: Site
    """Whose result it writes."""

    module: nn.Module
    """Its output is the result: Linear or Conv1D, or what sums a mixture's experts, shared ones too."""

    tensors: tuple[WrittenTensor, ...]
    """One, of `module` itself; of a mixture all experts'."""

    gain: Tensor | None
    """`[hidden]` what a norm between this layer and the residual stream multiplies the output with elementwise
    (Gemma 2 and 3), float32; None where the output joins the stream as it is."""

    @property
    def is_mixture(self) -> bool:
        return len(self.tensors) > 1 or self.tensors[0].module is not self.module or self.tensors[0].experts > 1

    @property
    def transposed(self) -> bool:
        return self.tensors[0].transposed

    @property
    def hidden(self) -> int:
        return self.tensors[0].shape[-2 if self.transposed else -1]

    @property
    def packed(self) -> bool:
        """Whether any of its tensors is quantised."""
        return any(each.packed for each in self.tensors)

    @property
    def inner(self) -> int:
        """How many rows are written, of all experts together."""
        return sum(each.experts * each.inner for each in self.tensors)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return find_device(self.tensors[0].module)

    @property
    def rows(self) -> Tensor:
        """`[inner, hidden]` the matrix that writes, a view of the weight; an MLP's rows are its value vectors.

        Raises:
            InputError: it is a mixture's, which has several.
        """
        if self.is_mixture:
            raise InputError(
                f"{self.name} is a mixture of experts and writes through {len(self.list_names())} matrices, where one "
                "is needed: use a model without experts."
            )
        return next(self.matrices())

    def matrices(self) -> Iterator[Tensor]:
        """Each `[inner, hidden]` matrix, in the order of `list_names`."""
        return chain.from_iterable(each.split(each.value) for each in self.tensors)

    def list_names(self) -> tuple[str, ...]:
        """Which expert each matrix is of, such as `3`, or `shared`; an empty name where there is no mixture."""
        if not self.is_mixture:
            return ("",)
        many = [each for each in self.tensors if _counts(each)]
        numbers = iter(range(sum(each.experts for each in many)))
        return tuple(
            str(next(numbers)) if _counts(each) else "shared" for each in self.tensors for _ in range(each.experts)
        )

    @property
    def bias(self) -> Tensor | None:
        """What is added to what the rows write: `[hidden]`, of a mixture `[experts, hidden]`, or None."""
        own = self.tensors[0]
        return None if own.bias is None else read_weight(own.module, own.bias)

    def weigh_bias(self, given: Sequence[Any], named: Mapping[str, Any]) -> Tensor | None:
        """`[tokens, experts]` how much of each expert's bias a call with these arguments adds; None: all of it."""
        return weigh_experts(given, named, self.tensors[0].experts) if self.is_mixture else None


def _counts(each: WrittenTensor) -> bool:
    """Whether it is of a numbered expert rather than of a shared one."""
    return each.experts > 1 or each.name.rsplit(".", 2)[-2].isdecimal()


def weigh_experts(given: Sequence[Any], named: Mapping[str, Any], experts: int) -> Tensor:
    """`[tokens, experts]` the weight of each expert, from the routing among the arguments of a mixture's call.

    That is a tensor `[tokens, chosen]` of experts' numbers and one of as many weights.

    Raises:
        ValueError: there is no such pair.
    """
    tensors = [each for each in (*given, *named.values()) if isinstance(each, Tensor) and each.dim() == 2]
    chosen = [each for each in tensors if not each.is_floating_point()]
    weights = [each for each in tensors if each.is_floating_point() and chosen and each.shape == chosen[0].shape]
    if len(chosen) != 1 or len(weights) != 1:
        raise ValueError("what the experts weigh was not found")
    spread = torch.zeros(len(chosen[0]), experts, device=weights[0].device, dtype=torch.float32)
    return spread.scatter_add_(1, chosen[0].long(), weights[0].float())


def is_linear(module: nn.Module) -> bool:
    """Whether it multiplies with a matrix: Linear, Conv1D, or a quantised one, which says how wide it is."""
    sizes = (getattr(module, name, None) for name in ("in_features", "out_features"))
    quantised = all(isinstance(size, int) for size in sizes) and is_packed(module, "weight")
    return isinstance(module, nn.Linear | Conv1D) or quantised


def is_packed(module: nn.Module, part: str) -> bool:
    """Whether the parameter `part` of a linear layer is no plain matrix of floating-point numbers."""
    own = getattr(module, part, None)
    if not isinstance(own, Tensor) or not own.is_floating_point() or own.dtype.itemsize < 2:
        return True
    sizes = [getattr(module, name, None) for name in ("out_features", "in_features")]
    # A subclass of Tensor, such as torchao's, says that it is a matrix and unpacks itself on every use.
    return (own.dim() == 2 and None not in sizes and [*own.shape] != sizes) or type(own) not in (Tensor, nn.Parameter)


def width_of(module: nn.Module) -> int:
    """How many numbers a linear layer gives."""
    return module.weight.shape[1] if isinstance(module, Conv1D) else module.out_features


@torch.no_grad()
def unpack(module: nn.Module) -> Tensor:
    """`[out, in]` float32: what a quantised linear layer multiplies with, read off from what it makes of unit rows."""
    inputs, dtype = module.in_features, _read_dtype(module)
    device = find_device(module)
    zero = module(torch.zeros(1, inputs, dtype=dtype, device=device)).float()
    columns = []
    for start in range(0, inputs, ROWS_AT_ONCE):
        units = torch.zeros(min(ROWS_AT_ONCE, inputs - start), inputs, dtype=dtype, device=device)
        units[:, start:].fill_diagonal_(1)
        columns.append(module(units).float() - zero)
    return torch.cat(columns).T


def _read_dtype(module: nn.Module) -> torch.dtype:
    """The number format of what a quantised layer is given: that of its bias or its scales, else float32."""
    own = [*module.parameters(), *module.buffers()]
    return next((each.dtype for each in own if each.is_floating_point() and each.dtype.itemsize >= 2), torch.float32)


def make_dense(name: str, site: Site, module: nn.Module, gain: Tensor | None) -> OutputProjection:
    """The projection of one linear layer."""
    return OutputProjection(name, site, module, (tensor_of(name, module),), gain)


def tensor_of(name: str, module: nn.Module) -> WrittenTensor:
    """The matrix of a linear layer."""
    bias = getattr(module, "bias", None)
    if callable(bias) and not isinstance(bias, Tensor):  # torch's own quantised layers
        raise InputError(f"{name} is quantised by torch with a bias that cannot be told apart: use plain weights.")
    bias = None if bias is None else "bias"
    return WrittenTensor(name, module, "weight", not isinstance(module, Conv1D), bias)
