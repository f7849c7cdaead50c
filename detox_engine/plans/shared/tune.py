"""A search for an edit over many trials, which processes and machines can share."""

from __future__ import annotations

from dataclasses import dataclass

from detox_engine.errors import InputError
from detox_engine.plans.fit import BUDGETS, Budget, FitPlan
from detox_engine.plans.option import option, sentence


@dataclass(frozen=True)
class TunePlan:
    """How long is searched, within which budget, and where the trials stand."""

    journal: str = option(
        ...,
        "File that keeps the trials, one line for each thing that happens to one; processes that name the same file "
        "share them, and a rerun goes on.",
        "--journal",
    )
    trials: int = option(50, "Trials in the journal in the end, those of all processes together.", "--trials", low=1)
    budget: Budget | None = option(
        None, sentence(FitPlan, "budget"), "--budget", usual="the budget that the study was fitted with"
    )
    seed: int = option(
        0, "Seed of the search; trials of several processes depend on their timing too.", "--seed", low=0
    )

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise InputError(f"A search needs 1 trial or more, not {self.trials}.")
        if self.budget not in (None, *BUDGETS):
            raise InputError(f"The budget is gentle or strong, not “{self.budget}”.")
