"""The one way in which a page runs: its head, what it draws, its help, and what to do where there is no study.

A page is functions of a `Page` or `StudyPage` and, as its last line, one call of `show`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import streamlit as st

from detox_engine.data.bundled import ASSETS
from detox_engine.errors import InputError
from detox_engine.plans.edit import EditPlan, effective
from detox_engine.plans.sources import name_model, name_pairs
from ui.frame.frame import draw_frame
from ui.session import state
from ui.session.view import Fitted, View
from ui.show.colours import Palette, palette
from ui.show.notes import draw_error
from ui.widgets.layer import picked_layer
from ui.words.text import escape, plain
from ui.work import fit, jobs

if TYPE_CHECKING:
    from detox_engine.study.study import Study

CHOICE_PAGE = "model_and_pairs/page.py"
P = TypeVar("P")
"""A page's own part of the view."""


@dataclass(frozen=True)
class Head:
    """What a page says first: its title, and the one question that it answers."""

    title: str
    question: str
    picks: str = ""
    """The name of the page's own part of the view."""


@dataclass(frozen=True)
class Help:
    """The expander “How to read this”: a picture from the assets where there is one, three sentences, the formula."""

    words: str
    formula: str
    picture: str = ""
    alt: str = ""


@dataclass(frozen=True)
class Page(Generic[P]):
    """What a page draws from: what the session looks at, and how it is shown. One run sees one view."""

    view: View
    picks: P
    """The page's own part of the view."""
    colours: Palette
    shows_words: bool
    """Whether toxic words are shown rather than blurred."""


@dataclass(frozen=True)
class StudyPage(Page[P]):
    """What a page that needs a study draws from."""

    study: Study
    edit: EditPlan
    """The edit plan without switches that it does not reach."""
    fitted: Fitted
    """Which study this is: the key of every cache and the first part of every question."""

    @property
    def layer(self) -> int:
        """The one picked layer of every page; what a slider that is drawn later holds already."""
        return picked_layer(self.study)


def run_page(page: st.Page) -> None:
    """Draw the frame and the page in it; what cannot be used is said in one sentence."""
    fit.settle()
    draw_frame()
    try:
        page.run()
    except InputError as error:
        draw_error(str(error))
    fit.load_ahead()
    state.end_run()


def show(draw: Callable[[Any], None], head: Head, help: Help | None = None, needs_study: bool = True) -> None:
    """Run a page: its head, what `draw` draws of the page, and its help at the end.

    Where a page needs a study and there is none, it is offered instead.

    Args:
        draw: a function of a `StudyPage`, or of a `Page` where no study is needed.
        help: None where the page draws its help itself, at another place.
    """
    st.title(head.title, anchor=False)
    st.html(f'<p class="question">{escape(head.question)}</p>')
    view, study = state.view(), state.current_study()
    picks = view[head.picks] if head.picks else None
    page = Page(view, picks, palette(st.context.theme.type), state.shows_words())
    if needs_study:
        if study is None or view.edit is None:
            _draw_empty_state()
            return
        same = {field.name: getattr(page, field.name) for field in fields(page)}
        page = StudyPage(**same, study=study, edit=effective(view.edit), fitted=Fitted(view.study_key, study.made))
    draw(page)
    if help is not None:
        draw_help(help)


def draw_help(help: Help) -> None:
    with st.expander("How to read this", icon=":material/help:"):
        if help.picture:
            st.image(ASSETS / help.picture, width=820, alt=help.alt)
        st.markdown(help.words)
        st.latex(help.formula)


def _draw_empty_state() -> None:
    job = jobs.find_job("fit")
    if job is not None and job.snapshot.state == "done":
        # It ended since this run began, and the next run begins with its study.
        st.rerun()
    with st.container(border=True):
        if job is not None and job.running:
            st.subheader("The study is being fitted", anchor=False)
            st.write("This page opens by itself when it is ready.")
            jobs.watch_job(job, jobs.draw_progress)
        else:
            _offer_fit(job)


def _offer_fit(job: jobs.Job | None) -> None:
    view = state.view()
    st.subheader("There is no study to show yet", anchor=False)
    if job is not None and job.snapshot.state == "failed":
        draw_error(job.snapshot.error)
    st.write(plain(f"Fit {name_model(view.model)} on {name_pairs(view.fit.pairs, view.model.name)}, or choose others."))
    with st.container(horizontal=True):
        st.button(
            "Fit it now",
            type="primary",
            icon=":material/play_arrow:",
            key="fit_now",
            on_click=fit.begin_fit,
            args=(view.study_key,),
        )
        if st.button("Choose a model and pairs", icon=":material/dataset:", key="choose_model"):
            st.switch_page(CHOICE_PAGE)
