"""Widgets that ask which settings of an edit are tried: ranks, first and last layers, strengths."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.errors import InputError
from detox_engine.plans.measure import SWEEP_EVALUATION, SamplingPlan, SweepPlan
from detox_engine.plans.option import sentence
from ui.session import state
from ui.widgets import evaluation

if TYPE_CHECKING:
    from detox_engine.study.study import Study

MOST_STARTS = 12
"""First layers tried before anyone asks for more."""
STRENGTHS = ["0.25", "0.5", "0.75", "1", "1.25", "1.5"]
_KEPT = {"persist_state": "session"}


def pick_sweep_plan(study: Study) -> SweepPlan | None:
    """The grid, and what each of its settings is measured with; None while a source is missing.

    Raises:
        InputError: the choices do not go together.
    """
    grid = _pick_grid(study)
    # A link that holds how continuations are written opens what says so.
    st.session_state.setdefault("sweep_details", state.view()["trade_offs.sampling"] != SamplingPlan())
    if st.toggle("Choose what each setting is measured with", key="sweep_details", **_KEPT):
        measured = evaluation.pick_evaluation_plan("trade_offs.sampling", "sweep", SWEEP_EVALUATION)
        return None if measured is None else replace(grid, evaluation=measured)
    st.caption(
        f"Each setting writes after {SWEEP_EVALUATION.limit_prompts} prompts and reads "
        f"{SWEEP_EVALUATION.neutral.limit} neutral texts, and so does a random subspace of its size."
    )
    return replace(grid, evaluation=SWEEP_EVALUATION)


def _pick_grid(study: Study) -> SweepPlan:
    last = study.layers - 1
    ranks_key, ends_key = f"sweep_ranks_{study.kept}", f"sweep_ends_{last}"
    st.session_state.setdefault(ranks_key, [rank for rank in SweepPlan.ranks if rank <= study.kept])
    st.session_state.setdefault("sweep_strengths", ["1"])
    st.session_state.setdefault(ends_key, [last])
    left, right = st.columns(2, gap="large")
    ranks = left.multiselect(
        "Ranks", range(1, study.kept + 1), key=ranks_key, help=sentence(SweepPlan, "ranks"), **_KEPT
    )
    strengths = right.multiselect(
        "Strengths",
        STRENGTHS,
        accept_new_options=True,
        key="sweep_strengths",
        help=sentence(SweepPlan, "strengths"),
        **_KEPT,
    )
    with left:
        starts = _pick_starts(last) if last else (0,)
    ends = right.multiselect(
        "Last layers", range(last + 1), key=ends_key, help="The last layer alone, unless you sweep it too.", **_KEPT
    )
    return SweepPlan(
        tuple(sorted(ranks)),
        None if starts == tuple(range(last + 1)) else starts,
        None if ends == [last] else tuple(sorted(ends)),
        tuple(sorted({read_strength(text) for text in strengths})),
    )


def _pick_starts(last: int) -> tuple[int, ...]:
    """The first layers: a range of them, all or every second and so on."""
    key = f"sweep_starts_{last}"
    st.session_state.setdefault(key, (0, last))
    st.session_state.setdefault(f"{key}_step", math.ceil((last + 1) / MOST_STARTS))
    wide, narrow = st.columns([3, 2])
    low, high = wide.slider("First layers", 0, last, key=key, help=sentence(SweepPlan, "starts"), **_KEPT)
    step = narrow.number_input("Step between them", 1, last + 1, step=1, key=f"{key}_step", **_KEPT)
    return tuple(range(low, high + 1, step))


def read_strength(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"The strength “{text}” is no number: write one such as 0.5.") from None
