"""The workers of the Spectrum: one draws the pairs anew, one runs the parallel analysis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ui.session.view import Fitted
from ui.work.tasks import Task, Tell

if TYPE_CHECKING:
    from detox_engine.errors import Progress
    from detox_engine.study.noise.null_spectra import NullSpectrum
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


@dataclass(frozen=True)
class AskedOfChance:
    """What chance gives for the singular values of every layer: of which study."""

    fitted: Fitted


def analyse(
    model: None, study: Study, asked: AskedOfChance, progress: Progress, tell: Tell
) -> tuple[NullSpectrum, ...]:
    from detox_engine.study.noise.null_spectra import draw_null_spectra

    return draw_null_spectra(study.embeddings, study.subspaces, progress=progress)


PARALLEL_ANALYSIS = Task("parallel_analysis", analyse, keep=8, needs_model=False, title="Parallel analysis")


def find_null_spectra(study: Study, fitted: Fitted) -> tuple[NullSpectrum, ...] | None:
    """Those that the study was fitted with, or that were asked for here."""
    return study.null_spectra or PARALLEL_ANALYSIS.find(AskedOfChance(fitted))
