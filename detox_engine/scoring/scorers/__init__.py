"""One scorer a file: a module here that has a `SCORER` is one, and that is all it takes."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.plans.measure import EvaluationPlan
from detox_engine.scoring.scorer import Context, Scorer, ScorerKind


@cache
def scorers() -> Mapping[str, ScorerKind]:
    """Every scorer by its name, as lists of them go. Their modules are light: what is heavy is imported to measure."""
    found = (import_module(f"{__name__}.{entry.name}") for entry in iter_modules(__path__))
    kinds = [module.SCORER for module in found if hasattr(module, "SCORER")]
    return {kind.name: kind for kind in sorted(kinds, key=lambda kind: (kind.place, kind.name))}


def choose(plan: EvaluationPlan) -> tuple[ScorerKind, ...]:
    """The scorers that a plan names, in its order.

    Raises:
        InputError: it names none, or one that there is not.
    """
    known = scorers()
    among = f"choose among {', '.join(known)}"
    if not plan.scorers:
        raise InputError(f"An evaluation needs a scorer: {among}.")
    unknown = [name for name in plan.scorers if name not in known]
    if unknown:
        raise InputError(f"There is no scorer “{unknown[0]}”: {among}.")
    return tuple(known[name] for name in dict.fromkeys(plan.scorers))


def make_scorers(
    plan: EvaluationPlan, device: str = "auto", progress: Progress = ignore_progress
) -> tuple[Scorer, ...]:
    """What a plan measures with, in its order; whatever is missing is told before anything is measured.

    Raises:
        InputError: a scorer is not known or cannot be used, such as a classifier that is no classifier.
    """
    context = Context(plan.sampling.samples, device, progress)
    return tuple(scorer for kind in choose(plan) for scorer in kind.make_scorers(plan, context))
