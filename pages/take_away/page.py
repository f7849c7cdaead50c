"""What do I get? The edit as files that others load, with the proof of what they are."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.plans import commands
from detox_engine.plans.edit import EXPORT_FORMS, describe_edit
from detox_engine.plans.sources import SMOLLM2
from pages.take_away.figure import changes_figure
from pages.take_away.picks import TakeAwayPicks
from pages.take_away.work import ADAPTER, NAME, REPORT, Asked, ask_to_tell, list_changes
from ui.frame.command import draw_commands
from ui.frame.page import Head, Help, StudyPage, show
from ui.show.chart import draw_chart
from ui.show.notes import draw_error
from ui.widgets.option import ask
from ui.words.numbers import file_size
from ui.words.text import plain
from ui.work.tasks import draw_stale, draw_task

if TYPE_CHECKING:
    from pages.take_away.work import Taken

HEAD = Head("Take away", "What do I get?", picks="take_away")
HELP = Help(
    "Removing directions changes each weight matrix by a matrix of low rank, which is exactly what a LoRA adapter "
    "holds: nothing is lost. The adapter is a few files that PEFT, vLLM and others put on the base model when they "
    "load it; a whole model is the base's own checkpoint in which only the edited matrices differ. Both come with a "
    "card that says what was done and a receipt from which anybody who has the base model can recompute that.",
    r"W - \alpha\, W V^{\top} V \;=\; W + (B A)^{\top}, \qquad A = V W^{\top}, \quad B = -\alpha V^{\top}",
)


def draw(page: StudyPage[TakeAwayPicks]) -> None:
    form = ask("take_away.form", "Take it as", "take_away_form")
    st.caption(plain(f"{EXPORT_FORMS[form][:1].upper()}{EXPORT_FORMS[form][1:]}."))
    if form != "model":
        draw_adapter(page, Asked(page.fitted, page.edit, form))
    elif is_gguf(page.view.model.name):
        st.warning(
            "This model is a GGUF file, whose tensors are quantised and cannot be rewritten without loss: take one of "
            "the adapters, which are exact."
        )
    else:
        st.info(
            "A whole model is written by the command below, file by file beside its base: it would be too large to "
            "pass through a browser.",
            icon=":material/terminal:",
        )
    draw_report(page)
    key = page.fitted.study
    made = [] if form == "model" and is_gguf(page.view.model.name) else commands.export_commands(key, page.edit, form)
    draw_commands([commands.fit_command(key), *made, commands.report_command(key, page.edit)])


def is_gguf(model: str) -> bool:
    """Whether a model's tensors are quantised, so that no whole model can be written."""
    return model == SMOLLM2 or model.endswith(".gguf")


def draw_adapter(page: StudyPage[TakeAwayPicks], asked: Asked) -> None:
    answers = {kept: taken for kept, taken in ADAPTER.answers().items() if kept.form == asked.form}
    shown = asked if asked in answers else next(reversed(answers), None)
    draw_task(
        ADAPTER,
        asked,
        "make_adapter",
        "Make the adapter",
        f"Of the edit plan: {describe_edit(page.edit)}.",
        "Making the adapter was stopped.",
        again=shown is not None,
        icon=":material/package_2:",
    )
    if shown is None:
        if ADAPTER.job() is None:
            st.caption("Press the button, and what the edit does to each weight matrix and the files appear here.")
        return
    if shown.fitted == page.fitted:
        if shown != asked:
            draw_stale(
                ADAPTER,
                replace(shown, edit=page.edit),
                "make_again",
                f"This adapter is of {describe_edit(shown.edit)}; the edit plan has changed",
                "Make it of the edit plan of now",
            )
        draw_taken(page, shown, answers[shown])


def draw_taken(page: StudyPage[TakeAwayPicks], shown: Asked, taken: Taken) -> None:
    largest = max(taken.changes, key=lambda change: change.change)
    st.subheader("What changes in the weights", anchor=False)
    draw_chart(
        changes_figure(taken.changes, page.study.layers, page.colours),
        "changes_chart",
        f"Change of each weight matrix: {describe_edit(shown.edit)}",
        f"Change of {len(taken.changes)} weight matrices; the largest, {largest.change:.2%} of its norm, at layer "
        f"{largest.layer}",
        partial(list_changes, taken),
        "changes_of_weights",
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            f"The adapter, {file_size(len(taken.content))}",
            taken.content,
            f"{NAME}.zip",
            "application/zip",
            key="download_adapter",
            type="primary",
            icon=":material/download:",
            on_click="ignore",
        )
        st.caption(plain(f"{len(taken.sizes)} files: {', '.join(taken.sizes)}. README.md says how they are loaded."))
    for warning in taken.warnings:
        st.warning(plain(warning))
    draw_proof(taken)


def draw_report(page: StudyPage[TakeAwayPicks]) -> None:
    """Everything that is known of the edit as one file."""
    st.subheader("The report", anchor=False)
    asked = ask_to_tell(page.study, page.fitted, page.edit)
    found = REPORT.find(asked)
    parts = ["the spectra", "what its directions mean", "the map of the texts"]
    parts += ["the evaluation of this edit"] * (asked.evaluation is not None)
    parts += ["the settings that were tried"] * (asked.sweep is not None)
    missing = "" if asked.evaluation is not None else " Evaluate the edit first, and its scores are in it too."
    draw_task(
        REPORT,
        asked,
        "make_report",
        "Make the report",
        f"One file that needs no network, with {', '.join(parts)}; toxic words are blurred.{missing}",
        "Making the report was stopped.",
        again=found is not None,
        icon=":material/description:",
    )
    if found is not None:
        st.download_button(
            f"The report, {file_size(len(found.encode()))}",
            found,
            "detox_report.html",
            "text/html",
            key="download_report",
            icon=":material/download:",
            on_click="ignore",
        )


def draw_proof(taken: Taken) -> None:
    """The claims of the folder, as they were recomputed from the files that were written."""
    st.subheader("What was verified", anchor=False)
    for claim in taken.claims:
        if claim.holds:
            st.markdown(f":material/check: {plain(claim.sentence)}")
        else:
            draw_error(claim.sentence)


show(draw, HEAD, HELP)
