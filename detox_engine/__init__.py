"""See and remove the toxic subspace of a language model (arXiv 2405.13967).

What a journey in Python needs is importable from here; torch and transformers are loaded with the first of the
names that needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from detox_engine.errors import InputError
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan, SweepPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import ModelSpec, PairSpec, TextSpec

if TYPE_CHECKING:
    from detox_engine.scoring.evaluation import evaluate
    from detox_engine.scoring.sweep import run_sweep
    from detox_engine.study.study import Study
    from detox_engine.workbench import Workbench

__all__ = [
    "EditPlan",
    "EvaluationPlan",
    "FitPlan",
    "InputError",
    "ModelSpec",
    "PairSpec",
    "SamplingPlan",
    "Study",
    "SweepPlan",
    "TextSpec",
    "Workbench",
    "evaluate",
    "run_sweep",
]

_HEAVY = {
    "Workbench": "workbench",
    "Study": "study.study",
    "evaluate": "scoring.evaluation",
    "run_sweep": "scoring.sweep",
}


def __getattr__(name: str) -> Any:
    if name not in _HEAVY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HEAVY[name]}"), name)
