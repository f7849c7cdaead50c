"""One method a file: a module here that has a `METHOD` is one, and that is all it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.plans.choice import Choice, collect, find
from detox_engine.plans.fit import PAPER
from detox_engine.study.method import MethodKind

if TYPE_CHECKING:
    from torch import Tensor

    from detox_engine.forward.embedded_pairs import TokenMoments
    from detox_engine.study.moments import Moments
    from detox_engine.study.subspace import ToxicSubspace

STAGE = "Decomposing layers"
DETOX = Choice(PAPER)


@cache
def methods() -> Mapping[str, MethodKind]:
    """Every method by its name, as lists of them go."""
    return collect(__name__, "METHOD")


def title_of(name: str) -> str:
    """What a method is called: its name where it is not here, for a study can hold directions of one that is not."""
    return methods()[name].title if name in methods() else name


def choose(choice: Choice) -> MethodKind:
    """The method that was chosen.

    Raises:
        InputError: there is none of its name.
    """
    return find(methods(), choice, "method")


def need_covariance(chosen: Sequence[Choice]) -> bool:
    """Whether any of the methods asks for the covariance of civil tokens.

    Raises:
        InputError: there is no method of a name.
    """
    kinds = [choose(choice) for choice in chosen]
    return any(kind.needs_covariance for kind in kinds)


def record_methods(chosen: Sequence[Choice]) -> list[dict[str, Any]]:
    """Each method by its name, and its options in full where it has any."""
    return [{"name": choice.name} | _record_options(choice) for choice in chosen]


def _record_options(choice: Choice) -> dict[str, Any]:
    options = asdict(methods()[choice.name].options_of(choice)) if choice.name in methods() else {}
    return {"options": options} if options else {}


def read_methods(record: dict[str, Any]) -> tuple[Choice, ...]:
    """What `record_methods` wrote, which is taken out of a plan's record.

    Raises:
        ValueError: the study is older and holds no directions of DeTox.
    """
    older = record.pop("method", PAPER)
    record.pop("method_options", None)
    if older != PAPER:
        raise ValueError(f"it was fitted by {older} alone")
    return tuple(_read_choice(**entry) for entry in record.pop("methods", [{"name": PAPER}]))


def _read_choice(name: str, options: Mapping[str, Any] | None = None) -> Choice:
    # A study can be read where its method is not.
    kind = methods().get(name)
    own = {part: tuple(value) if isinstance(value, list) else value for part, value in (options or {}).items()}
    return Choice(name, kind.options(**own) if kind and own else None)


def fit_layer(
    toxic: Tensor,
    civil: Tensor,
    keep: int,
    method: Choice = DETOX,
    covariance: Tensor | None = None,
) -> ToxicSubspace:
    """The directions of a layer from embeddings `[pairs, hidden]`.

    Args:
        covariance: `[hidden, hidden]` of the states of civil tokens, for a method that needs it.

    Of a method that looks across layers these are its candidates: `fit_subspaces` gives its directions.
    """
    kind = choose(method)
    return kind.fit(toxic, civil, keep, **_options(kind, method, covariance))


def _options(kind: MethodKind, method: Choice, covariance: Tensor | None) -> dict[str, Any]:
    asked = {"covariance": covariance} if kind.needs_covariance else {}
    return vars(kind.options_of(method)) | asked


def fit_subspaces(
    toxic: Tensor,
    civil: Tensor,
    keep: int,
    progress: Progress = ignore_progress,
    method: Choice = DETOX,
    tokens: TokenMoments | None = None,
) -> tuple[ToxicSubspace, ...]:
    """The directions of every layer from embeddings `[layers, pairs, hidden]`; progress counts layers."""
    kind = choose(method)

    def fit(layer: int) -> ToxicSubspace:
        return fit_layer(toxic[layer], civil[layer], keep, method, _covariance(kind, tokens, layer))

    return _fit_all(fit, len(toxic), keep, kind, progress)


def fit_subspaces_of(
    moments: Sequence[Moments],
    keep: int,
    progress: Progress = ignore_progress,
    method: Choice = DETOX,
    tokens: TokenMoments | None = None,
) -> tuple[ToxicSubspace, ...]:
    """The directions of every layer from its moments; progress counts layers.

    Raises:
        InputError: the method needs all pairs at once.
    """
    kind = choose(method)
    require_streamed([method])

    def fit(layer: int) -> ToxicSubspace:
        return kind.fit_streamed(moments[layer], keep, **_options(kind, method, _covariance(kind, tokens, layer)))

    return _fit_all(fit, len(moments), keep, kind, progress)


def require_streamed(chosen: Sequence[Choice]) -> None:
    """Raise an InputError where one of the methods needs all pairs at once, or does not exist."""
    for kind in map(choose, chosen):
        if kind.fit_streamed is None:
            raise InputError(
                f"The method {kind.title} needs all pairs at once, and these are too many to hold: draw fewer of them."
            )


def _covariance(kind: MethodKind, tokens: TokenMoments | None, layer: int) -> Tensor | None:
    return tokens.covariance(layer) if kind.needs_covariance else None


def _fit_all(
    fit: Callable[[int], ToxicSubspace], layers: int, keep: int, kind: MethodKind, progress: Progress
) -> tuple[ToxicSubspace, ...]:
    from detox_engine.model.threads import run_side_by_side

    stage = STAGE if kind.name == PAPER else f"{STAGE}: {kind.title}"
    found = tuple(run_side_by_side(fit, layers, stage, progress))
    return found if kind.across is None else kind.across(found, keep)
