"""Is what the paper says true here? A card a claim: its verdict, its picture, and the lab that measured it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from detox_engine.disk import write_json
from detox_engine.errors import InputError
from detox_engine.lab.kept import LABS
from detox_engine.plans import commands
from detox_engine.plans.edit import describe_edit, read_edit
from pages.claims.cards import bench, centring, curves, link
from pages.claims.cards.card import Card, Picture
from pages.claims.factor_world import show_factor_world
from pages.claims.picks import ClaimsPicks, field_of
from pages.claims.provenance import provenance_html
from pages.claims.records import Found, find_record, reading, words
from pages.claims.settings import ASK
from pages.claims.work import LAB, Asked, draw_progress, estimate, find_missing, tell_time
from ui.frame.command import draw_commands
from ui.frame.page import Head, Help, StudyPage, show
from ui.session import state
from ui.session.view import fitting_edit
from ui.show import notes
from ui.show.chart import draw_chart
from ui.show.downloads import draw_download
from ui.widgets.fold import draw_folded
from ui.widgets.option import ask
from ui.words.text import escape, plain
from ui.work.tasks import draw_task

if TYPE_CHECKING:
    from detox_engine.lab.verdicts import Claim
    from detox_engine.plans.edit import EditPlan
    from detox_engine.study.study import Study
    from pages.claims.picks import Score
    from ui.show.colours import Palette

HEAD = Head("Claims", "Is what the paper says true here?", picks="claims")
HELP = Help(
    "Each claim of the paper's abstract is measured on the study that is open. Methods are compared at the strength at "
    "which all of them move predictions on neutral text equally far, since at one strength a direction that the model "
    "uses much costs more. A verdict is read off the numbers alone: an interval that holds 0, or draws that overlap, "
    "is no difference. It speaks of this model and these pairs, and of no other.",
    r"\text{cost}(\alpha) = \frac{1}{T} \sum_t \mathrm{KL}\left(p_t \,\|\, p_t^{\alpha}\right), \qquad "
    r"\text{left} = \bar s_{\text{after}} \,/\, \bar s_{\text{before}}",
)
TITLES = {
    "bench": "It lowers toxicity, without training",
    "sample-size": "It needs fewer pairs than DPO",
    "label-noise": "Wrong labels harm it less",
    "dpo-link": "It is a denoised step of DPO",
    "centring": "Centring spares what is not toxic",
}
MAKE = {
    "bench": bench.make_card,
    "sample-size": curves.make_sample_size,
    "label-noise": curves.make_label_noise,
    "dpo-link": link.make_card,
    "centring": centring.make_card,
}
SIGNS = {"held": "✓", "held in part": "◐", "not seen here": "✕", "not measured": "○"}
NUMBERS = ("none", "one", "two", "three", "four", "five")
UNREADABLE = "What is kept of this lab cannot be read, so it counts as not measured: measure it again."
ROWS_SHOWN = 1000


def draw(page: StudyPage[ClaimsPicks]) -> None:
    asked = {lab: find_asked(page, lab) for lab in LABS}
    found = {lab: find_record(page.fitted, page.study, lab, asked[lab]) for lab in LABS}
    score, colours = page.picks.score, page.colours
    shown = {lab: None if each is None else read_card(lab, each, score, colours) for lab, each in found.items()}
    claims = judge({lab: None if each is None else each.record for lab, each in found.items()})
    for lab, each in found.items():
        if each is not None and shown[lab] is None:
            claims[lab] = say_unreadable(claims[lab])
        elif each is not None and each.source == "running":
            claims[lab] = hold_back(claims[lab])
    draw_summary([claims[lab].verdict for lab in LABS])
    for lab in LABS:
        with st.container(border=True, key=f"claim_{lab}"):
            draw_claim(page, lab, claims[lab], found[lab], shown[lab], asked[lab])
    with st.container(border=True, key="claim_world"):
        st.subheader("The factor model that the paper assumes", anchor=False)
        st.caption("A made-up world in which the toxic subspace is known: who finds it, and what is in the way?")
        show_factor_world(page, "claims.factors")


def find_asked(page: StudyPage[ClaimsPicks], lab: str) -> Asked | str:
    """What a run would be of, by the picks; a sentence where they cannot be so."""
    try:
        return Asked(page.fitted, lab, getattr(page.picks, field_of(lab)).plan())
    except InputError as error:
        return str(error)


def judge(records: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Claim]:
    """The verdict on every claim, one by one, so that a record that cannot be read spoils none of the others."""
    from detox_engine.lab.verdicts import judge_claims

    claims = {claim.name: claim for claim in judge_claims({})}
    for lab, record in records.items():
        found = reading(partial(judge_claims, {lab: record})) if record else None
        if found is not None:
            claims |= {claim.name: claim for claim in found if claim.name == lab}
        elif record:
            claims[lab] = say_unreadable(claims[lab])
    return claims


@lru_cache(16)
def read_card(lab: str, found: Found, score: Score, colours: Palette) -> tuple[Card, str] | None:
    """The pictures of a record, and what they rest on as HTML; None where it is no record of the lab."""
    return reading(lambda: (MAKE[lab](found.record, score, colours), provenance_html(found)))


def say_unreadable(claim: Claim) -> Claim:
    from detox_engine.lab.verdicts import OPEN

    return replace(claim, verdict=OPEN, told=UNREADABLE)


def hold_back(claim: Claim) -> Claim:
    """What a run that is not over says: no verdict yet, since methods may still be missing from it."""
    from detox_engine.lab.verdicts import OPEN

    return replace(claim, verdict=OPEN, told=f"The run is not over. So far: {claim.told}")


def draw_summary(verdicts: Sequence[str]) -> None:
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.html(f'<p class="claims-summary">{escape(summarise(verdicts))}</p>', width="content")
        ask("claims.score", "Toxicity in the pictures", "claims_score", label_visibility="collapsed", help=None)


def summarise(verdicts: Sequence[str]) -> str:
    """How many of the claims held, in one sentence."""
    from detox_engine.lab.verdicts import HELD, NOT_SEEN, OPEN, PARTLY

    counts = {verdict: verdicts.count(verdict) for verdict in (HELD, PARTLY, NOT_SEEN, OPEN)}
    if counts[OPEN] == len(verdicts):
        return "None of the claims has been measured on this study yet."
    parts = []
    if counts[HELD]:
        parts.append(f"{NUMBERS[counts[HELD]]} held here")
    if counts[PARTLY]:
        parts.append(f"{NUMBERS[counts[PARTLY]]} {'' if counts[HELD] else 'held '}in part")
    for verdict, said in ((NOT_SEEN, "not seen"), (OPEN, "not measured")):
        if counts[verdict]:
            parts.append(f"{NUMBERS[counts[verdict]]} {'was' if counts[verdict] == 1 else 'were'} {said}")
    return f"Of {NUMBERS[len(verdicts)]} claims {', '.join(parts)}."


def draw_claim(
    page: StudyPage[ClaimsPicks], lab: str, claim: Claim, found: Found | None, shown: tuple[Card, str] | None,
    asked: Asked | str,
) -> None:  # fmt: skip
    """A claim: its sentence, its verdict, its picture, then all that is behind them, and the lab to run.

    Args:
        shown: of `read_card`.
    """
    st.subheader(TITLES[lab], anchor=False)
    st.html(claim_html(claim))
    if shown is not None:
        card, behind = shown
        draw_card(card)
        if lab == "bench":
            draw_take(page, found.record)
        draw_behind(lab, card, found, behind)
    draw_lab(page, lab, shown is not None, asked)


def claim_html(claim: Claim) -> str:
    """The paper's sentence, the verdict as a word and a sign, and why."""
    verdict = claim.verdict
    return (
        f'<div class="claim {verdict.replace(" ", "-")}"><p class="sentence">{escape(claim.sentence)}</p>'
        f'<p><span class="word"><span aria-hidden="true">{SIGNS[verdict]}</span> {escape(verdict.capitalize())}</span> '
        f"{escape(claim.told)}</p></div>"
    )


def draw_card(card: Card) -> None:
    draw_picture(card.first)
    if len(card.beside) == 1:
        draw_picture(card.beside[0])
    elif card.beside:
        for column, picture in zip(st.columns(len(card.beside), gap="large"), card.beside, strict=True):
            with column:
                draw_picture(picture)
    for told in card.notes:
        st.caption(plain(told))


def draw_take(page: StudyPage[ClaimsPicks], record: Mapping[str, Any]) -> None:
    """Any of the methods' edits, at the strength of the cost of all, as the edit plan; not what is no such edit."""
    edits = reading(partial(list_edits, record, page.study)) or {}
    if not edits:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox("An edit of these", edits, key="claims_take", format_func=plain, width=320)
        st.button(
            "Make it the edit plan",
            key="take_claimed",
            icon=":material/input:",
            disabled=edits[chosen] == page.edit,
            on_click=partial(take_edit, edits[chosen], page.study),
        )
        st.caption(plain(f"The edit: {describe_edit(edits[chosen])}."))


def take_edit(edit: EditPlan, study: Study) -> None:
    """Make it the edit plan, within what the study has: a method's directions are fitted only now."""
    state.put("edit", fitting_edit(edit, study))


def list_edits(record: Mapping[str, Any], study: Study) -> dict[str, EditPlan]:
    """Title -> the edit of every method that has one and whose directions the study has or can fit."""
    return {
        words(row["title"]): read_edit(row["edit"], study.layers)
        for name, row in record["methods"].items()
        if row["edit"] is not None and name in study.offered
    }


def draw_picture(picture: Picture) -> None:
    if picture.note:
        st.caption(plain(picture.note))
    draw_chart(
        picture.figure, picture.key, picture.title, picture.alt, lambda: picture.table, picture.key.replace("-", "_")
    )


def draw_behind(lab: str, card: Card, found: Found, behind: str) -> None:
    """What the pictures rest on: further ones, the numbers, when and with what."""
    for label, picture in card.folded:
        draw_folded(label, f"folded_{picture.key}", ":material/show_chart:", partial(draw_picture, picture))
    draw_folded(
        "The numbers, and what they were measured with",
        f"numbers_{lab}",
        ":material/table:",
        partial(draw_numbers, lab, card, found, behind),
    )


def draw_numbers(lab: str, card: Card, found: Found, behind: str) -> None:
    heads, rows = card.first.table
    told = [place for place in range(len(heads)) if any(row[place] is not None for row in rows)]
    shown = [{heads[place]: row[place] for place in told} for row in list(rows)[:ROWS_SHOWN]]
    st.dataframe(shown, hide_index=True, alt=f"All numbers of {card.first.title}")
    st.html(behind)
    draw_download("All of it as JSON", partial(write_json, found.record), f"{lab}.json", f"json_{lab}")


def draw_lab(page: StudyPage[ClaimsPicks], lab: str, measured: bool, asked: Asked | str) -> None:
    """The settings of a lab, how long it takes, the button, and how it is going; then the same as a command.

    The button of what was never measured, and a run, stand before everyone; to measure again is folded away.
    """
    begun = not isinstance(asked, str) and LAB.job(asked) is not None
    ask_all = partial(ASK[lab], page.study, f"claims.{field_of(lab)}")
    if measured and not begun:
        draw_folded(
            "Measure it again", f"again_{lab}", ":material/tune:", partial(draw_again, page, lab, asked, ask_all)
        )
    else:
        with st.expander("How it is measured", icon=":material/tune:"):
            ask_all()
        draw_button(page, lab, asked, again=measured)
    if not isinstance(asked, str):
        key = page.fitted.study
        spelled = [commands.fit_command(key), commands.lab_command(key, lab, asked.plan)]
        draw_commands(spelled, key=f"commands_{lab}")


def draw_again(page: StudyPage[ClaimsPicks], lab: str, asked: Asked | str, ask_all: Callable[[], None]) -> None:
    ask_all()
    draw_button(page, lab, asked, again=True)


def draw_button(page: StudyPage[ClaimsPicks], lab: str, asked: Asked | str, again: bool) -> None:
    try:
        if isinstance(asked, str):
            raise InputError(asked)
        seconds, missing = estimate(page.study, asked.plan), find_missing()
        if missing and lab == "dpo-link" and asked.plan.trained_steps:
            raise InputError(f"{missing} With 0 steps of DPO nothing is trained.")
    except InputError as error:
        notes.draw_error(str(error))
        return
    if missing and lab != "centring":
        st.caption(plain(f"DPO is left out: {missing}"))
    job = LAB.job(asked)
    stopped = job is not None and job.snapshot.state == "stopped" and job.key == asked
    draw_task(
        LAB,
        asked,
        f"run_{lab}",
        "Go on with the run" if stopped else "Run",
        tell_time(seconds),
        "The run was stopped; what was trained and measured is kept, and a new run goes on from there.",
        again=again,
        draw=partial(draw_progress, seconds),
        stop_label="Stop",
        help="What was measured or trained before with the same settings is kept, and only what is missing computed.",
    )


show(draw, HEAD, HELP)
