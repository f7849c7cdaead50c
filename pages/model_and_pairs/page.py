"""What are we looking at? The model, the pairs, and the fit that joins them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.plans import commands
from detox_engine.plans.sources import name_model, name_pairs
from pages.model_and_pairs import choice
from pages.model_and_pairs.strip import steps_of_job, steps_of_study, strip_html
from pages.model_and_pairs.studies import draw_studies
from ui.frame.command import draw_commands
from ui.frame.page import Head, Help, Page, draw_help, show
from ui.session import kept_study, state
from ui.session.view import StudyKey, View
from ui.show import notes
from ui.show.pair_list import filter_pairs, pairs_html
from ui.words.rude_words import mask
from ui.words.text import plain
from ui.words.verdicts import tell_evidence
from ui.work import fit, jobs

if TYPE_CHECKING:
    from detox_engine.study.study import Study

HEAD = Head("Model & pairs", "What are we looking at?")
HELP = Help(
    "Every pair is a toxic text and its civil twin, and the model reads both. "
    "The mean of the model's states over a text's tokens stands for the text at each layer, so every pair gives one "
    "difference vector at each layer. "
    "What these differences share, once the direction of everyday words is taken out, is the toxic subspace.",
    r"T = E^{+} - E^{-}, \qquad T \leftarrow T - (T\mu)\,\mu^{\top}, \qquad T = U S V",
    picture="method.svg",
    alt="Pairs of texts, their differences, the direction they share, and states projected off it",
)
SHOWN_PAIRS = 12


def draw(page: Page) -> None:
    study = state.current_study()
    draw_strip(page.view, study)
    draw_help(HELP)
    draw_choice(page.view, study)
    draw_studies(page, study)
    if study is not None:
        draw_pairs(page, study)


def draw_strip(view: View, study: Study | None) -> None:
    """The main picture: a fit that runs, or what the last one came to, or the study that is there."""
    job = jobs.find_job("fit")
    if job is not None:
        names = job.key.names
        if job.running:
            jobs.watch_job(job, lambda snapshot: st.html(strip_html(steps_of_job(snapshot, *names))), "Stop the fit")
            return
        st.html(strip_html(steps_of_job(job.snapshot, *names)))
        if job.snapshot.state == "failed":
            notes.draw_error(job.snapshot.error)
        draw_way_back(stopped=job.snapshot.state == "stopped", has_study=study is not None)
    elif study is not None:
        steps = steps_of_study(study, *view.study_key.names, st.session_state.get("fit_stages", ()))
        st.html(strip_html(steps))
        draw_suggestion(study)
    else:
        st.info(
            plain(
                f"Nothing is fitted yet for {name_model(view.model)} on {name_pairs(view.fit.pairs, view.model.name)}. "
                "Choose below and press Fit."
            ),
            icon=":material/info:",
        )


def draw_suggestion(study: Study) -> None:
    """What is suggested and on what evidence, or why nothing is; and the check while it runs."""
    st.caption(plain(tell_evidence(study)))
    fit.draw_check(study, state.view().study_key, "Check it by a short generation", "begin_check", type="tertiary")


def draw_way_back(stopped: bool, has_study: bool) -> None:
    """What is in use after a fit that came to nothing."""
    with st.container(horizontal=True, vertical_alignment="center"):
        begin = "The fit was stopped. " if stopped else ""
        st.caption(begin + ("The study from before is still in use." if has_study else "Choose below and fit again."))
        if has_study:
            st.button("Show it", key="show_study", type="tertiary", on_click=jobs.forget_job, args=("fit",))


def draw_choice(view: View, study: Study | None) -> None:
    """Pick a model, pairs and options, and fit."""
    choice.begin(view)
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Model", anchor=False)
        model = choice.pick_model()
    with right:
        st.subheader("Pairs", anchor=False)
        pairs = choice.pick_pairs()
    with st.expander("Options of the fit", icon=":material/tune:"):
        plan = choice.pick_fit_plan(pairs) if pairs else None
        if plan is None:
            st.caption("They appear once the pairs are chosen.")
    ready = model is not None and plan is not None
    key = StudyKey(model, plan) if ready else None
    job = jobs.find_job("fit")
    fitted = study is not None and key == view.study_key
    kept = ready and study is not None and not fitted and kept_study.has_study(key)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Fit again" if fitted else "Fit",
            key="fit",
            type="secondary" if fitted else "primary",
            icon=":material/play_arrow:",
            disabled=not ready or (job is not None and job.running),
            on_click=fit.fit_or_open,
            args=(key,),
        )
        if not ready:
            st.caption("Name the model and complete the pairs first.")
        elif key.fit.pairs.limit is not None and not fitted:
            st.caption(f"At most {key.fit.pairs.limit:,} pairs are drawn: that limit is set under Options of the fit.")
        elif fitted:
            st.caption("This is the study in use on every page.")
        elif kept:
            st.caption("It is kept on this machine, so this only opens it.")
    if ready:
        draw_commands(
            [commands.fit_command(key)],
            "It fits what is chosen above; the other pages' commands read the study that it writes.",
        )


def draw_pairs(page: Page, study: Study) -> None:
    """The study's pairs, what was noticed and found out about them, and a filter."""
    st.subheader("The pairs in use", anchor=False)
    for warning in study.warnings:
        st.warning(plain(mask(warning, page.shows_words)), icon=":material/warning:")
    for finding in study.findings:
        tell, icon = (st.info, "info") if finding.kind == "sinks" else (st.warning, "warning")
        tell(plain(finding.sentence), icon=f":material/{icon}:")
    flaws = choice.flaws(page.view.study_key, study.made)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        words = st.text_input("Filter", key="pairs_filter", placeholder="Words in any of the texts", **choice.KEPT)
        only_flawed = any(flaws) and st.toggle("Only those with something odd", key="pairs_flawed", **choice.KEPT)
    chosen = filter_pairs(study.pairs, flaws, words, only_flawed)
    if not chosen:
        st.caption("No pair holds all of these words.")
        return
    pages = -(-len(chosen) // SHOWN_PAIRS)
    number = st.session_state.get("pairs_page", 1) if pages > 1 else 1
    start = SHOWN_PAIRS * (min(number, pages) - 1)
    st.html(pairs_html([(study.pairs[index], flaws[index]) for index in chosen[start : start + SHOWN_PAIRS]]))
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        last = min(start + SHOWN_PAIRS, len(chosen))
        of_all = f" (filtered from {len(study.pairs):,})" if len(chosen) < len(study.pairs) else ""
        sampled = f", a random sample of {study.pair_count:,}" if len(study.pairs) < study.pair_count else ""
        st.caption(f"Pairs {start + 1:,}–{last:,} of {len(chosen):,}{of_all}{sampled}.")
        if pages > 1:
            st.pagination(pages, key="pairs_page")


show(draw, HEAD, needs_study=False)
