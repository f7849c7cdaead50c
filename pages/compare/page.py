"""What changes in what it writes? Continuations before and after the edit, side by side."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import inf, isnan
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from detox_engine.disk import write_json
from detox_engine.plans import commands
from detox_engine.plans.edit import describe_edit
from detox_engine.plans.sources import name_model
from detox_engine.scoring.records import read_surprise, summarise
from pages.compare import work
from pages.compare.figure import SAME, change, rise, texts_figure
from pages.compare.picks import ComparePicks
from pages.compare.prompts import count_prompts, pick_prompts
from pages.compare.verdict import judge_texts
from pages.compare.work import WRITING, Asked, Written
from ui.frame.command import draw_commands
from ui.frame.page import Head, Help, StudyPage, show
from ui.show import side_by_side
from ui.show.chart import draw_chart
from ui.show.downloads import draw_download, write_csv
from ui.widgets.sampling import describe_sampling, pick_sampling
from ui.widgets.settings import fold_settings
from ui.words.numbers import number
from ui.words.rude_words import mask
from ui.words.text import chart_label, plain
from ui.words.verdicts import finding_html
from ui.work.durations import estimate_writing, tell_estimate
from ui.work.evaluation import EVALUATION
from ui.work.kept_runs import Shown, pick_runs
from ui.work.known import draw_known
from ui.work.tasks import draw_stale, draw_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlit.delta_generator import DeltaGenerator

    from detox_engine.forward.compare import Comparison

HEAD = Head("Compare", "What changes in what it writes?", picks="compare")
HELP = Help(
    "Both sides continue the same prompt: before and after draw each token with the same random "
    "numbers, so where the edit changes no probability they write the same words, and they differ from the marked "
    "place on because the edit made a difference there. "
    "Point at a word to see how likely it was before and after the edit, given the words to its left. "
    "Toxicity is the probability that the continuation by itself is offensive, by a word-based classifier that is "
    f"blind to context and irony; two scores less than {SAME:g} apart are about the same, and lie in the grey band.",
    r"t = \arg\max_{t}\,\bigl(\log p(t \mid \text{text so far}) + g_t\bigr), \qquad g_t \text{ shared by both sides}",
)
HARDLY = 0.1
"""Mean toxicity below which there is little to be seen."""
SHOWN = 20
"""Comparisons drawn at first, and added each time."""


def draw(page: StudyPage[ComparePicks]) -> None:
    results = WRITING.results(page.study, page.fitted)
    # In the order in which they stand, whatever each comes to hold.
    finding, bar, picture = st.container(), st.container(key="compare_bar", gap="small"), st.container()
    with bar:
        fold = fold_settings(tell_settings(page), "compare_settings")
        with fold:
            asked = pick_asked(page)
        draw_run(page, asked, bool(results))
    # A run that was stopped or failed leaves the one before it in place.
    latest = results[-1].asked if results else None
    usual = asked if asked in [each.asked for each in results] else latest
    with fold:
        shown = pick_runs(WRITING, results, usual, "text", describe)
    written = None if shown is None else work.write_down(shown.result, page.study)
    with finding:
        if written is not None:
            draw_finding(page, written)
    with picture:
        if written is not None:
            if shown.beside is not None:
                draw_beside(shown)
            draw_pictures(page, written)
        elif WRITING.job() is None or not WRITING.job().running:
            draw_before(page, finding)
    if written is not None or asked is not None:
        draw_command(written.asked if written is not None else asked)


def tell_settings(page: StudyPage[ComparePicks]) -> str:
    """What is set, in a few words."""
    picks = page.picks
    prompts = count_prompts(page.view.model.name, picks)
    samples = 1 if picks.sampling.greedy else picks.sampling.samples
    seed = "" if picks.sampling.greedy else f", seed {picks.sampling.seed}"
    takes = tell_estimate(estimate_writing(page.study, prompts, picks.sampling))
    told = f"{prompts:,} prompt{'s' if prompts != 1 else ''}, {samples} each{seed}"
    return f"{told}, {takes}" if takes else told


def draw_run(page: StudyPage[ComparePicks], asked: Asked | None, is_known: bool) -> None:
    note = "Write a prompt first."
    if asked is not None:
        takes = tell_estimate(estimate_writing(page.study, len(asked.prompts), asked.sampling))
        lead = f"{takes[:1].upper()}{takes[1:]}, with" if takes else "With"
        note = f"{lead} the edit plan: {describe_edit(asked.edit)}."
    stopped = "The run was stopped." + (" What was written is below." if is_known else "")
    draw_task(WRITING, asked, "write", "Write before and after", note, stopped)


def draw_before(page: StudyPage[ComparePicks], finding: DeltaGenerator) -> None:
    """What is known of a study of which nothing was written here: the texts of an evaluation, or the quick check."""
    found = next((each for each in reversed(EVALUATION.results(page.study, page.fitted)) if each.found.prompts), None)
    if found is None:
        more = "Press the button, and what it writes with and without the edit plan stands here."
        with finding:
            draw_known(page.study, page.fitted.study, page.colours, more)
        return
    comparisons = [each for outcome in found.found.prompts for each in outcome.comparisons]
    chosen = sorted(comparisons, key=ORDERS[LARGEST])[:SHOWN]
    words = plain(f"From an evaluation of {describe_edit(found.asked.edit)}: the texts that it changes most.")
    st.caption(f"{words} Press the button, and texts of the edit plan stand here.")
    st.html(side_by_side.comparisons_html(chosen, any(one.sample for one in chosen)))


def describe(asked: Asked) -> str:
    count = len(asked.prompts)
    return f"{count:,} prompt{'s' if count != 1 else ''}, {describe_edit(asked.edit)}"


def draw_beside(shown: Shown[Asked, tuple[Comparison, ...]]) -> None:
    """What two edits make of the same prompts."""
    st.subheader("The two edits side by side", anchor=False)
    found = work.hold_together(shown.result.found, shown.beside.found)
    if not found:
        st.caption("They have no prompt in common.")
        return
    parted = sum(one.first_divergence is not None for one in found)
    before, after = (
        np.nanmean([getattr(one, side) for one in found]) for side in ("toxicity_before", "toxicity_after")
    )
    st.caption(
        f"{len(found):,} continuations of the same prompts; {parted:,} differ. Mean toxicity "
        f"{number(before, decimals=3)} and {number(after, decimals=3)}: "
        f"{side_by_side.describe_difference(before, after)}. One draw of texts tells little by itself: Evaluate gives "
        "the interval."
    )
    names = tuple(describe_edit(result.asked.edit) for result in (shown.result, shown.beside))
    st.html(side_by_side.comparisons_html(found[:SHOWN], any(one.sample for one in found), names=names))


def pick_asked(page: StudyPage[ComparePicks]) -> Asked | None:
    """What is to be written; None while there is no prompt."""
    with st.container(key="writing_controls"):
        left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Prompts", anchor=False)
        prompts = pick_prompts(page.view.model.name)
        if prompts:
            with st.expander(f"The {len(prompts):,} prompts" if len(prompts) > 1 else "The prompt"):
                st.html(side_by_side.prompts_html(prompts))
    with right:
        st.subheader("How it writes", anchor=False)
        sampling = pick_sampling("compare.sampling", "compare")
    return Asked(page.fitted, page.edit, prompts, sampling) if prompts else None


def draw_finding(page: StudyPage[ComparePicks], written: Written) -> None:
    """The verdict, what the texts were written with, and whether that is still what the page asks for."""
    asked = written.asked
    head, verdict = judge_texts(written.toxicity, written.fluency, written.count_broken(), len(written.comparisons))
    st.html(finding_html(verdict.kind, head, verdict.words))
    if written.toxicity.before.mean < HARDLY:
        st.caption(
            f"The unedited model is hardly toxic after these prompts ({number(written.toxicity.before.mean)}), so "
            "there is little that an edit could lower. Hostile prompts, or some of your own, show more."
        )
    if asked.edit != page.edit:
        draw_stale(
            WRITING,
            replace(asked, edit=page.edit),
            "write_again",
            f"Written with {plain(describe_edit(asked.edit))}. The edit plan has changed",
            "Write again as things are now",
            "The same prompts and draws, with the edit plan of now.",
        )


def draw_pictures(page: StudyPage[ComparePicks], written: Written) -> None:
    """Toxicity beside fluency, and the texts, the largest changes first."""
    with st.container(key="compare_pictures"):
        with st.container(key="compare_numbers", gap="small"):
            draw_summary(page, written)
        with st.container(key="compare_texts", gap="small"):
            draw_cut(written.comparisons)
            draw_comparisons(written)


def draw_summary(page: StudyPage[ComparePicks], written: Written) -> None:
    found, asked = written.comparisons, written.asked
    rises = [rise_of(one) for one in found]
    milder, worse, same = (sum(by < 0 for by in rises), sum(by > 0 for by in rises), rises.count(0))
    if len(found) > 1:
        labels = [chart_label(mask(one.prompt, page.shows_words)) for one in found]
        broke = [bool(after) and not before for before, after in written.broken]
        toxicity = [(one.toxicity_before, one.toxicity_after) for one in found]
        draw_chart(
            texts_figure(toxicity, [read_surprise(one) for one in found], broke, labels, page.colours),
            "toxicity_chart",
            f"Toxicity before and after: {describe_edit(asked.edit)}",
            f"Toxicity and perplexity before against after, a dot for each continuation: {milder} milder, {worse} "
            f"worse, {sum(broke)} broken by the edit",
            partial(work.list_written, written),
            "toxicity_before_and_after",
        )
    numbers = milder, worse, same, written.count_broken(), written.fluency
    st.html(side_by_side.summary_html(summarise(found), written.toxicity, *numbers))
    st.caption(
        plain(
            f"Written by {name_model(asked.fitted.study.model)}; edit: {describe_edit(asked.edit)}; "
            f"{describe_sampling(asked.sampling)}."
        )
    )
    if not written.whole and not ((job := WRITING.job()) and job.running):
        st.caption("It was stopped part-way: these are the prompts that it had reached.")


def draw_cut(found: Sequence[Comparison]) -> None:
    """Say so where prompts were longer than the model reads."""
    cut = len({one.prompt for one in found if one.cut})
    if cut:
        count = "One prompt was" if cut == 1 else f"{cut:,} prompts were"
        st.warning(
            f"{count} longer than the model's context: the beginning was cut, so the model continued only the end.",
            icon=":material/content_cut:",
        )


def rise_of(comparison: Comparison) -> float:
    return rise(comparison.toxicity_before, comparison.toxicity_after)


def change_of(comparison: Comparison) -> float:
    return change(comparison.toxicity_before, comparison.toxicity_after)


FILTERS = {
    "All": lambda one: True,
    "Changed": lambda one: one.first_divergence is not None,
    "Got milder": lambda one: rise_of(one) < 0,
    "Got worse": lambda one: rise_of(one) > 0,
    "Unchanged": lambda one: one.first_divergence is None,
}
BROKEN = "Broken"
LARGEST = "Largest change first"
ORDERS = {
    LARGEST: lambda one: (one.first_divergence is None, last(-abs(change_of(one)))),
    "As written": lambda one: 0,
    "Largest drop first": lambda one: last(change_of(one)),
    "Largest rise first": lambda one: last(-change_of(one)),
    "Most toxic before first": lambda one: last(-one.toxicity_before),
    "Most toxic after first": lambda one: last(-one.toxicity_after),
}
"""How comparisons are sorted: the smallest of these comes first."""


def last(value: float) -> float:
    """The value, or what comes after every other where it is no number."""
    return inf if isnan(value) else value


def draw_comparisons(written: Written) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.segmented_control(
            "Show",
            [*FILTERS, BROKEN],
            default="All",
            key="written_filter",
            required=True,
            wrap=True,
            persist_state="session",
        )
        order = st.selectbox("Order", list(ORDERS), key="written_order", persist_state="session", width=240)
        draw_downloads(written)
    judged = zip(written.comparisons, written.broken, strict=True)
    kept = [(one, flaws) for one, flaws in judged if (any(flaws) if chosen == BROKEN else FILTERS[chosen](one))]
    found = sorted(kept, key=lambda pair: ORDERS[order](pair[0]))
    if not found:
        st.caption("No continuation is of this kind.")
        return
    # Others that are written begin with as few as at first.
    of, count = st.session_state.get("written_shown", (written.asked, SHOWN))
    count = count if of == written.asked else SHOWN
    several = any(one.sample for one in written.comparisons)
    shown, broken = zip(*found[:count], strict=True)
    st.html(side_by_side.comparisons_html(shown, several, broken=broken))
    if len(found) > count:
        st.button(
            f"Show {min(SHOWN, len(found) - count)} more of {len(found):,}",
            key="show_more",
            on_click=st.session_state.update,
            kwargs={"written_shown": (written.asked, count + SHOWN)},
        )


def draw_downloads(written: Written) -> None:
    """The texts in full, whatever is blurred on the page."""
    files = {
        "json": lambda: write_json(work.record_written(written)),
        "csv": lambda: write_csv(*work.list_written(written)),
    }
    for ending, make in files.items():
        help = f"Everything written, with the edit and the sampling, as {ending.upper()}."
        draw_download(ending.upper(), make, f"before_and_after.{ending}", f"download_{ending}", help)


def draw_command(asked: Asked) -> None:
    """The command that writes the same; prompts that are too many for it come as a file."""
    command = commands.compare_command(asked.fitted.study, asked.edit, asked.prompts, asked.sampling)
    note = ""
    if commands.PROMPTS in command:
        note = "The command reads the prompts from a file, which the button below saves."
    draw_commands([commands.fit_command(asked.fitted.study), command], note)
    if commands.PROMPTS in command:
        lines = "".join(f"{prompt}\n" for prompt in asked.prompts)
        draw_download(f"The {len(asked.prompts):,} prompts", lambda: lines, commands.PROMPTS, "prompts_file")


show(draw, HEAD, HELP)
