"""The picks of Trade-offs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from detox_engine.errors import InputError
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import SWEEP_EVALUATION, SweepPlan, write_setting
from detox_engine.plans.layers import LAYERS
from detox_engine.plans.option import Form, numbers, read_number, split
from ui.session.picks import Picks, part, pick
from ui.widgets.evaluation import MeasurePicks

if TYPE_CHECKING:
    from detox_engine.study.study import Study

MOST_STARTS = 12
"""First layers tried before anyone asks for more."""


def _read_strengths(text: str) -> tuple[str, ...]:
    strengths = tuple(dict.fromkeys(split(text)))
    for strength in strengths:
        read_number(strength, -10, 10)
    return strengths


@dataclass(frozen=True)
class TradeOffsPicks(Picks):
    """Which settings are tried, what each is measured with, and what it may cost."""

    ranks: tuple[int, ...] | None = pick(None, "sweep_ranks", form=numbers(int, "ranks"))
    """None stands for the usual ones, as far as they were kept."""
    first_start: int | None = pick(None, "sweep_first_start", low=0)
    """The least of the first layers; None stands for 0."""
    last_start: int | None = pick(None, "sweep_last_start", low=0)
    """The greatest of them; None stands for the last layer."""
    step: int | None = pick(None, "sweep_step", low=1)
    """Between two first layers; None stands for one that makes them few."""
    ends: tuple[int, ...] | None = pick(None, "sweep_ends", form=LAYERS)
    """The last layers; None stands for the model's last."""
    strengths: tuple[str, ...] = pick(("1",), "sweep_strengths", form=Form(",".join, _read_strengths))
    """As a person wrote them."""
    details: bool | None = pick(None, "sweep_details")
    """Whether a person chooses what each setting is measured with; None stands for where they have."""
    measures: MeasurePicks = part(lambda: MeasurePicks(SWEEP_EVALUATION), "sweep")
    most_cost: float = pick(10.0, "sweep_most_cost", low=0.0, high=1_000_000.0, step=1.0)
    """Percent that perplexity may rise by."""

    @property
    def has_details(self) -> bool:
        # A link that holds what settings are measured with opens what says so.
        return self.measures != TradeOffsPicks().measures if self.details is None else self.details

    def within(self, study: Study) -> TradeOffsPicks:
        last = study.layers - 1
        ranks = self.ranks and (tuple(dict.fromkeys(rank for rank in self.ranks if 1 <= rank <= study.kept)) or None)
        ends = self.ends and (tuple(end for end in self.ends if end <= last) or None)
        first, final = (None if at is None else min(at, last) for at in (self.first_start, self.last_start))
        step = self.step and min(self.step, last + 1)
        return replace(self, ranks=ranks, ends=ends, first_start=first, last_start=final, step=step)

    def of_another_study(self) -> TradeOffsPicks:
        return replace(self, ranks=None, first_start=None, last_start=None, step=None, ends=None)

    def ranks_of(self, study: Study, method: str) -> tuple[int, ...]:
        """Those that the method has directions for."""
        kept, ranks = study.kept_of(method), SweepPlan.ranks if self.ranks is None else self.ranks
        return tuple(rank for rank in ranks if rank <= kept) or ((kept,) if ranks else ())

    def starts_of(self, study: Study) -> tuple[int, int, int]:
        """The least and the greatest of the first layers, and the step between them."""
        first = self.first_start or 0
        last = study.layers - 1 if self.last_start is None else self.last_start
        return first, max(first, last), self.step or math.ceil(study.layers / MOST_STARTS)

    def ends_of(self, study: Study) -> tuple[int, ...]:
        return (study.layers - 1,) if self.ends is None else self.ends

    def plan(self, study: Study, edit: EditPlan) -> SweepPlan | None:
        """What is tried of the edit's method at its sites; None while a source of what it is measured with is missing.

        Raises:
            InputError: the picks do not go together.
        """
        evaluation = self.measures.complete() if self.has_details else SWEEP_EVALUATION
        first, last, step = self.starts_of(study)
        starts, ends = tuple(range(first, last + 1, step)), tuple(sorted(self.ends_of(study)))
        grid = SweepPlan(
            tuple(sorted(self.ranks_of(study, edit.method))),
            None if starts == tuple(range(study.layers)) else starts,
            None if ends == (study.layers - 1,) else ends,
            tuple(sorted({read_strength(text) for text in self.strengths})),
            method=edit.method,
            sites=edit.sites,
        )
        # The plan is always among what is measured.
        also = "" if is_in_grid(edit, grid, starts, ends) else write_setting(edit)
        return None if evaluation is None else replace(grid, evaluation=evaluation, also=also)


def is_in_grid(edit: EditPlan, grid: SweepPlan, starts: Sequence[int], ends: Sequence[int]) -> bool:
    """Whether an edit's layers, rank and strength are a setting of the grid."""
    first, last = edit.layers[0], edit.layers[-1]
    in_one_run = edit.layers == tuple(range(first, last + 1))
    return (
        in_one_run and first in starts and last in ends and edit.rank in grid.ranks and edit.strength in grid.strengths
    )


def read_strength(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"The strength “{text}” is no number: write one such as 0.5.") from None
