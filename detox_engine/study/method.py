"""What a method is: a file in `methods/` that ends in a `METHOD`, which says what it finds, and finds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from detox_engine.study.moments import Moments
    from detox_engine.study.subspace import ToxicSubspace


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodKind:
    """A way to find the toxic directions of a layer."""

    name: str
    title: str
    sentence: str
    """What it finds, as an entry in a list: no capital in front, no full stop behind."""
    fit: Callable[[Tensor, Tensor, int], ToxicSubspace]
    """Toxic and civil embeddings `[pairs, hidden]`, and how many directions to keep at most -> those of a layer."""
    fit_streamed: Callable[[Moments, int], ToxicSubspace] | None = None
    """The same from the moments of pairs that were too many to hold; None where moments do not tell enough."""
    place: int = 1000
    """Where it stands in lists of methods."""
