"""One method a file: a module here that has a `METHOD` is one, and that is all it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.plans.choice import Choice, collect, find
from detox_engine.plans.fit import FitPlan
from detox_engine.study.method import MethodKind

if TYPE_CHECKING:
    from torch import Tensor

    from detox_engine.study.moments import Moments
    from detox_engine.study.subspace import ToxicSubspace

STAGE = "Decomposing layers"


@cache
def methods() -> Mapping[str, MethodKind]:
    """Every method by its name, as lists of them go."""
    return collect(__name__, "METHOD")


def choose(choice: Choice) -> MethodKind:
    """The method that was chosen.

    Raises:
        InputError: there is none of its name.
    """
    return find(methods(), choice, "method")


def record_method(method: Choice) -> dict[str, Any]:
    """`method`, by name, and where it has any `method_options`, in full."""
    options = asdict(methods()[method.name].options_of(method)) if method.name in methods() else {}
    return {"method": method.name} | ({"method_options": options} if options else {})


def read_method(record: dict[str, Any]) -> Choice:
    """What `record_method` wrote, which is taken out of a record; DeTox in records that are older than the choice."""
    name, options = record.pop("method", FitPlan.method.name), record.pop("method_options", {})
    # A study can be read where its method is not.
    kind = methods().get(name)
    own = {part: tuple(value) if isinstance(value, list) else value for part, value in options.items()}
    return Choice(name, kind.options(**own) if kind and own else None)


def fit_layer(toxic: Tensor, civil: Tensor, keep: int, method: Choice) -> ToxicSubspace:
    """The toxic subspace of a layer from embeddings `[pairs, hidden]`."""
    kind = choose(method)
    return kind.fit(toxic, civil, keep, **vars(kind.options_of(method)))


def fit_subspaces(
    toxic: Tensor, civil: Tensor, keep: int, progress: Progress = ignore_progress, method: Choice = FitPlan.method
) -> tuple[ToxicSubspace, ...]:
    """The toxic subspace of every layer from embeddings `[layers, pairs, hidden]`; progress counts layers."""
    from detox_engine.model.threads import run_side_by_side

    def fit(layer: int) -> ToxicSubspace:
        return fit_layer(toxic[layer], civil[layer], keep, method)

    return tuple(run_side_by_side(fit, len(toxic), STAGE, progress))


def fit_subspaces_of(
    moments: Sequence[Moments], keep: int, progress: Progress = ignore_progress, method: Choice = FitPlan.method
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
    fit, options = kind.fit_streamed, vars(kind.options_of(method))
    return tuple(run_side_by_side(lambda layer: fit(moments[layer], keep, **options), len(moments), STAGE, progress))
