"""Mixtures of experts: which tensors their experts write with, found by what becomes of the sum without them.

Experts lie in one tensor of three dimensions (transformers 5) or in a list of modules. Whichever tensors are taken for
those that write, a direction v is removed from all of them and the module that sums the experts is run again: its
output has nothing along v then, or these are not the tensors. Projection is linear, so that removing v from every
expert removes it from their sum, whatever the routing, and that is also why the edit may be made on the sum.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from detox_engine.errors import InputError
from detox_engine.model.anatomy.calls import ADVICE, Call, copy_arguments, first_tensor, kind
from detox_engine.model.anatomy.projection import (
    OutputProjection,
    WrittenTensor,
    is_linear,
    tensor_of,
    weigh_experts,
    width_of,
)
from detox_engine.model.placement import close_weight, open_weight, read_weight, restored

LEFT = 0.1
"""Share of a token's output that may be left by the rounding of bfloat16; of the wrong tensors about all of it is."""
ROUNDED = 0.01
"""Share of a token's output that the rounding of bfloat16 may make of two runs."""

Option = tuple[WrittenTensor, ...]


def find_experts(block: nn.Module, hidden: int) -> tuple[nn.Module, ...]:
    """What holds experts in `block`, whatever the classes are called; nothing in a dense block.

    That is a module with weights of three dimensions, the experts' number and twice a width, one of them the stream's;
    or a list of several modules that each write into the stream.
    """
    return tuple(part for part in block.modules() if _is_fused(part, hidden) or _is_list(part, hidden))


def _is_fused(part: nn.Module, hidden: int) -> bool:
    own = part.parameters(recurse=False)
    fused = any(each.dim() == 3 and hidden in each.shape[1:] and min(each.shape) > 1 for each in own)
    return fused and not isinstance(part, nn.modules.conv._ConvNd)


def _is_list(part: nn.Module, hidden: int) -> bool:
    return isinstance(part, nn.ModuleList) and sum(bool(_writers(each, hidden)) for each in part) > 1


def _writers(module: nn.Module, hidden: int) -> list[str]:
    """Names within `module` of its linear layers that give `hidden` numbers."""
    return [name for name, part in module.named_modules() if is_linear(part) and width_of(part) == hidden]


def find_mixture(
    names: dict[nn.Module, str],
    block: nn.Module,
    calls: Sequence[Call],
    hidden: int,
    mixer: set[nn.Module],
    experts: Sequence[nn.Module],
    layouts: dict[tuple, int],
) -> tuple[Call, Option]:
    """The call of what sums the experts of `block`, and the tensors that they write with.

    Args:
        mixer: the block's attention and all within.
        experts: what `find_experts` gave.
        layouts: what was found in blocks before, by how these are built, so that each is tried once.

    Raises:
        InputError: no module gives the sum of all, or no tensors are those that write it.
    """
    shown = f"{names[block]} ({kind(block)}) is a mixture of experts (found {kind(experts[0])})"
    outside = set(block.modules()) - mixer - {block}
    writing = {call.module for call in calls if call.module in outside and _writes(call, hidden)} | set(experts)
    whole = next(
        (
            call
            for call in calls
            if call.module in outside and call.returned is not None and call.returned.shape[1] == hidden
            # A block's experts are run once a pass; modules that finish first are the innermost.
            if writing <= set(call.module.modules())
        ),
        None,
    )
    if whole is None:
        raise InputError(
            f"{shown}, and what sums them was not found: looked for one module outside of attention that gives all "
            f"that its MLPs write, {hidden} wide; {ADVICE}."
        )
    for each in experts:
        stacked = [own for own in each.parameters(recurse=False) if own.dim() == 3]
        if each is not whole.module and any(_names_of(each, (len(own), hidden)) for own in stacked):
            raise InputError(f"{shown} beside others, and its experts have biases: that is not supported; {ADVICE}.")
    options = list(_list_options(names, whole, calls, hidden, experts, writing))
    layout = (kind(whole.module), tuple(tuple((t.part, t.shape, t.transposed) for t in option) for option in options))
    if layout not in layouts:
        fitting = [number for number, option in enumerate(options) if _removes(whole, option)]
        if len(fitting) != 1:
            raise InputError(
                f"{shown}, and what they write with was not found: looked for one choice of their tensors without "
                f"whose part along a direction their sum has nothing along it, and found {len(fitting)} among "
                f"{len(options)}; {ADVICE}."
            )
        layouts[layout] = fitting[0]
    found = options[layouts[layout]]
    biased = [each.name for each in found if each.bias is not None and each.module is not whole.module]
    if biased:
        raise InputError(
            f"{shown} whose biases, such as that of {biased[0]}, are weighted in a way that is not known here: that is "
            f"not supported; {ADVICE}."
        )
    return whole, found


def _writes(call: Call, hidden: int) -> bool:
    return is_linear(call.module) and call.returned is not None and call.returned.shape[1] == hidden


def _list_options(
    names: dict[nn.Module, str],
    whole: Call,
    calls: Sequence[Call],
    hidden: int,
    experts: Sequence[nn.Module],
    writing: set[nn.Module],
) -> Iterator[Option]:
    """Choices of tensors, one of each kind of experts; shared experts write with the last layer that gives `hidden`."""
    listed = {part for each in experts for part in each.modules()}
    shared = [call for call in calls if call.module in writing - listed]
    square = any(call.given is not None and call.given.shape[1] == hidden for call in shared)
    more = [tensor_of(names[call.module], call.module) for call in (shared[-1:] if square else shared)]
    fused = [each for each in experts if not isinstance(each, nn.ModuleList)]
    for each in fused:
        for part, own in each.named_parameters(recurse=False):
            if own.dim() != 3:
                continue
            bias = next((name for name in _names_of(each, (own.shape[0], hidden)) if _adds(whole, each, name)), None)
            for axis in (1, 2):
                if own.shape[axis] == hidden:
                    yield (WrittenTensor(names[each], each, part, axis == 1, bias), *more)
    if not fused:
        # Whatever an expert's layer is called, all experts of a list call it alike.
        for name in dict.fromkeys(chain.from_iterable(_writers(part, hidden) for each in experts for part in each)):
            modules = [part.get_submodule(name) for each in experts for part in each]
            yield (*(tensor_of(names[module], module) for module in modules), *more)


@torch.no_grad()
def _removes(whole: Call, option: Option) -> bool:
    """Whether the sum has nothing along its first token once that direction is removed from these tensors."""
    if whole.arguments is None:
        return False
    if any(each.packed for each in option):
        return len(option) == 1  # they cannot be rewritten to see what becomes of the sum
    own = option[0]
    known = own.bias is not None and own.module is whole.module
    # Biases that are weighted nobody knows how are out of the way while this is looked at.
    others = [] if known else [(each.module, each.bias) for each in option if each.bias is not None]
    with restored([*((each.module, each.part) for each in option), *others]):
        for module, bias in others:
            close_weight(module, bias, open_weight(module, bias).zero_())
        written = _run_again(whole)
        size = written.norm()
        if not size > 0:
            return False
        direction = written / size
        for each in option:
            tensor = open_weight(each.module, each.part)
            for rows in each.split(tensor):
                _remove(rows, direction)
            close_weight(each.module, each.part, tensor)
        left = _run_again(whole)
    kept = _sum_bias(whole, own.module, own.bias) @ direction if known else 0.0
    return bool((left - kept * direction).norm() <= LEFT * size)


@torch.no_grad()
def _adds(whole: Call, module: nn.Module, bias: str) -> bool:
    """Whether without this parameter the sum's first token lacks just what the routing weighs of it."""
    if whole.module is not module or whole.arguments is None:
        return False
    try:
        share = _sum_bias(whole, module, bias)
    except ValueError:
        return False
    with restored([(module, bias)]):
        close_weight(module, bias, open_weight(module, bias).zero_())
        lacking = whole.returned[0].float() - _run_again(whole)
    return bool((lacking - share).norm() <= LEFT * share.norm() + ROUNDED * whole.returned[0].float().norm())


def _sum_bias(whole: Call, module: nn.Module, bias: str) -> Tensor:
    """`[hidden]` what the first token's experts add of their biases; raises a ValueError like `weigh_experts`."""
    own = read_weight(module, bias).float().cpu()
    return weigh_experts(*whole.arguments, len(own))[0].cpu() @ own


def _run_again(whole: Call) -> Tensor:
    """`[hidden]` float32: what the module gives now for the first token of the traced pass."""
    given, named = copy_arguments(*whole.arguments)
    return first_tensor(whole.module(*given, **named)).reshape(-1, whole.returned.shape[1])[0].float().cpu()


def _names_of(module: nn.Module, shape: tuple[int, ...]) -> list[str]:
    return [name for name, own in module.named_parameters(recurse=False) if tuple(own.shape) == shape]


def _remove(rows: Tensor, direction: Tensor) -> None:
    along = direction.to(rows.device)
    rows.copy_((rows.float() - torch.outer(rows.float() @ along, along)).to(rows.dtype))


def make_mixture(names: dict[nn.Module, str], whole: Call, tensors: Option, gain: Tensor | None) -> OutputProjection:
    """The projection of a block's experts."""
    return OutputProjection(names[whole.module], "mlp", whole.module, tensors, gain)
