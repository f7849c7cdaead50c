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
from pages.take_away.picks import TITLES, TakeAwayPicks
from pages.take_away.work import ADAPTER, CHANGES, NAME, REPORT, Asked, AskedToPlan, ask_to_tell, list_changes
from ui.frame.command import draw_commands
from ui.frame.page import Head, Help, StudyPage, show
from ui.show.chart import draw_chart
from ui.show.notes import draw_error
from ui.widgets.option import ask
from ui.widgets.settings import fold_settings
from ui.words.numbers import file_size
from ui.words.text import plain
from ui.words.verdicts import finding_html
from ui.work.tasks import draw_stale, draw_task, draw_unfinished

if TYPE_CHECKING:
    from pages.take_away.work import Planned, Taken

HEAD = Head("Take away", "What do I get?", picks="take_away")
HELP = Help(
    "Removing directions changes each weight matrix by a matrix of low rank, which is exactly what a LoRA adapter "
    "holds: nothing is lost. The adapter is a few files that PEFT, vLLM and others put on the base model when they "
    "load it; a whole model is the base's own checkpoint in which only the edited matrices differ. Both come with a "
    "card that says what was done and a receipt from which anybody who has the base model can recompute that.",
    r"W - \alpha\, W V^{\top} V \;=\; W + (B A)^{\top}, \qquad A = V W^{\top}, \quad B = -\alpha V^{\top}",
)


def draw(page: StudyPage[TakeAwayPicks]) -> None:
    form = page.picks.form
    finding, bar, picture, details = (st.container() for _ in range(4))
    with bar:
        with fold_settings(f"take it as {TITLES[form].lower()}", "take_away_settings"):
            form = ask("take_away.form", "Take it as", "take_away_form")
            st.caption(plain(f"{EXPORT_FORMS[form][:1].upper()}{EXPORT_FORMS[form][1:]}."))
        asked = Asked(page.fitted, page.edit, form)
        taken = draw_adapter(page, asked) if form != "model" else draw_model(page)
    with picture:
        planned = draw_plan(page, form)
    if planned is not None:
        with finding:
            st.html(finding_html("unclear", *tell_plan(page, form, planned, taken)))
    with details:
        if taken is not None:
            draw_proof(taken)
        draw_report(page)
    key = page.fitted.study
    made = [] if form == "model" and is_gguf(page.view.model.name) else commands.export_commands(key, page.edit, form)
    draw_commands([commands.fit_command(key), *made, commands.report_command(key, page.edit)])


def draw_model(page: StudyPage[TakeAwayPicks]) -> None:
    """Why a whole model is written by the command alone, or not at all."""
    if is_gguf(page.view.model.name):
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


def tell_plan(page: StudyPage[TakeAwayPicks], form: str, planned: Planned, taken: Taken | None) -> tuple[str, str]:
    """What will be written, or is, in a few words, and what it changes."""
    largest = max(planned.changes, key=lambda change: change.change)
    size = file_size(planned.model if form == "model" else planned.adapter)
    head = f"{TITLES[form]}, about {size}." if taken is None else f"{TITLES[form]}, {file_size(len(taken.content))}."
    many = "matrices change" if len(planned.changes) > 1 else "matrix changes"
    words = (
        f"{describe_edit(page.edit).capitalize()}: {len(planned.changes):,} weight {many}, "
        f"by {largest.change:.2%} of the norm at "
        f"most, at layer {largest.layer}."
    )
    if taken is not None:
        held = sum(claim.holds for claim in taken.claims)
        words += f" {held} of {len(taken.claims)} claims of its receipt were recomputed from the files and hold."
    return head, words


def draw_plan(page: StudyPage[TakeAwayPicks], form: str) -> Planned | None:
    """The picture, before anything is written: how much of each weight matrix changes, and what there is to take."""
    question = AskedToPlan(page.fitted, page.edit)
    planned = CHANGES.ask(question)
    if planned is None:
        draw_unfinished(CHANGES, question, "plan_again", "Look again", "It was stopped.")
        return None
    with st.container(key="take_away_pictures"):
        largest = max(planned.changes, key=lambda change: change.change)
        with st.container():
            draw_chart(
                changes_figure(planned.changes, page.study.layers, page.colours),
                "changes_chart",
                f"Change of each weight matrix: {describe_edit(page.edit)}",
                f"Change of {len(planned.changes)} weight matrices; the largest, {largest.change:.2%} of its norm, at "
                f"layer {largest.layer}",
                partial(list_changes, planned),
                "changes_of_weights",
            )
        with st.container():
            st.html(offers_html(planned, form, is_gguf(page.view.model.name)))
    return planned


def offers_html(planned: Planned, form: str, quantised: bool) -> str:
    """What can be taken, how large it is, and what is in it; of a model whose tensors are quantised no whole model."""
    whole = "the base's own checkpoint, only the edited matrices differ"
    if quantised:
        whole = "not of a GGUF file, whose tensors cannot be rewritten without loss"
    rows = (
        ("adapter", TITLES["adapter"], planned.adapter, "for PEFT, vLLM and others; with its card and its receipt"),
        ("gguf-adapter", TITLES["gguf-adapter"], planned.adapter, "for llama.cpp; with its card and its receipt"),
        ("model", TITLES["model"], 0 if quantised else planned.model, whole),
        ("report", "Report", 0, "one HTML file that needs no network: spectra, directions, map, scores"),
    )
    picked = {form: ' class="picked"'}
    body = "".join(
        f"<tr{picked.get(name, '')}><td>{title}</td><td>{f'≈ {file_size(size)}' if size else ''}</td>"
        f"<td>{words}</td></tr>"
        for name, title, size, words in rows
    )
    heads = "<th>What</th><th>Size</th><th>What is in it</th>"
    return f'<table class="figures offers"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def is_gguf(model: str) -> bool:
    """Whether a model's tensors are quantised, so that no whole model can be written."""
    return model == SMOLLM2 or model.endswith(".gguf")


def draw_adapter(page: StudyPage[TakeAwayPicks], asked: Asked) -> Taken | None:
    """The button that makes an adapter, and the one that takes it away; what was made, where it is of the plan."""
    answers = {kept: taken for kept, taken in ADAPTER.answers().items() if kept.form == asked.form}
    shown = asked if asked in answers else next(reversed(answers), None)
    draw_task(
        ADAPTER,
        asked,
        "make_adapter",
        "Make the adapter",
        f"A few seconds. Of the edit plan: {describe_edit(page.edit)}.",
        "Making the adapter was stopped.",
        again=shown is not None,
        icon=":material/package_2:",
    )
    if shown is None or shown.fitted != page.fitted:
        return None
    if shown != asked:
        draw_stale(
            ADAPTER,
            replace(shown, edit=page.edit),
            "make_again",
            f"This adapter is of {plain(describe_edit(shown.edit))}; the edit plan has changed",
            "Make it of the edit plan of now",
        )
    taken = answers[shown]
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
    return taken if shown == asked else None


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
