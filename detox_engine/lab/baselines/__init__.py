"""One baseline a file: a module here that has a `BASELINE` is one, and that is all it takes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from detox_engine.lab.baseline import BaselineKind, Made, Setup
from detox_engine.plans.choice import Choice, Kind, collect, find
from detox_engine.study.methods import methods


@cache
def baselines() -> Mapping[str, BaselineKind]:
    """Every baseline by its name, as lists of them go."""
    return collect(__name__, "BASELINE")


def list_contestants() -> Mapping[str, Kind]:
    """Every method and every baseline by its name, as lists of them go."""
    return {**methods(), **baselines()}


def make_baseline(choice: Choice, setup: Setup) -> Made:
    """The baseline that was chosen.

    Raises:
        InputError: there is none of its name, or it cannot be made of this model or these pairs.
    """
    kind = find(baselines(), choice, "baseline")
    return kind.make(setup, **vars(kind.options_of(choice)))
