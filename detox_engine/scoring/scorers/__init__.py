"""One scorer a file: a module here that has a `SCORER` is one, and that is all it takes."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from detox_engine.disk import read_as
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.plans.choice import Choice, collect, find
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import TextSpec
from detox_engine.scoring.scorer import Context, Scorer, ScorerKind


@cache
def scorers() -> Mapping[str, ScorerKind]:
    """Every scorer by its name, as lists of them go."""
    return collect(__name__, "SCORER")


def choose(plan: EvaluationPlan) -> Mapping[ScorerKind, Any]:
    """The scorers that a plan names, in its order, with the options of each.

    Raises:
        InputError: it names none, or one that there is not.
    """
    if not plan.scorers:
        raise InputError(f"An evaluation needs a scorer: choose among {', '.join(scorers())}.")
    kinds = [(find(scorers(), choice, "scorer"), choice) for choice in plan.scorers]
    return {kind: kind.options_of(choice) for kind, choice in kinds}


def record_plan(plan: EvaluationPlan) -> dict[str, Any]:
    """All of a plan: `scorers` by name, and under `options` those of each that has any, in full."""
    options = {kind.name: asdict(chosen) for kind, chosen in choose(plan).items()}
    return {**asdict(plan), "scorers": list(options), "options": {name: own for name, own in options.items() if own}}


def read_plan(record: Mapping[str, Any]) -> EvaluationPlan:
    """What `record_plan` wrote.

    Raises:
        InputError: a scorer is not here, or the plan cannot be so.
        KeyError, TypeError: it is no record of a plan.
    """
    rest = dict(record)
    options, chosen = rest.pop("options"), []
    for name in rest.pop("scorers"):
        kind = find(scorers(), Choice(name), "scorer")
        own = {key: tuple(value) if isinstance(value, list) else value for key, value in options.get(name, {}).items()}
        chosen.append(Choice(name, kind.options(**own) if own else None))
    parts = {"sampling": read_as(SamplingPlan, rest.pop("sampling")), "neutral": read_as(TextSpec, rest.pop("neutral"))}
    if not isinstance(rest["prompts"], str):
        raise TypeError(f"the prompts are {str(rest['prompts'])[:40]}")
    return EvaluationPlan(tuple(chosen), **rest, **parts)


def make_scorers(
    plan: EvaluationPlan, device: str = "auto", progress: Progress = ignore_progress
) -> tuple[Scorer, ...]:
    """What a plan measures with, in its order; whatever is missing is told before anything is measured.

    Raises:
        InputError: a scorer is not known or cannot be used, such as a classifier that is no classifier.
    """
    context = Context(plan.sampling.samples, device, progress)
    return tuple(scorer for kind, own in choose(plan).items() for scorer in kind.make_scorers(own, context))
