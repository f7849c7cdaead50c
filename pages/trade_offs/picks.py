"""The picks of Trade-offs."""

from dataclasses import dataclass

from detox_engine.plans.measure import SamplingPlan
from ui.session.picks import Picks, part


@dataclass(frozen=True)
class TradeOffsPicks(Picks):
    """What an edit is measured with."""

    sampling: SamplingPlan = part(SamplingPlan(), "sweep")
