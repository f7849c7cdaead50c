"""How long work will take, going by how long the model took to embed its pairs."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from detox_engine.data.bundled import bundled_prompts
from detox_engine.data.texts import read_prompts
from detox_engine.errors import InputError
from detox_engine.plans.sources import BUNDLED
from ui.work import jobs

if TYPE_CHECKING:
    from detox_engine.plans.evaluation import EvaluationPlan
    from detox_engine.plans.sampling import SamplingPlan
    from detox_engine.study.study import Study

WRITING = 0.09
"""What a token of a continuation takes, in embeddings of a text: of the bundled model 10,240 took 3.0 s where embedding
1,400 texts took 4.4 s."""
READING = 1.0
"""What a text takes that is read under one edit."""
TEXTS = 500
"""Neutral texts that are read where nobody says how many."""


def estimate_writing(study: Study, prompts: int, sampling: SamplingPlan, sides: int = 2) -> float:
    """Seconds until all is written under so many sides; 0 where nothing is known."""
    samples = 1 if sampling.greedy else sampling.samples
    return _embedding(study) * WRITING * prompts * samples * sampling.max_new_tokens * sides


def estimate_measuring(study: Study, plan: EvaluationPlan, edits: int = 1) -> float:
    """Seconds until so many edits are measured, with their controls; 0 where nothing is known."""
    prompts = count_prompts(study.model.name, plan)
    if prompts is None:
        return 0.0
    sides = 1 + edits * (1 + plan.controls * len(plan.kinds))
    texts = plan.neutral.limit or TEXTS
    return estimate_writing(study, prompts, plan.sampling, sides) + _embedding(study) * READING * texts * sides


def tell_estimate(seconds: float) -> str:
    """An estimate in a few words; empty where there is none."""
    if seconds <= 0:
        return ""
    return "a few seconds" if seconds < 5 else f"about {jobs.describe_seconds(seconds)}"


def count_prompts(model: str, plan: EvaluationPlan) -> int | None:
    """Prompts that a plan takes; None where that is not known before they are read."""
    known = _count_bundled(model) if plan.prompts == BUNDLED else None
    limits = [count for count in (known, plan.limit_prompts) if count is not None]
    return min(limits) if limits else None


@lru_cache(8)
def _count_bundled(model: str) -> int | None:
    try:
        file = bundled_prompts(model)
        return len(read_prompts(str(file), file))
    except (InputError, OSError):
        return None


def _embedding(study: Study) -> float:
    """Seconds that a text of the pairs took."""
    return study.seconds.get("embed", 0.0) / max(1, 2 * study.pair_count)
