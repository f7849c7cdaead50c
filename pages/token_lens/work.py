"""What people wrote and had read on the Token lens, kept with the study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ui.session import kept_results
from ui.session.kept_results import Shape
from ui.session.places import keeps_results
from ui.session.view import Fitted

if TYPE_CHECKING:
    from detox_engine.study.study import Study


@dataclass(frozen=True)
class Told:
    """Texts that a person wrote and had read."""

    fitted: Fitted
    texts: tuple[str, ...]


TEXTS = Shape("lens_texts", Told, lambda: bool)
"""Kept for their questions alone: reading a text again takes a moment, and goes by the edit of then."""


def keep_texts(study: Study, fitted: Fitted, texts: tuple[str, ...]) -> None:
    """Keep what a person wrote, the latest last, where results are kept."""
    kept = list_texts(study, fitted)
    if keeps_results() and kept[-1:] != [texts]:
        kept_results.keep_result(TEXTS, study, Told(fitted, texts), True, True, texts)


def list_texts(study: Study, fitted: Fitted) -> list[tuple[str, ...]]:
    """What people wrote and had read by the model of a study, the latest last."""
    if not keeps_results():
        return []
    return [result.asked.texts for result in kept_results.list_results(TEXTS, study, fitted)]
