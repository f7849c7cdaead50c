"""The worker that draws the pairs anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ui.session.view import Fitted
from ui.work.tasks import Task, Tell

if TYPE_CHECKING:
    from detox_engine.errors import Progress
    from detox_engine.study.stability import Stability
    from detox_engine.study.study import Study


@dataclass(frozen=True)
class Asked:
    """How far the first directions of every layer turn with other pairs: of which study, and how many directions."""

    fitted: Fitted
    rank: int


def answer(model: None, study: Study, asked: Asked, progress: Progress, tell: Tell) -> Stability:
    from detox_engine.study.stability import measure_stability

    return measure_stability(study.embeddings, study.subspaces, asked.rank, progress=progress)


RESAMPLING = Task("resampling", answer, keep=64, needs_model=False)
