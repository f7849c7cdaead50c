"""Is this edit good? Every scorer before the edit, after it, and under random subspaces of the same size or cost."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from detox_engine.disk import write_json
from detox_engine.plans import commands
from detox_engine.plans.auto import AutoPlan
from detox_engine.plans.edit import describe_edit
from detox_engine.plans.evaluation import RANDOM
from detox_engine.plans.sources import name_model
from detox_engine.scoring.records import find_broken
from detox_engine.scoring.scorer import QUESTIONS, SPARES_HARMLESS
from detox_engine.scoring.scorers import scorers
from pages.evaluate import figures, parts
from pages.evaluate.picks import EvaluatePicks
from ui.frame.command import draw_commands
from ui.frame.page import Head, Help, StudyPage, show
from ui.session.places import keeps_results
from ui.show.chart import clicked, draw_chart
from ui.show.downloads import draw_download
from ui.show.effects import changes_figure, effect_figure, list_rows
from ui.show.side_by_side import comparisons_html
from ui.widgets.evaluation import pick_evaluation_plan, tell_plan
from ui.widgets.settings import fold_settings, pick_folded
from ui.words import numbers, verdicts
from ui.words.rude_words import mask
from ui.words.text import chart_label, plain
from ui.words.verdicts import SHIPPING, finding_html
from ui.work.durations import count_prompts, estimate_measuring, tell_estimate
from ui.work.evaluation import EVALUATION, Asked, find_evaluation
from ui.work.kept_runs import Shown, pick_runs, tell_result
from ui.work.known import draw_known
from ui.work.tasks import draw_stale, draw_task

if TYPE_CHECKING:
    from detox_engine.scoring.evaluation import Evaluation, PromptOutcome, Score
    from ui.session.kept_results import KeptResult

HEAD = Head("Evaluate", "Is this edit good?", picks="evaluate")
HELP = Help(
    "An edit is good where what the model writes becomes less toxic, and nothing else changes: the text it reads is "
    "as predictable as before, what it writes is as fluent, and harmless text is left alone. "
    "Every change stands beside the change that random subspaces of the same rank on the same layers bring, on the "
    "same prompts, with the same random numbers behind every draw; an effect that random subspaces have too is no "
    "effect of the directions. "
    "Random subspaces of the same size can cost far more or less than the edit: those that are matched in KL are drawn "
    "off the model's massive dimensions, in which a few tokens are enormous, and removed as strongly as it takes to "
    "move predictions on neutral text as far as the edit does. "
    "Intervals hold 95 % of what the score would be on other prompts or texts of the same kind; before and after are "
    "resampled together, so the change has an interval of its own.",
    r"\Delta = s(\text{after}) - s(\text{before}), \qquad "
    r"\text{perplexity} = e^{-\frac{1}{n}\sum_t \log p(x_t \mid x_{<t})}, \qquad "
    r"\text{drift} = \frac{1}{n}\sum_t \mathrm{KL}\bigl(p_{\text{before}} \,\|\, p_{\text{after}}\bigr)",
)
CONTROLS = {
    "plain": '<span class="control">□</span> random subspaces of the same size removed instead ',
    "matched": '<span class="control">△</span> such that move neutral text as far as the edit (matched in KL) ',
}
LEGEND = (
    '<p class="legend"><span class="before">●</span> before <span class="after">◆</span> after the edit '
    '{controls}<span class="bar">├─┤</span> 95 % interval</p>'
)
HEADS = {
    "ship": "A good edit, as far as this tells.",
    "do not ship": "Not a good edit.",
    "too little evidence": "Too little evidence.",
}
SHOWN = 5
"""Prompts drawn at first, and added each time."""
MOST_MOVED = 5


def draw(page: StudyPage[EvaluatePicks]) -> None:
    results = EVALUATION.results(page.study, page.fitted)
    questions = [result.asked for result in results]
    # In the order in which they stand, whatever each comes to hold, so that nothing moves while it is measured.
    finding, bar, picture, details = (st.container() for _ in range(4))
    with bar:
        fold = fold_settings(tell_settings(page), "evaluate_settings")
        plan = pick_folded(fold, partial(pick_evaluation_plan, "evaluate.measures", "evaluate"))
        asked = Asked(page.fitted, page.edit, plan) if plan is not None else None
        draw_run(page, asked, results)
    usual = find_evaluation(page.edit, asked, questions)
    with fold:
        shown = pick_runs(EVALUATION, results, usual, "evaluation", describe_asked)
    if shown is not None:
        found = shown.result.found
        with finding:
            draw_finding(shown.result, asked)
        with picture:
            draw_changes(page, found)
        with details:
            draw_details(page, shown)
    elif EVALUATION.job() is None or not EVALUATION.job().running:
        with finding:
            more = "Press the button, and every score of the edit plan stands here beside random subspaces."
            draw_known(page.study, page.fitted.study, page.colours, more)
    if shown is not None or asked is not None:
        draw_command(shown.result.asked if shown is not None else asked)


def tell_settings(page: StudyPage[EvaluatePicks]) -> str:
    """What is set, in a few words."""
    plan = page.picks.measures.plan
    bundled = page.picks.measures.prompts_from == "bundled"
    told = tell_plan(plan, count_prompts(page.study.model.name, plan) if bundled else plan.limit_prompts)
    takes = tell_estimate(estimate_measuring(page.study, plan)) if bundled else ""
    return f"{told}, {takes}" if takes else told


def draw_details(page: StudyPage[EvaluatePicks], shown: Shown[Asked, Evaluation]) -> None:
    """Below the picture: each score by itself, harmless text, the prompts, and the edit's proof."""
    found = shown.result.found
    # Some of these come while it is measured: each keeps its place.
    beside, scores, harmless, prompts, rest = (st.container() for _ in range(5))
    if shown.beside is not None:
        with beside:
            draw_beside(page, shown)
    with scores:
        draw_scores(page, found)
    with harmless:
        draw_suppression(page, found)
    with prompts:
        draw_prompts(page, found)
    with rest:
        draw_proof(found)
        draw_download_of_all(found)


def describe_asked(asked: Asked) -> str:
    return describe_edit(asked.edit)


def draw_run(
    page: StudyPage[EvaluatePicks], asked: Asked | None, results: Sequence[KeptResult[Asked, Evaluation]]
) -> None:
    job = EVALUATION.job()
    kept = next((result for result in results if result.asked == asked), None)
    stopped = kept is not None and not kept.whole and not (job is not None and job.running)
    takes = tell_estimate(estimate_measuring(page.study, asked.plan)) if asked is not None else ""
    note = "Choose what to measure with first."
    if stopped:
        missing = len(kept.found.missing)
        note = f"Stopped: {missing:,} of {len(asked.plan.scorers):,} scorers are still to be measured."
    elif asked is not None:
        note = f"{takes[:1].upper()}{takes[1:]}. " if takes else ""
        note += f"The edit plan: {describe_edit(asked.edit)}."
    there = job is not None and job.key in [result.asked for result in results]
    goes_on = " Whoever presses the button again goes on from there." if keeps_results() else ""
    draw_task(
        EVALUATION,
        asked,
        "evaluate",
        "Go on with the rest" if stopped else "Evaluate this edit" if kept is None else "Evaluate again",
        note,
        f"The evaluation was stopped; {'the scores that were there are kept.' if there else 'no score was there yet.'}"
        f"{goes_on}",
        again=kept is not None and kept.whole,
        stop_label="Stop and keep what is done",
    )


def draw_finding(result: KeptResult[Asked, Evaluation], asked: Asked | None) -> None:
    """The verdict, what the numbers are about, and whether that is still what the page asks for."""
    from detox_engine.auto.verdict import judge

    shown, found = result.asked, result.found
    verdict = judge(found, AutoPlan.perplexity_limit)
    so_far = "So far: " if found.missing else ""
    st.html(finding_html(SHIPPING[verdict.kind], f"{so_far}{HEADS[verdict.kind]}", verdict.reason))
    prompts = f" with {len(found.prompts):,} prompts" if found.prompts else ""
    words = (
        f"Measured: {describe_edit(shown.edit)}, on {name_model(shown.fitted.study.model)}{prompts}, in "
        f"{found.seconds:.0f} s."
    )
    if found.missing:
        missing = ", ".join(scorers()[name].title.lower() for name in found.missing)
        words += f" So far: {missing} still to be measured."
    st.caption(plain(words))
    if asked is not None and shown != asked:
        what = "The edit plan has" if shown.edit != asked.edit else "What to measure with has"
        draw_stale(EVALUATION, asked, "evaluate_now", f"{what} changed", "Evaluate what is chosen now")


def draw_changes(page: StudyPage[EvaluatePicks], found: Evaluation) -> None:
    """The main picture: what is to fall beside what it costs, each with its control."""
    if not list_rows(found.scores):
        return
    told = "; ".join(
        f"{score.title} {numbers.number(score.effect.before.mean)} before, {numbers.number(score.effect.after.mean)} "
        f"after{parts.describe_controls(score.effect)}"
        for _, score in list_rows(found.scores)
    )
    draw_chart(
        changes_figure(found.scores, found.plan.kinds, page.colours),
        "evaluation_changes",
        title_of(found, "What the edit changes"),
        f"Change of each score by the edit and by its controls, with 95 % intervals: {told}",
        partial(verdicts.list_effects, found.scores),
        "changes",
    )


def draw_beside(page: StudyPage[EvaluatePicks], shown: Shown[Asked, Evaluation]) -> None:
    """Two evaluations, score by score, and by how much they differ where they can be paired."""
    from detox_engine.scoring.evaluation import compare_evaluations

    names = [tell_result(result, describe_asked) for result in (shown.result, shown.beside)]
    first, second = shown.result.found, shown.beside.found
    pairs = parts.pair_scores(first, second)
    st.subheader("The two side by side", anchor=False)
    if not pairs:
        st.caption("They have no score in common.")
        return
    differences = compare_evaluations(first, second)
    st.html(parts.beside_html(pairs, differences, names))
    draw_chart(
        figures.beside_figure(pairs, page.colours),
        "beside",
        "Two evaluations side by side",
        "; ".join(parts.describe_pairs(pairs)),
        partial(parts.list_pairs, pairs, differences),
        "side_by_side",
    )


def draw_scores(page: StudyPage[EvaluatePicks], found: Evaluation) -> None:
    """A card for each scorer, by the question it answers."""
    from detox_engine.scoring.toxicity import describe_empty

    st.html(parts.verdict_html(found))
    st.html(LEGEND.format(controls="".join(CONTROLS[kind] for kind in found.plan.kinds)))
    with st.container():
        if found.matches:
            from detox_engine.scoring.evaluation import describe_matches

            st.caption(plain(describe_matches(found)))
        if empty := describe_empty(**found.empty):
            st.caption(empty)
    groups = parts.group_scores(found.scores)
    # A question that is answered later has its place already.
    for place, question in enumerate(dict.fromkeys((*QUESTIONS, *groups))):
        with st.container():
            if question in groups:
                st.subheader(question, anchor=False)
                with st.container(key=f"score_cards_{place}"):
                    for score in groups[question]:
                        draw_score(page, found, score)


def draw_score(page: StudyPage[EvaluatePicks], found: Evaluation, score: Score) -> None:
    with st.container(border=True, key=f"score_{score.name}"):
        st.html(parts.score_html(score))
        draw_chart(
            effect_figure(score, page.colours),
            f"effect_{score.name}",
            title_of(found, score.title),
            f"{score.title}: {numbers.number(score.effect.before.mean)} before, "
            f"{numbers.number(score.effect.after.mean)} after{parts.describe_controls(score.effect)}",
            partial(verdicts.list_effects, [score]),
            f"effect_{score.name}",
        )


def title_of(found: Evaluation, what: str) -> str:
    """Above a saved picture: what it shows, and of which edit."""
    return f"{what}: {describe_edit(found.edit)}"


def draw_suppression(page: StudyPage[EvaluatePicks], found: Evaluation) -> None:
    """Harmless text beside plain text: does the edit blunt more than toxic text?"""
    board = parts.hold_texts(found.scores)
    if not board.keys() - {parts.PLAIN}:
        return
    st.subheader(SPARES_HARMLESS, anchor=False)
    st.write(
        "Where predictions move further on harmless text than on plain text, the edit blunts more than toxic text."
    )
    draw_chart(
        figures.suppression_figure(board, page.colours),
        "suppression",
        title_of(found, "Harmless text beside plain text"),
        parts.describe_texts(board),
        partial(verdicts.list_effects, [score for scores in board.values() for score in scores.values()]),
        "harmless_text",
    )
    if parts.PLAIN not in board:
        st.caption("Measure perplexity and drift too, and plain text appears beside them.")
    draw_most_moved(found)


def draw_most_moved(found: Evaluation) -> None:
    """The harmless sentences on which predictions moved most."""
    from detox_engine.data.bundled import GROUPS, HARMLESS
    from detox_engine.data.texts import read_text
    from detox_engine.plans.sources import TextSpec

    with st.expander("The harmless texts it moves most"):
        for column, (title, name, file) in zip(
            st.columns(2, gap="large"),
            (("Words that only look rude", "harmless_drift", HARMLESS), ("Groups in passing", "groups_drift", GROUPS)),
            strict=True,
        ):
            lines, items = read_text(TextSpec(str(file)), file).lines, found.items[name]
            if len(lines) != items.shape[1]:
                column.caption(f"{title}: the texts are cut into several pieces for this model.")
                continue
            order = np.argsort(-items[1])[:MOST_MOVED]
            column.markdown(f"**{title}**, nats per token")
            controls = {kind: items[found.rows_of(kind)].mean(0) for kind in found.plan.kinds}
            column.html(
                parts.moved_html(
                    [
                        (lines[i], float(items[1][i]), {kind: float(moved[i]) for kind, moved in controls.items()})
                        for i in order
                    ]
                )
            )


def draw_prompts(page: StudyPage[EvaluatePicks], found: Evaluation) -> None:
    """Every prompt by what became of it, with what was written before and after."""
    if not found.prompts:
        return
    st.subheader("What became of each prompt?", anchor=False)
    from detox_engine.scoring.toxicity import TOXIC

    items = found.items[found.prompts_scored]
    controls = {kind: found.rows_of(kind) for kind in found.plan.kinds}
    counts = parts.count_fates(items, controls, TOXIC)
    st.html(parts.fates_html(counts))
    labels = [chart_label(mask(outcome.prompt, page.shows_words)) for outcome in found.prompts]
    sides = {"The edit": (items[0], items[1])}
    sides |= {verdicts.CONTROLS[kind]: (items[0], items[rows][0]) for kind, rows in controls.items()}
    draw_chart(
        figures.prompt_figure(sides, labels, TOXIC, page.colours),
        "prompt_scatter",
        title_of(found, "Toxicity of each prompt"),
        f"Toxicity of each prompt before and after: {counts['better'][0]} got better, {counts['worse'][0]} got worse",
        partial(parts.list_prompts, found),
        "toxicity_of_prompts",
        on_select=take_prompt,
    )
    st.caption(
        "Below the diagonal a prompt became less toxic, on a scale from 0 to 1. Beside the edit "
        f"{' and '.join(f'the first of the {RANDOM[kind]}' for kind in controls)} removed instead. A click on a dot "
        "shows what was written."
    )
    picked = st.session_state.get("picked_prompt")
    if picked is not None and picked < len(found.prompts):
        with st.container(border=True, key="picked"):
            draw_outcomes(found, [found.prompts[picked]])
    draw_fate(found, counts)


def take_prompt() -> None:
    for prompt, *_ in clicked("prompt_scatter", "customdata")[:1]:
        st.session_state.picked_prompt = int(prompt)


def draw_fate(found: Evaluation, counts: dict[str, tuple[int, dict[str, float]]]) -> None:
    """The prompts of one fate, the most telling first."""
    chosen = st.segmented_control(
        "Show the prompts that",
        list(parts.FATES),
        format_func=lambda fate: f"{parts.FATES[fate].lower()} ({counts[fate][0]:,})",
        default="better",
        key="fate",
        required=True,
        wrap=True,
        persist_state="session",
    )
    order = {
        "better": lambda one: one.after - one.before,
        "worse": lambda one: one.before - one.after,
        "stayed bad": lambda one: -one.after,
        "stayed fine": lambda one: -abs(one.after - one.before),
    }
    chosen_prompts = sorted((one for one in found.prompts if one.fate == chosen), key=order[chosen])
    if not chosen_prompts:
        st.caption("None of the prompts.")
        return
    key = f"fate_shown_{chosen}"
    count = st.session_state.get(key, SHOWN)
    draw_outcomes(found, chosen_prompts[:count])
    if len(chosen_prompts) > count:
        st.button(
            f"Show {min(SHOWN, len(chosen_prompts) - count)} more of {len(chosen_prompts):,}",
            key="more_prompts",
            on_click=st.session_state.update,
            kwargs={key: count + SHOWN},
        )


def draw_outcomes(found: Evaluation, chosen: Sequence[PromptOutcome]) -> None:
    several = found.plan.sampling.samples > 1
    comparisons = [each for outcome in chosen for each in outcome.comparisons]
    # What stammers insults nobody: a toxicity that fell says little of it.
    st.html(comparisons_html(comparisons, several, broken=find_broken(comparisons)))


def draw_proof(found: Evaluation) -> None:
    st.subheader("Proof of the edit", anchor=False)
    edit = found.edit
    with st.container(border=True, key="proof"):
        st.html(parts.proof_html(found.proof, edit.rank, found.model.hidden, edit.strength))


def draw_download_of_all(found: Evaluation) -> None:
    """Everything in full, whatever is blurred on the page."""
    from detox_engine.scoring.records import record_evaluation

    draw_download(
        "Everything as JSON", lambda: write_json(record_evaluation(found)), "evaluation.json", "download_evaluation"
    )


def draw_command(asked: Asked) -> None:
    draw_commands(
        [
            commands.fit_command(asked.fitted.study),
            commands.evaluate_command(asked.fitted.study, asked.edit, asked.plan),
        ]
    )


show(draw, HEAD, HELP)
