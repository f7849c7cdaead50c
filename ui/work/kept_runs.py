"""What was found with a study and is kept: which of it a page shows, what is held beside it, its name, and its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import streamlit as st

from ui.session import kept_results
from ui.session.kept_results import LONGEST_NAME, KeptResult
from ui.session.places import keeps_results
from ui.show import notes
from ui.work.tasks import Task

A = TypeVar("A")
R = TypeVar("R")
NOTHING = "nothing"


@dataclass(frozen=True)
class Shown(Generic[A, R]):
    """What a page shows of what is kept."""

    result: KeptResult[A, R]
    beside: KeptResult[A, R] | None = None
    """What a person wants to hold it against."""


def pick_runs(
    task: Task[Any, R],
    results: Sequence[KeptResult[A, R]],
    usual: A | None,
    what: str,
    describe: Callable[[A], str],
) -> Shown[A, R] | None:
    """Which of the results is shown, and which is held beside it; None where there is none.

    Args:
        usual: the question whose answer is shown where nobody picks another; it is shown, too, as soon as it changes.
        what: a result is called, within a sentence.
        describe: what a result is about, in a few words.
    """
    if not results:
        return None
    by_question = {result.asked: result for result in results}
    usual = usual if usual in by_question else results[-1].asked
    with st.container(horizontal=True, vertical_alignment="bottom", key=f"{task.kind}_kept"):
        shown = _pick_shown(task, by_question, usual, what, describe)
        beside = _pick_beside(task, by_question, shown, describe)
        with st.popover("Name or delete", icon=":material/edit_note:"):
            _draw_name(task, by_question[shown], what)
    return Shown(by_question[shown], by_question.get(beside))


def _pick_shown(
    task: Task[Any, Any], kept: dict[A, KeptResult[A, Any]], usual: A, what: str, describe: Callable[[A], str]
) -> A:
    """The one that is picked, as long as nothing newer is asked for or found."""
    key, of = f"{task.kind}_shown", f"{task.kind}_shown_of"
    if st.session_state.get(of) != usual or st.session_state.get(key) not in kept:
        st.session_state[key] = st.session_state[of] = usual
    questions = list(reversed(kept))
    return st.selectbox(
        f"Kept {what}s" if len(questions) > 1 else f"The kept {what}",
        questions,
        format_func=lambda asked: tell_result(kept[asked], describe),
        key=key,
        width=360,
        help="They lie on this machine with the study: they are here after a reload, and whoever opens the study."
        if keeps_results()
        else "They stay for this visit.",
    )


def _pick_beside(
    task: Task[Any, Any], kept: dict[A, KeptResult[A, Any]], shown: A, describe: Callable[[A], str]
) -> A | str:
    others = [asked for asked in reversed(kept) if asked != shown]
    if not others:
        return NOTHING
    key = f"{task.kind}_beside"
    if st.session_state.get(key, NOTHING) not in (NOTHING, *others):
        st.session_state[key] = NOTHING
    return st.selectbox(
        "Held beside",
        [NOTHING, *others],
        format_func=lambda asked: asked if asked == NOTHING else tell_result(kept[asked], describe),
        key=key,
        width=360,
        persist_state="session",
    )


def _draw_name(task: Task[Any, Any], result: KeptResult[Any, Any], what: str) -> None:
    key = f"{task.kind}_name_{result.file.stem if result.file else 'held'}"
    if result.file is None:
        st.caption(f"This {what} is in memory alone, so it has no name.")
    else:
        st.text_input(
            f"What this {what} is called",
            result.name,
            key=key,
            max_chars=LONGEST_NAME,
            on_change=lambda: notes.attempt(lambda: kept_results.name_result(result, st.session_state[key]), task.kind),
        )
    st.button(
        f"Delete this {what}",
        key=f"{task.kind}_delete",
        icon=":material/delete:",
        on_click=lambda: notes.attempt(lambda: task.delete(result), task.kind),
    )
    notes.draw_failure(task.kind)


def tell_result(result: KeptResult[A, Any], describe: Callable[[A], str]) -> str:
    """A result in a list: its name or what it is about, when it was made, and whether it is whole."""
    when = datetime.fromisoformat(result.made).strftime("%d %b %Y, %H:%M UTC")
    part = "" if result.whole else ", stopped part-way"
    return f"{result.name or describe(result.asked)} ({when}{part})"
