"""The picks of Evaluate."""

from dataclasses import dataclass

from ui.session.picks import Picks, part
from ui.widgets.evaluation import MeasurePicks


@dataclass(frozen=True)
class EvaluatePicks(Picks):
    """What the edit is measured with."""

    measures: MeasurePicks = part(MeasurePicks, "evaluate")
