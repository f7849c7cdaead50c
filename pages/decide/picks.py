"""The picks of Decide."""

from __future__ import annotations

from dataclasses import dataclass

from detox_engine.plans.auto import AutoPlan
from detox_engine.plans.fit import Budget
from detox_engine.plans.option import option_of
from detox_engine.plans.sources import PairSpec
from ui.session.picks import Picks, pick

COST, LIMIT, MINUTES = (option_of(AutoPlan, name) for name in ("cost", "perplexity_limit", "minutes"))


@dataclass(frozen=True)
class DecidePicks(Picks):
    """What an edit may cost, and how long finding it out may take."""

    cost: Budget = pick(AutoPlan.cost, "decide_cost", COST.sentence, words=COST.words)
    limit: float = pick(
        AutoPlan.perplexity_limit,
        "decide_limit",
        LIMIT.sentence,
        low=LIMIT.low,
        high=LIMIT.high,
        step=LIMIT.step,
    )
    minutes: float | None = pick(
        None, "decide_minutes", MINUTES.sentence, low=MINUTES.low, high=MINUTES.high, step=MINUTES.step
    )

    def plan(self, pairs: PairSpec) -> AutoPlan:
        return AutoPlan(pairs, minutes=self.minutes, cost=self.cost, perplexity_limit=self.limit)
