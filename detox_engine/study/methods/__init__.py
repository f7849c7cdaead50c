"""One method a file: a module here that has a `METHOD` is one, and that is all it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.study.method import MethodKind

if TYPE_CHECKING:
    from torch import Tensor

    from detox_engine.study.moments import Moments
    from detox_engine.study.subspace import ToxicSubspace

STAGE = "Decomposing layers"


@cache
def methods() -> Mapping[str, MethodKind]:
    """Every method by its name, as lists of them go. Their modules are light: what is heavy is imported to fit."""
    found = (import_module(f"{__name__}.{entry.name}") for entry in iter_modules(__path__))
    kinds = [module.METHOD for module in found if hasattr(module, "METHOD")]
    return {kind.name: kind for kind in sorted(kinds, key=lambda kind: (kind.place, kind.name))}


def choose(name: str) -> MethodKind:
    """The method called `name`.

    Raises:
        InputError: there is none.
    """
    if name not in methods():
        raise InputError(f"There is no method “{name}”: choose among {', '.join(methods())}.")
    return methods()[name]


def fit_subspaces(
    toxic: Tensor, civil: Tensor, keep: int, progress: Progress = ignore_progress, method: str = "detox"
) -> tuple[ToxicSubspace, ...]:
    """The toxic subspace of every layer from embeddings `[layers, pairs, hidden]`; progress counts layers."""
    from detox_engine.model.threads import run_side_by_side

    fit = choose(method).fit
    return tuple(run_side_by_side(lambda layer: fit(toxic[layer], civil[layer], keep), len(toxic), STAGE, progress))


def fit_subspaces_of(
    moments: Sequence[Moments], keep: int, progress: Progress = ignore_progress, method: str = "detox"
) -> tuple[ToxicSubspace, ...]:
    """The toxic subspace of every layer from its moments; progress counts layers.

    Raises:
        InputError: the method needs all pairs at once.
    """
    from detox_engine.model.threads import run_side_by_side

    kind = choose(method)
    if kind.fit_streamed is None:
        raise InputError(
            f"The method {kind.title} needs all pairs at once, and these are too many to hold: draw fewer of them."
        )
    fit = kind.fit_streamed
    return tuple(run_side_by_side(lambda layer: fit(moments[layer], keep), len(moments), STAGE, progress))
