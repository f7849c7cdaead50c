"""Widgets that ask which settings of an edit are tried: ranks, first and last layers, strengths."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import SWEEP_EVALUATION, SweepPlan
from detox_engine.plans.option import option_of, sentence, shortest
from pages.trade_offs.picks import TradeOffsPicks
from ui.session import state
from ui.widgets.evaluation import pick_evaluation_plan

if TYPE_CHECKING:
    from detox_engine.study.study import Study

STRENGTHS = [shortest(strength) for strength in option_of(SweepPlan, "strengths").offers]


def pick_sweep_plan(study: Study, edit: EditPlan) -> SweepPlan | None:
    """The grid of the edit's method and sites, and what its settings are measured with; None while a source is missing.

    Raises:
        InputError: the choices do not go together.
    """
    picks: TradeOffsPicks = state.view()["trade_offs"]
    _pick_grid(study, picks, edit.method)
    bound = state.bind("sweep_details", "trade_offs.details", show=lambda _: picks.has_details)
    if st.toggle("Choose what each setting is measured with", **bound):
        pick_evaluation_plan("trade_offs.measures", "sweep")
    else:
        st.caption(
            f"Each setting writes after {SWEEP_EVALUATION.limit_prompts} prompts and reads "
            f"{SWEEP_EVALUATION.neutral.limit} neutral texts, and so does a random subspace of its size."
        )
    return state.view()["trade_offs"].plan(study, edit)


def _pick_grid(study: Study, picks: TradeOffsPicks, method: str) -> None:
    last, kept = study.layers - 1, study.kept_of(method)
    left, right = st.columns(2, gap="large")
    shown = list(picks.ranks_of(study, method))
    bound = state.bind(f"sweep_ranks_{kept}", "trade_offs.ranks", show=lambda _: shown, take=tuple, begins="default")
    left.multiselect("Ranks", range(1, kept + 1), help=sentence(SweepPlan, "ranks"), **bound)
    bound = state.bind("sweep_strengths", "trade_offs.strengths", show=list, take=tuple, begins="default")
    offers = list(dict.fromkeys((*STRENGTHS, *picks.strengths)))
    right.multiselect("Strengths", offers, accept_new_options=True, help=sentence(SweepPlan, "strengths"), **bound)
    if last:
        with left:
            _pick_starts(study, picks)
    ends = list(picks.ends_of(study))
    bound = state.bind(f"sweep_ends_{last}", "trade_offs.ends", show=lambda _: ends, take=tuple, begins="default")
    right.multiselect("Last layers", range(last + 1), help="The last layer alone, unless you sweep it too.", **bound)


def _pick_starts(study: Study, picks: TradeOffsPicks) -> None:
    """The first layers: a range of them, all or every second and so on."""
    key, last = f"sweep_starts_{study.layers - 1}", study.layers - 1
    first, final, step = picks.starts_of(study)
    wide, narrow = st.columns([3, 2])
    bound = state.bind(
        key,
        "trade_offs",
        show=lambda _: (first, final),
        take=lambda ends: replace(state.view()["trade_offs"], first_start=ends[0], last_start=ends[1]),
    )
    wide.slider("First layers", 0, last, help=sentence(SweepPlan, "starts"), **bound)
    bound = state.bind(f"{key}_step", "trade_offs.step", show=lambda _: step)
    narrow.number_input("Step between them", 1, last + 1, step=1, **bound)
