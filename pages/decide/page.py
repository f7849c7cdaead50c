"""Is the edit worth shipping? From the model to a verdict in one go."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import astuple
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.plans import commands
from detox_engine.plans.edit import describe_edit
from pages.decide.figures import COST as COST_AXIS
from pages.decide.figures import HARM as HARM_AXIS
from pages.decide.figures import list_frontier, list_points, list_scores, list_settings
from pages.decide.picks import COST, DecidePicks
from pages.decide.work import NAME, RUN, Asked, find_measured, is_begun, plan_strengths
from ui.frame.command import draw_commands
from ui.frame.page import Head, Help, StudyPage, show
from ui.session import state
from ui.show.chart import draw_chart
from ui.show.downloads import zip_folder
from ui.show.effects import changes_figure
from ui.show.frontier import count_beyond, trade_off_figure
from ui.widgets.option import ask
from ui.widgets.settings import fold_settings
from ui.words.numbers import signed
from ui.words.text import plain
from ui.words.verdicts import SHIPPING, finding_html
from ui.work import jobs
from ui.work.kept_runs import tell_result
from ui.work.known import draw_known
from ui.work.sweep import Asked as AskedToSweep
from ui.work.sweep import draw_sweep
from ui.work.tasks import draw_task

if TYPE_CHECKING:
    from detox_engine.auto.run import Outcome
    from detox_engine.auto.verdict import Verdict
    from detox_engine.plans.edit import EditPlan
    from detox_engine.scoring.evaluation import Evaluation
    from detox_engine.scoring.records import KeptEvaluation
    from detox_engine.scoring.sweep import Sweep
    from detox_engine.study.study import Study
    from pages.decide.work import Measured
    from ui.session.kept_results import KeptResult
    from ui.work.evaluation import Asked as AskedToEvaluate

HEAD = Head("Decide", "Is the edit worth shipping?", picks="decide")
HELP = Help(
    "A run divides pairs, prompts and neutral text into three sets that share nothing: one to fit directions on, "
    "one to choose an edit by, one to report on what it does. Each criterion is asked of the third set alone and "
    "answered by an interval: yes where all of it lies on the right side, no where all of it lies on the wrong one, "
    "and unclear in between. The edit ships where all answers are yes, and does not where one is no.",
    r"\text{gain} = \bar s_{\text{after}} - \bar s_{\text{before}} < 0, \qquad "
    r"\text{beyond} = \bar s_{\text{after}} - \bar s_{\text{control}} < 0",
)
ANSWERS = {"yes": ":material/check:", "no": ":material/close:", "unclear": ":material/question_mark:"}
TIMES_FIT = 14
"""How many times as long as embedding its pairs a whole run takes: on SmolLM2-135M 712 s against 50 s."""
WHAT = (
    "The button fits the model on a part of the pairs, chooses the edit on another, and measures it on prompts that "
    "neither has seen: a verdict, with an adapter, its card and a report."
)
OVERLAID = 8
"""Evaluations that are overlaid before anybody chooses."""


def draw(page: StudyPage[DecidePicks]) -> None:
    asked = Asked(page.fitted, page.picks.plan(page.fitted.study.fit.pairs))
    RUN.find(asked)  # whose job, once it is done, is over
    found = find_measured(asked, page.study)
    finding, bar, picture, details = (st.container() for _ in range(4))
    with bar:
        with fold_settings(tell_settings(page, found), "decide_settings"):
            draw_settings()
            overlaid = pick_overlaid(found)
        if found.outcome is None:
            draw_run(page, asked)
        # The frontier fills as it is measured.
        draw_strengths(page, found)
    with finding:
        draw_finding(page, found)
    with picture:
        draw_pictures(page, found, overlaid)
    with details:
        if found.outcome is not None:
            draw_outcome(page, found.outcome)
        draw_runs(page, found)
    study = page.fitted.study
    sweep = commands.sweep_command(study, plan_strengths(page.edit), page.picks.limit)
    draw_commands([commands.auto_command(study.model, asked.plan), commands.fit_command(study), sweep])


def tell_settings(page: StudyPage[DecidePicks], found: Measured) -> str:
    """What is set, in a few words."""
    picks = page.picks
    minutes = "" if picks.minutes is None else f", {picks.minutes:g} min at most"
    runs = len(found.evaluations) + len(found.sweeps)
    kept = f"; {runs:,} kept run{'s' if runs != 1 else ''}" if runs else ""
    return (
        f"perplexity × {picks.limit:g} at most, {(COST.words or {}).get(picks.cost, picks.cost).lower()}{minutes}{kept}"
    )


def draw_settings() -> None:
    left, middle, right = st.columns(3, gap="large")
    ask("decide.cost", "What the edit may change on neutral text", "decide_cost", left)
    ask("decide.limit", "Perplexity may be multiplied by at most", "decide_limit", middle)
    ask("decide.minutes", "Minutes that it may take", "decide_minutes", right, placeholder="as long as it takes")


def pick_overlaid(found: Measured) -> list[Evaluation]:
    """Which evaluations stand in the frontier's picture beside the settings of the latest sweep."""
    kept = {each.asked: each for each in reversed(found.evaluations)}
    if len(kept) < 2:
        return [each.found for each in kept.values()]
    chosen = st.multiselect(
        "Evaluations that are overlaid",
        list(kept),
        default=list(kept)[:OVERLAID],
        format_func=lambda asked: tell_result(kept[asked], describe_asked),
        key=f"decide_overlaid_{len(kept)}",
    )
    return [kept[asked].found for asked in chosen]


def describe_asked(asked: AskedToEvaluate) -> str:
    return describe_edit(asked.edit)


def draw_finding(page: StudyPage[DecidePicks], found: Measured) -> None:
    """The verdict: of the run, or as far as an evaluation tells; of neither, what the quick check says."""
    if found.outcome is not None:
        draw_verdict(found.outcome.verdict, "")
        return
    evaluation = found.find_evaluation(page.edit)
    if evaluation is not None:
        from detox_engine.auto.verdict import judge

        of = "" if evaluation.asked.edit == page.edit else f" of another plan, {describe_edit(evaluation.asked.edit)}"
        draw_verdict(judge(evaluation.found, page.picks.limit), f", as far as an evaluation{of} tells")
        return
    draw_known(page.study, page.fitted.study, page.colours, WHAT)


def draw_verdict(verdict: Verdict, source: str) -> None:
    """What a verdict on shipping says, above the picture.

    Args:
        source: what it rests on, where that is not a run of its own.
    """
    head = f"{verdict.kind[:1].upper()}{verdict.kind[1:]}{source}."
    st.html(finding_html(SHIPPING[verdict.kind], head, verdict.reason))


def draw_pictures(page: StudyPage[DecidePicks], found: Measured, overlaid: Sequence[Evaluation]) -> None:
    """The frontier with the plan marked, and what the edit of the verdict changes, each beside its control."""
    evaluation = found.outcome.evaluation if found.outcome is not None else None
    if evaluation is None and found.outcome is None and (kept := found.find_evaluation(page.edit)) is not None:
        evaluation = kept.found
    with st.container(key="decide_pictures"):
        with st.container(key="decide_frontier"):
            draw_frontier(page, found, overlaid)
        if evaluation is not None:
            with st.container(key="decide_changes"):
                draw_changes(page, evaluation)


def draw_frontier(page: StudyPage[DecidePicks], found: Measured, overlaid: Sequence[Evaluation]) -> None:
    """Toxicity against perplexity of all that was measured, as changes in %, since runs differ in their prompts."""
    decided = [] if found.outcome is None or found.outcome.evaluation is None else [found.outcome.evaluation]
    held = list_points([*overlaid, *decided])
    points = list_settings(found.sweeps)
    if page.edit not in [point.edit for point in points]:
        points += [point for point in held if point.edit == page.edit][:1]
    points = points or held
    if not points:
        return
    current = next((index for index, point in enumerate(points) if point.edit == page.edit), None)
    held = [point for point in held if point not in points]
    shade = "rank" if len({point.rank for point in points}) > 1 else "strength"
    draw_chart(
        trade_off_figure(
            points, COST_AXIS, HARM_AXIS, shade, page.colours, 100 * (page.picks.limit - 1), None, current, held,
            "Evaluated in full", 400, legend=False,
        ),
        "decide_frontier_chart",
        "Change of toxicity against change of perplexity",
        f"{len(points):,} settings and {len(held):,} evaluations by their change of toxicity and of perplexity, in %",
        partial(list_frontier, [*points, *held]),
        "frontier",
    )  # fmt: skip
    count, farthest = count_beyond(points, COST_AXIS, 100 * (page.picks.limit - 1))
    beyond = f" Arrows: {count:,} lie beyond the axis, up to {farthest:,.0f} %." if count else ""
    absent = "" if current is not None else " The edit plan is not among what was measured."
    st.caption(
        "To the lower left is better. Dots are edits, joined by the frontier that no other beats; blue squares were "
        "evaluated in full; grey squares are random subspaces removed instead, triangles such as are matched in KL."
        f"{beyond}{absent}"
    )


def draw_changes(page: StudyPage[DecidePicks], evaluation: Evaluation | KeptEvaluation) -> None:
    score = evaluation.find("profanity")
    levels = "" if score is None else (
        f"; toxicity goes from {score.effect.before.mean:.3f} to {score.effect.after.mean:.3f}"
    )  # fmt: skip
    draw_chart(
        changes_figure(evaluation.scores, evaluation.plan.kinds, page.colours),
        "verdict_chart",
        f"What the edit changes: {describe_edit(evaluation.edit)}",
        f"Change of {len(evaluation.scores)} scores by the edit and by its controls{levels}",
        partial(list_scores, evaluation),
        "verdict",
    )
    st.caption(plain(f"The edit of the verdict: {describe_edit(evaluation.edit)}. 95 % intervals."))


def draw_runs(page: StudyPage[DecidePicks], found: Measured) -> None:
    """All that was measured of this study, a row each, the latest first."""
    runs = [(each.made, tell_evaluation(each, page.picks.limit)) for each in found.evaluations]
    runs += [(each.made, tell_sweep(each)) for each in found.sweeps]
    if not runs:
        return
    rows = [row for _, row in sorted(runs, key=lambda run: run[0], reverse=True)]
    st.subheader("What was measured of this study", anchor=False)
    st.dataframe(rows, hide_index=True, alt="Evaluations and sweeps of this study, the latest first")


def tell_evaluation(result: KeptResult[AskedToEvaluate, Evaluation], limit: float) -> dict[str, str]:
    """The row of an evaluation, judged by how much perplexity may be multiplied by."""
    from detox_engine.auto.verdict import judge

    row = {
        "Run": "Evaluation",
        "What": tell_result(result, describe_asked),
        "Prompts": f"{len(result.found.prompts):,}",
        "Toxicity": "",
        "Perplexity": "",
        "Verdict": judge(result.found, limit).kind,
    }
    for name, title in (("profanity", "Toxicity"), ("perplexity", "Perplexity")):
        score = result.found.find(name)
        if score is not None and score.effect.before.mean:
            by = [100 * part / score.effect.before.mean for part in astuple(score.effect.difference)[:3]]
            row[title] = "{} % ({} to {})".format(*(signed(part, decimals=1) for part in by))
    return row


def tell_sweep(result: KeptResult[AskedToSweep, Sweep]) -> dict[str, str]:
    """The row of a sweep."""
    plan = result.asked.plan
    return {
        "Run": "Trade-offs",
        "What": tell_result(result, lambda asked: f"ranks {', '.join(map(str, asked.plan.ranks))}"),
        "Prompts": "" if plan.evaluation.limit_prompts is None else f"{plan.evaluation.limit_prompts:,}",
        "Toxicity": "",
        "Perplexity": "",
        "Verdict": f"{len(result.found.points):,} settings",
    }


def draw_run(page: StudyPage[DecidePicks], asked: Asked) -> None:
    """The button, and how far the run is."""
    job = RUN.job(asked)
    begun = is_begun(asked, page.study) and not (job is not None and job.running)
    draw_task(
        RUN,
        asked,
        "decide",
        "Go on with the run" if begun else "Find out",
        "The steps that are done are kept." if begun else plain(estimate(page.study)),
        "The run was stopped; the steps that are done are kept.",
        icon=":material/gavel:",
        draw=partial(draw_steps, asked),
        stop_label="Stop and keep what is done",
        help=WHAT,
    )


def estimate(study: Study) -> str:
    """How long a run takes, going by how long this study took."""
    minutes = TIMES_FIT * study.seconds.get("embed", 0.0) / 60
    return f"About {max(1, round(minutes)):,} min, going by how long this study took." if minutes else ""


def draw_strengths(page: StudyPage[DecidePicks], found: Measured) -> None:
    """The offer to try the edit plan at other strengths, which is Trade-offs' own run with a small grid."""
    plan = plan_strengths(page.edit)
    lead = f"Its layers and rank at strengths {plan.strengths[0]:g} to {plan.strengths[-1]:g}. "
    if page.edit.switched_off:
        lead += "Directions that are switched off are removed in these. "
    draw_sweep(
        page.study,
        AskedToSweep(page.fitted, plan),
        found.sweeps,
        "sweep_strengths",
        "Sweep strengths around the edit plan",
        lead=plain(lead),
        again=True,
    )


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
    """What was asked, and what can be taken away."""
    if outcome.evaluation is not None:
        draw_criteria(outcome.verdict)
        draw_edit(page, outcome.study.suggested_edit)
    draw_files(outcome)
    draw_sets(outcome)


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
