"""The picks of Take away."""

from dataclasses import dataclass

from detox_engine.plans.edit import ExportForm
from ui.session.picks import Picks, pick


@dataclass(frozen=True)
class TakeAwayPicks(Picks):
    """What the edit is taken away as."""

    form: ExportForm = pick("adapter", "form", words={"adapter": "Adapter", "model": "Whole model"})
