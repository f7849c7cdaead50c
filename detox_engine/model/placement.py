"""Where weights lie: on one device, spread over several, or in main memory and on disk until their layer runs.

Accelerate hangs a hook on each module of a split model, which brings the weights of its forward pass and takes them
away afterwards; between two passes these are empty, on the device "meta". Whoever reads or writes weights outside a
pass does it through here.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def find_hook(module: nn.Module) -> Any:
    """What accelerate hung on `module` to bring its weights; None where they are always there."""
    hook = getattr(module, "_hf_hook", None)
    return next((each for each in getattr(hook, "hooks", (hook,)) if getattr(each, "offload", False)), None)


def find_device(module: nn.Module) -> torch.device:
    """Where `module` computes: where its first weight is, or is brought to; the CPU where it has none."""
    for part in module.modules():
        hook = getattr(part, "_hf_hook", None)
        for each in getattr(hook, "hooks", (hook,)):
            device = getattr(each, "execution_device", None)
            if device is not None and next(part.parameters(recurse=False), None) is not None:
                return torch.device(device)
        weight = next(part.parameters(recurse=False), None)
        if weight is not None:
            return weight.device
    return torch.device("cpu")


def read_weight(module: nn.Module, part: str) -> Tensor:
    """The parameter `part` of `module`, or its copy in main memory where it is away; not to be written to."""
    own, hook = getattr(module, part), find_hook(module)
    return own.detach() if own.device.type != "meta" or hook is None else hook.weights_map[part]


def open_weight(module: nn.Module, part: str) -> Tensor:
    """A tensor to write to, which `close_weight` makes the parameter: itself, or a copy where it is away."""
    own = read_weight(module, part)
    return own.clone() if getattr(module, part).device.type == "meta" else own


def close_weight(module: nn.Module, part: str, changed: Tensor) -> None:
    """What `open_weight` gave is the parameter from now on; where it is away, main memory keeps it."""
    if getattr(module, part).device.type == "meta":
        held, key = _find_store(module, part)
        held[key] = changed


@contextmanager
def restored(parts: Iterable[tuple[nn.Module, str]]) -> Iterator[None]:
    """These parameters are at the end what they were at the beginning, bit for bit; holds copies meanwhile."""
    undo: list[tuple[nn.Module, str, Tensor | None]] = []
    try:
        for module, part in parts:
            if getattr(module, part).device.type == "meta":
                held, key = _find_store(module, part)
                undo.append((module, part, held.get(key)))
            else:
                undo.append((module, part, getattr(module, part).detach().clone()))
        yield
    finally:
        with torch.no_grad():
            for module, part, kept in undo:
                if getattr(module, part).device.type != "meta":
                    getattr(module, part).copy_(kept)
                    continue
                held, key = _find_store(module, part)
                if kept is None:
                    held.pop(key, None)
                else:
                    held[key] = kept


def _find_store(module: nn.Module, part: str) -> tuple[dict[str, Tensor], str]:
    """The tensors in main memory that come before what lies on disk, and the key of this one."""
    weights, key = find_hook(module).weights_map, part
    if hasattr(weights, "dataset"):
        weights, key = weights.dataset, f"{weights.prefix}{part}"
    return getattr(weights, "state_dict", weights), key


@contextmanager
def weights_at_hand(module: nn.Module) -> Iterator[None]:
    """Every parameter within `module` is there inside, on the device where it computes."""
    away = [(part, hook) for part in module.modules() if (hook := find_hook(part)) is not None]
    brought = []
    try:
        for part, hook in away:
            hook.pre_forward(part)
            brought.append((part, hook))
        yield
    finally:
        for part, hook in brought:
            hook.post_forward(part, None)


def copy_plainly(module: nn.Module) -> nn.Module:
    """`module` in float32, with weights of its own and without what accelerate hung on it."""
    copied = module.__new__(type(module))
    copied.__dict__ = {name: value for name, value in module.__dict__.items() if name not in _HUNG}
    with weights_at_hand(module):
        copied._parameters = {
            name: None if own is None else nn.Parameter(own.detach().float().clone(), requires_grad=False)
            for name, own in module._parameters.items()
        }
        copied._buffers = {
            name: own if own is None or not own.is_floating_point() else own.detach().float().clone()
            for name, own in module._buffers.items()
        }
    copied._modules = {name: part and copy_plainly(part) for name, part in module._modules.items()}
    return copied


_HUNG = frozenset(("_hf_hook", "_old_forward", "forward"))
