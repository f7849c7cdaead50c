"""The picks of Take away."""

from dataclasses import dataclass

from detox_engine.plans.edit import ExportForm
from ui.session.picks import Picks, pick

TITLES = {"adapter": "Adapter", "gguf-adapter": "Adapter for llama.cpp", "model": "Whole model"}


@dataclass(frozen=True)
class TakeAwayPicks(Picks):
    """What the edit is taken away as."""

    form: ExportForm = pick("adapter", "form", words=TITLES)
