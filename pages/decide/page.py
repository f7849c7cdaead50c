"""Is the edit worth shipping? From the model to a verdict in one go."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.plans import commands
from detox_engine.plans.edit import describe_edit
from pages.decide.figures import list_scores, verdict_figure
from pages.decide.picks import DecidePicks
from pages.decide.work import NAME, RUN, Asked, find_done, is_begun
from ui.frame.command import draw_commands
from ui.frame.page import Head, Help, StudyPage, show
from ui.session import state
from ui.show.chart import draw_chart
from ui.show.downloads import zip_folder
from ui.widgets.option import ask
from ui.words.text import plain
from ui.work import jobs
from ui.work.tasks import draw_task

if TYPE_CHECKING:
    from detox_engine.auto.run import Outcome
    from detox_engine.auto.verdict import Verdict
    from detox_engine.plans.edit import EditPlan
    from detox_engine.study.study import Study

HEAD = Head("Decide", "Is the edit worth shipping?", picks="decide")
HELP = Help(
    "A run divides pairs, prompts and neutral text into three sets that share nothing: one to fit directions on, "
    "one to choose an edit by, one to report on what it does. Each criterion is asked of the third set alone and "
    "answered by an interval: yes where all of it lies on the right side, no where all of it lies on the wrong one, "
    "and unclear in between. The edit ships where all answers are yes, and does not where one is no.",
    r"\text{gain} = \bar s_{\text{after}} - \bar s_{\text{before}} < 0, \qquad "
    r"\text{beyond} = \bar s_{\text{after}} - \bar s_{\text{control}} < 0",
)
LOOKS = {"ship": st.success, "do not ship": st.error, "too little evidence": st.warning}
ICONS = {"ship": ":material/check_circle:", "do not ship": ":material/block:", "too little evidence": ":material/help:"}
ANSWERS = {"yes": ":material/check:", "no": ":material/close:", "unclear": ":material/question_mark:"}
TIMES_FIT = 14
"""How many times as long as embedding its pairs a whole run takes: on SmolLM2-135M 712 s against 50 s."""


def draw(page: StudyPage[DecidePicks]) -> None:
    asked = Asked(page.fitted, page.picks.plan(page.fitted.study.fit.pairs))
    done = find_done(asked, page.study)
    if done is not None:
        draw_outcome(page, done)
    with st.expander("What it may cost", icon=":material/tune:", expanded=False):
        draw_settings()
    if done is None:
        draw_run(page, asked)
    draw_commands([commands.auto_command(page.fitted.study.model, asked.plan)])


def draw_settings() -> None:
    left, middle, right = st.columns(3, gap="large")
    ask("decide.cost", "What the edit may change on neutral text", "decide_cost", left)
    ask("decide.limit", "Perplexity may be multiplied by at most", "decide_limit", middle)
    ask("decide.minutes", "Minutes that it may take", "decide_minutes", right, placeholder="as long as it takes")


def draw_run(page: StudyPage[DecidePicks], asked: Asked) -> None:
    """The button, and how far the run is."""
    job = RUN.job(asked)
    begun = is_begun(asked, page.study) and not (job is not None and job.running)
    draw_task(
        RUN,
        asked,
        "decide",
        "Go on with the run" if begun else "Find out",
        "The steps that are done are kept." if begun else estimate(page.study),
        "The run was stopped; the steps that are done are kept.",
        icon=":material/gavel:",
        draw=partial(draw_steps, asked),
        stop_label="Stop and keep what is done",
    )
    if job is None:
        st.caption(
            "Press the button: the model is fitted on a part of the pairs, the edit chosen on another, and measured on "
            "prompts that neither has seen, beside random directions of the same cost. At the end stands a verdict, "
            "with an adapter, its card and a report that can be taken away."
        )


def estimate(study: Study) -> str:
    """How long a run takes, going by how long this study took."""
    minutes = TIMES_FIT * study.seconds.get("embed", 0.0) / 60
    return f"Roughly {max(1, round(minutes)):,} minutes, going by how long this study took." if minutes else ""


def draw_steps(asked: Asked, snapshot: jobs.Snapshot) -> None:
    """The steps: which are done, how long they took, and how far the one is that runs."""
    from detox_engine.auto.run import STEPS

    found = RUN.find(asked)
    seconds = {} if found is None else found.seconds
    now = None if found is None else found.step
    for step, words in STEPS.items():
        if step in seconds:
            st.markdown(f":material/check: {words}, {max(1, round(seconds[step])):,} s")
        elif step == now:
            stage = snapshot.stage
            ran = "" if stage is None else f", {max(0, round(time.monotonic() - stage.started)):,} s"
            st.markdown(f"**:material/play_arrow: {words}**{ran}")
            jobs.draw_progress(snapshot)
        else:
            st.markdown(f":gray[:material/radio_button_unchecked: {words}]")
    if found is None:
        jobs.draw_progress(snapshot)


def draw_outcome(page: StudyPage[DecidePicks], outcome: Outcome) -> None:
    """The verdict, its picture, what was asked, and what can be taken away."""
    draw_verdict(outcome.verdict)
    if outcome.evaluation is not None:
        score = outcome.evaluation.find("profanity")
        draw_chart(
            verdict_figure(outcome.evaluation, page.colours),
            "verdict_chart",
            f"What the edit changes: {describe_edit(outcome.study.suggested_edit)}",
            f"Change of {len(outcome.evaluation.scores)} scores by the edit and by its controls; toxicity goes from "
            f"{score.effect.before.mean:.3f} to {score.effect.after.mean:.3f}",
            partial(list_scores, outcome.evaluation),
            "verdict",
        )
        draw_criteria(outcome.verdict)
        draw_edit(page, outcome.study.suggested_edit)
    draw_files(outcome)
    draw_sets(outcome)


def draw_verdict(verdict: Verdict) -> None:
    kind = verdict.kind
    words = f"**{kind[:1].upper()}{kind[1:]}.** {plain(verdict.reason)}"
    LOOKS[kind](words, icon=ICONS[kind])


def draw_criteria(verdict: Verdict) -> None:
    with st.container(key="criteria"):
        for one in verdict.criteria:
            told = plain(f"{one.sentence} {one.settle}".strip())
            st.markdown(f"{ANSWERS[one.answer]} **{plain(one.question)}** {told}")


def draw_edit(page: StudyPage[DecidePicks], edit: EditPlan) -> None:
    """The edit that was chosen, and a way to look at it on the other pages."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Make it the edit plan",
            key="take_decided",
            icon=":material/input:",
            disabled=edit == page.edit,
            on_click=partial(state.put, "edit", edit),
        )
        st.caption(plain(f"The edit: {describe_edit(edit)}."))


def draw_files(outcome: Outcome) -> None:
    """What the run wrote."""
    from detox_engine.auto.run import REPORT

    folder = outcome.place.with_name(NAME)
    with st.container(horizontal=True, vertical_alignment="center"):
        if outcome.export is not None:
            st.download_button(
                "The adapter, its card and the report",
                partial(zip_folder, folder, NAME),
                f"{NAME}.zip",
                "application/zip",
                key="download_decided",
                type="primary",
                icon=":material/download:",
                on_click="ignore",
            )
        st.download_button(
            "The report",
            (folder / REPORT).read_bytes,
            "detox_report.html",
            "text/html",
            key="download_decided_report",
            icon=":material/description:",
            on_click="ignore",
        )


def draw_sets(outcome: Outcome) -> None:
    fit, choose, report = (outcome.sets[name] for name in ("fit", "choose", "report"))
    spent = sum(outcome.seconds.values())
    st.caption(
        f"{fit['pairs']:,} pairs to fit on, {choose['pairs']:,} pairs and {choose['prompts']:,} prompts to choose by, "
        f"{report['prompts']:,} other prompts and {report['texts']:,} texts to report on; {spent:,.0f} s."
    )


show(draw, HEAD, HELP)
