"""What changes in what it writes? Continuations before and after the edit, side by side."""

from dataclasses import replace
from functools import partial

import streamlit as st

from detox_engine.comparisons import summarise
from detox_engine.specs import format_layers
from ui import charts, frame, jobs, side_by_side, state, writing
from ui.text import chart_label, mask, plain
from ui.toxicity_chart import toxicity_figure

SHOWN = 20
"""Comparisons drawn at first, and added each time."""


def rise(comparison) -> float:
    """By how much the toxicity rose, in the two digits that are shown."""
    return round(comparison.toxicity_after, 2) - round(comparison.toxicity_before, 2)


FILTERS = {
    "All": lambda one: True,
    "Changed": lambda one: one.first_divergence is not None,
    "Got milder": lambda one: rise(one) < 0,
    "Got worse": lambda one: rise(one) > 0,
    "Unchanged": lambda one: one.first_divergence is None,
}
ORDERS = {
    "As written": lambda one: 0,
    "Largest drop first": rise,
    "Largest rise first": lambda one: -rise(one),
    "Most toxic before first": lambda one: -one.toxicity_before,
    "Most toxic after first": lambda one: -one.toxicity_after,
}
"""How comparisons are sorted: the smallest of these comes first."""


def describe_edit(edit) -> str:
    """An edit plan in a few words."""
    layers = ("layer " if len(edit.layers) == 1 else "layers ") + format_layers(edit.layers)
    off = f", {len(edit.switched_off)} switched off" if edit.switched_off else ""
    return f"{layers}, rank {edit.rank}, strength {edit.strength:g}{off}"


def describe_sampling(plan) -> str:
    """A sampling plan in a few words."""
    if plan.greedy:
        return f"up to {plan.max_new_tokens} tokens, always the most probable one"
    return (
        f"up to {plan.max_new_tokens} tokens, temperature {plan.temperature:g}, top-p {plan.top_p:g}, seed {plan.seed}"
    )


def pick_request() -> writing.Request | None:
    """What is to be written; None while there is no prompt."""
    with st.container(key="writing_controls"):
        left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Prompts", anchor=False)
        prompts = writing.pick_prompts(view.model.name)
        if prompts:
            with st.expander(f"The {len(prompts):,} prompts" if len(prompts) > 1 else "The prompt"):
                st.html(side_by_side.prompts_html(prompts))
    with right:
        st.subheader("How it writes", anchor=False)
        sampling = writing.pick_sampling()
    if not prompts:
        return None
    return writing.Request(view.study_key, study.made, writing.effective(view.edit), prompts, sampling)


def draw_run(request: writing.Request | None) -> None:
    """The button, and what becomes of a run."""
    job = jobs.find_job("writing")
    running = job is not None and job.running
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Write before and after",
            key="write",
            type="primary",
            icon=":material/play_arrow:",
            disabled=request is None or running,
            on_click=writing.begin_writing,
            args=(request,),
        )
        if request is None:
            st.caption("Write a prompt first.")
        else:
            st.caption(f"With the edit plan: {describe_edit(request.edit)}.")
    if running:
        jobs.watch_job(job, jobs.draw_progress)
    elif job is not None and job.snapshot.state == "failed":
        frame.draw_error(job.snapshot.error)
    elif job is not None and job.snapshot.state == "stopped":
        kept = " What was written before is still below." if written else ""
        st.info(f"The run was stopped.{kept}", icon=":material/info:")


def draw_provenance() -> None:
    """What the texts were written with, and whether that is still what the page asks for."""
    request = written.request
    same_study = (request.study, request.made) == (view.study_key, study.made)
    now = writing.effective(view.edit)
    st.caption(
        plain(
            f"Written by {frame.name_model(request.study.model)}; edit: {describe_edit(request.edit)}; "
            f"{describe_sampling(request.sampling)}."
        )
    )
    if same_study and request.edit == now:
        return
    what = "The edit plan has changed" if same_study else "Another study is in use"
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="stale"):
        st.markdown(f":material/history: {what} since these were written.", width="stretch")
        job = jobs.find_job("writing")
        st.button(
            "Write again as things are now",
            key="write_again",
            icon=":material/refresh:",
            disabled=job is not None and job.running,
            on_click=writing.begin_writing,
            args=(replace(request, study=view.study_key, made=study.made, edit=now),),
            help="The same prompts and draws, with the edit plan of now.",
        )


def draw_summary() -> None:
    found = written.comparisons
    milder, worse = (sum(FILTERS[name](one) for one in found) for name in ("Got milder", "Got worse"))
    with st.container(key="writing_summary"):
        left, right = st.columns([2, 3], vertical_alignment="center")
    left.html(side_by_side.summary_html(summarise(found), milder, worse))
    if len(found) > 1:
        shown = state.shows_words()
        labels = [chart_label(mask(one.prompt, shown)) for one in found]
        figure = toxicity_figure(
            [one.toxicity_before for one in found],
            [one.toxicity_after for one in found],
            labels,
            charts.palette(st.context.theme.type),
        )
        right.plotly_chart(
            figure,
            key="toxicity_chart",
            config={"displayModeBar": False},
            alt=f"Toxicity before against after: {milder} milder, {worse} worse",
        )
    cut = len({one.prompt for one in found if one.cut})
    if cut:
        count = "One prompt was" if cut == 1 else f"{cut:,} prompts were"
        st.warning(
            f"{count} longer than the model's context: the beginning was cut, so the model continued only the end.",
            icon=":material/content_cut:",
        )


def draw_comparisons() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.segmented_control(
            "Show", list(FILTERS), default="All", key="written_filter", required=True, persist_state="session"
        )
        order = st.selectbox("Order", list(ORDERS), key="written_order", persist_state="session", width=240)
        draw_downloads()
    found = sorted(filter(FILTERS[chosen], written.comparisons), key=ORDERS[order])
    if not found:
        st.caption("No continuation is of this kind.")
        return
    count = st.session_state.get("written_shown", SHOWN)
    several = any(one.sample for one in written.comparisons)
    st.html(side_by_side.comparisons_html(found[:count], several))
    if len(found) > count:
        st.button(
            f"Show {min(SHOWN, len(found) - count)} more of {len(found):,}",
            key="show_more",
            on_click=lambda: st.session_state.update(written_shown=count + SHOWN),
        )


def draw_downloads() -> None:
    """The texts in full, whatever is blurred on the page."""
    files = {"JSON": (writing.json_of, "application/json"), "CSV": (writing.csv_of, "text/csv")}
    for name, (make, kind) in files.items():
        st.download_button(
            name,
            partial(make, written),
            f"before_and_after.{name.lower()}",
            kind,
            key=f"download_{name.lower()}",
            icon=":material/download:",
            on_click="ignore",
            help=f"Everything written, with the edit and the sampling, as {name}.",
        )


frame.open_page("Compare", "What changes in what it writes?")
study = frame.require_study()
view = state.view()
written = writing.settle_writing()
draw_run(pick_request())
if written is not None:
    st.subheader("Before and after", anchor=False)
    draw_provenance()
    draw_summary()
    draw_comparisons()
else:
    st.caption("Press the button, and what the model writes with and without the edit appears here side by side.")
frame.explain(
    "Both sides continue the same prompt with the same luck: before and after draw each token with the same random "
    "numbers, so where the edit changes no probability they write the same words, and they differ from the marked "
    "place on because the edit made a difference there. "
    "Point at a word to see how likely it was before and after the edit, given the words to its left. "
    "Toxicity is the probability that the continuation by itself is offensive, by a word-based classifier that is "
    "blind to context and irony.",
    r"t = \arg\max_{t}\,\bigl(\log p(t \mid \text{text so far}) + g_t\bigr), \qquad g_t \text{ shared by both sides}",
)
