"""What a baseline is: a file in `baselines/` that ends in a `BASELINE`, which says what it is, and makes it.

Methods find directions; a baseline does something else to the model, or asks something else of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from detox_engine.errors import Progress, ignore_progress
from detox_engine.plans.choice import Kind
from detox_engine.plans.lab.training import TrainingPlan

if TYPE_CHECKING:
    from pathlib import Path

    from detox_engine.data.columns import Pair
    from detox_engine.edit.change import Change
    from detox_engine.model.load import OpenModel
    from detox_engine.plans.edit import EditPlan
    from detox_engine.study.study import Study


@dataclass(frozen=True)
class Setup:
    """What a baseline is made of."""

    model: OpenModel
    study: Study
    edit: EditPlan
    """Layers, sites and rank of the methods that it stands beside."""
    pairs: Sequence[Pair]
    """Those of the study, or some of them, whose sides may be swapped."""
    flipped: float = 0.0
    """The share of them that are."""
    training: TrainingPlan = TrainingPlan()
    folder: Path | None = None
    """Where what took long is kept."""
    progress: Progress = ignore_progress


@dataclass(frozen=True)
class Made:
    """A baseline that is made, at strength 1."""

    change: Change
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is worth knowing of it, for JSON."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BaselineKind(Kind):
    """Something that methods are held against."""

    make: Callable[..., Made]
    """A `Setup`, and its options by keyword -> what it is; raises an InputError where it cannot be."""
    packages: tuple[str, ...] = ()
    """What has to be installed beside what the project needs."""
    finds_directions: bool = False
    """Whether it is an edit as methods make them, which random directions can stand beside."""
    learns: bool = False
    """Whether it depends on the pairs, so that fewer of them or wrong labels change it."""
    whole: bool = False
    """Whether it is also shown as it was made, whatever that costs."""
    shown_at: float = 1.0
    """The strength at which it is then."""
