"""What is known of a study of which a page has measured nothing yet: its quick check, which needs no settings."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.plans.edit import describe_edit
from ui.show.chart import draw_chart
from ui.show.effects import check_figure
from ui.words.numbers import number, signed
from ui.words.text import plain
from ui.words.verdicts import SCORES, finding_html, judge_check, list_changes, tell_evidence
from ui.work import fit

if TYPE_CHECKING:
    from detox_engine.study.study import Study
    from detox_engine.study.suggestion import Change
    from ui.session.view import StudyKey
    from ui.show.colours import Palette

HEADS = {"worse": "It does harm", "better": "Confirmed", "unclear": "No effect beyond chance"}


def draw_known(study: Study, key: StudyKey, colours: Palette, more: str) -> None:
    """The verdict and the picture of the quick check, or why there is none.

    Args:
        more: what the page's own button measures beyond that, as a sentence.
    """
    suggestion = study.suggestion
    check = suggestion and suggestion.check
    if not check:
        st.html(finding_html("unclear", "Nothing is measured yet.", f"{tell_evidence(study)} {more}"))
        fit.draw_check(study, key, "Check the suggestion", "known_check")
        return
    kind, telling = judge_check(check.changes, check.confirmed)
    told = " ".join(map(tell_change, telling[:2]))
    head = f"{HEADS[kind]}, by the study’s quick check of {describe_edit(suggestion.edit)}."
    st.html(finding_html(kind, head, f"{told} {more}"))
    draw_chart(
        check_figure(check.changes, colours),
        "known_check_chart",
        f"The quick check: {describe_edit(suggestion.edit)}",
        f"Scores before and after the suggested edit, and with random directions instead: {told}",
        partial(list_changes, check.changes),
        "quick_check",
    )
    st.caption(
        plain(
            f"The study's quick check of the suggested edit: {check.samples} continuations of each of {check.prompts} "
            f"prompts, 95 % intervals; random directions: {check.controls} draws."
        )
    )


def tell_change(change: Change) -> str:
    """A score of a check, with the interval of its change and with its control."""
    called = SCORES.get(change.name, change.name)
    fall = change.fall
    return (
        f"{called[:1].upper()}{called[1:]} goes from {number(change.before.mean)} to {number(change.after.mean)}, by "
        f"{signed(fall.mean)} (95 %: {signed(fall.low)} to {signed(fall.high)}, n = {fall.n:,} prompts); with random "
        f"directions it is {number(change.control.mean)}."
    )
