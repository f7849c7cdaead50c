"""What a method is: a file in `methods/` that ends in a `METHOD`, which says what it finds, and finds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from detox_engine.plans.choice import Kind

if TYPE_CHECKING:
    from detox_engine.study.subspace import ToxicSubspace


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodKind(Kind):
    """A way to find the toxic directions of a layer."""

    fit: Callable[..., ToxicSubspace]
    """Toxic and civil embeddings `[pairs, hidden]`, how many directions to keep at most, and its options by keyword ->
    the directions of a layer."""
    fit_streamed: Callable[..., ToxicSubspace] | None = None
    """The same from the moments of pairs that were too many to hold; None where moments do not tell enough."""
    across: Callable[[Sequence[ToxicSubspace], int], tuple[ToxicSubspace, ...]] | None = None
    """What was fitted to each layer alone, layer 0 first, and how many directions to keep at most -> the directions of
    every layer; None where a layer's are those that were fitted to it."""
    needs_covariance: bool = False
    """Whether `fit` and `fit_streamed` also take, as `covariance`, that of the states of civil tokens,
    `[hidden, hidden]` float64."""
