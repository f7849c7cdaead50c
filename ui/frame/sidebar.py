"""The sidebar, the same on every page: what is in use, the edit plan, the switch for words, the link to share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.data.bundled import ASSETS
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.layers import format_layers, parse_layers
from detox_engine.plans.option import sentence
from detox_engine.plans.sources import is_path, name_model, name_pairs
from detox_engine.study.methods import methods, title_of
from ui.session import state
from ui.session.folders import MOST_WORDS, read_words, write_upload, write_words
from ui.session.links import leaves_files_out, left_out, list_texts, write_address
from ui.session.places import keeps_results
from ui.session.view import fitting_edit
from ui.show import notes
from ui.widgets.option import ask
from ui.words import rude_words
from ui.words.rude_words import mask
from ui.words.text import escape, plain
from ui.words.verdicts import tell_suggestion
from ui.work import jobs

if TYPE_CHECKING:
    from detox_engine.study.study import Study

SCRIPT = ASSETS / "link.js"


def draw_sidebar() -> None:
    _draw_running()
    _draw_sources()
    _draw_edit_plan()
    _draw_switches()
    _draw_words()
    _draw_link()
    st.html(f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>", unsafe_allow_javascript=True)


def _draw_sources() -> None:
    model, pairs = map(escape, state.view().study_key.names)
    st.html(f'<dl class="sources"><dt>Model</dt><dd>{model}</dd><dt>Pairs</dt><dd>{pairs}</dd></dl>')


def _draw_edit_plan() -> None:
    st.html('<h2 class="plan">Edit plan</h2>')
    study, edit = state.current_study(), state.view().edit
    if study is None or edit is None:
        st.caption("Layers, rank and strength appear here once a study is fitted.")
        return
    _pick_method(study)
    _pick_layers(study, edit)
    _pick_rank(study, edit)
    _pick_strength(edit)
    ask("edit.sites", "Removed from", "edit_sites")
    ask("edit.edit_bias", "Edit the bias too", "edit_bias")
    if edit.switched_off:
        count = len(edit.switched_off)
        st.caption(f"{count} direction{'s are' if count > 1 else ' is'} switched off.")
    suggests = study.suggestion is not None and study.suggestion.edit is not None
    if edit == study.suggested_edit:
        st.caption(plain(f"{tell_suggestion(study)}." if suggests else "Nothing is suggested: a starting point."))
    else:
        st.button(
            "Back to the suggestion" if suggests else "Back to the starting point",
            key="edit_reset",
            type="tertiary",
            icon=":material/restart_alt:",
            on_click=state.put,
            args=("edit", study.suggested_edit),
        )


def _pick_method(study: Study) -> None:
    """Whose directions are removed; with another method the plan stays, as far as that found as many directions."""
    offered, kinds = study.offered, methods()
    if len(offered) == 1:
        return
    bound = state.bind(
        "edit_method",
        "edit",
        offered,
        show=lambda edit: edit.method,
        take=lambda name: fitting_edit(replace(state.view().edit, method=name), study),
        begins="index",
    )
    st.selectbox(
        "Method",
        offered,
        format_func=title_of,
        help="\n".join(f"- **{kind.title}**: {kind.sentence}." for name, kind in kinds.items() if name in offered),
        **bound,
    )


def _pick_layers(study: Study, edit: EditPlan) -> None:
    if study.layers == 1:
        st.caption("The model has one layer, layer 0.")
        return
    bound = state.bind(
        f"edit_layers_{study.layers}",
        "edit.layers",
        show=lambda layers: (layers[0], layers[-1]),
        take=lambda ends: tuple(range(ends[0], ends[1] + 1)),
    )
    st.slider("Layers", 0, study.layers - 1, help=sentence(EditPlan, "layers"), **bound)
    listed = state.bind(
        f"edit_layer_list_{study.layers}",
        "edit.layers",
        show=format_layers,
        take=lambda text: parse_layers(text, study.layers),
    )
    take = listed["on_change"]
    listed["on_change"] = lambda: notes.attempt(take, "edit_layers")
    st.text_input(
        "Layers, one by one",
        help="Layers need not be neighbours: write single ones and ranges, such as 2,5-7.",
        **listed,
    )
    notes.draw_failure("edit_layers")
    writers = set(edit.layers) & set(study.sink_writers)
    if writers:
        st.caption(
            f"What attention sinks hold is written or cancelled at {format_layers(writers)} of these: an edit there "
            "can cost much."
        )


def _pick_rank(study: Study, edit: EditPlan) -> None:
    kept = study.kept_of(edit.method)
    if kept == 1:
        st.caption("There is one direction in each layer, so the rank is 1.")
        return
    bound = state.bind(f"edit_rank_{kept}", "edit.rank")
    st.slider("Rank", 1, kept, help=sentence(EditPlan, "rank"), **bound)


def _pick_strength(edit: EditPlan) -> None:
    low, high = min(0.0, edit.strength), max(2.0, edit.strength)
    bound = state.bind(f"edit_strength_{low:g}_{high:g}", "edit.strength")
    st.slider("Strength", low, high, step=0.05, help=sentence(EditPlan, "strength"), **bound)


def _draw_switches() -> None:
    st.html('<hr class="thin">')
    st.toggle(
        "Show toxic words",
        key="show_words",
        persist_state="session",
        help="Toxic words are blurred until you ask for them; charts and tables show only their first letter.",
    )


def _draw_words() -> None:
    """Words that are blurred too, as whoever sits at this machine wants; on a server for others they are nobody's."""
    if not keeps_results():
        return
    with st.popover("Words to blur", icon=":material/blur_on:", width="stretch"):
        st.text_area(
            "Blur these words too",
            read_words(),
            key="words_to_blur",
            max_chars=MOST_WORDS,
            placeholder="Words with spaces between them",
            on_change=_take_words,
        )
        st.caption("Whole words, in capital or small letters. They are kept on this machine, for every visit.")
        notes.draw_failure("words_to_blur")


def _take_words() -> None:
    text = st.session_state.words_to_blur
    notes.attempt(lambda: write_words(text), "words_to_blur")
    rude_words.add_words(text)


def _draw_link() -> None:
    """The full address of this view, to copy."""
    with st.popover("Share this view", icon=":material/link:", width="stretch"):
        st.write("This link opens this page as it is now: model, pairs, edit plan, what is picked, and your own texts.")
        link = write_address(st.context.url or "", state.view())
        # Words in a link run into its signs, so one that holds rude ones is blurred as a whole. The link's own words
        # are not asked for: what knows rude words takes seconds to load.
        kind = "rude" if any(mask(text, shown=False) != text for text in list_texts(state.view())) else "clean"
        st.html(
            f'<p class="link"><code class="{kind}">{escape(link)}</code>'
            f'<button type="button" aria-live="polite" data-copy="{escape(link)}">Copy the link</button></p>'
        )
        if left_out(state.view()):
            st.caption("A text that you wrote is too long for a link, so it is left out.")
        if leaves_files_out(state.view()):
            st.caption("Files that it is measured with are left out: whoever opens the link chooses their own.")
        if is_path(state.view().model.name):
            st.caption("The model is a folder or file of this machine, so the link opens it on this machine alone.")
        if write_upload(state.view().fit.pairs.source) is not None:
            st.caption("The pairs are an upload: whoever has the link can look at it, as long as this server keeps it.")


def _draw_running() -> None:
    """What is worked on, wherever it was begun: how far it is, and a button that stops it."""
    running = jobs.list_running()
    if running:
        with st.container(key="running"):
            _watch_quietly(running)


@st.fragment(run_every=2 * jobs.POLL_SECONDS)
def _watch_quietly(running: list[jobs.Job]) -> None:
    if not all(job.running for job in running):
        st.rerun()
    for job in running:
        if job.is_short:
            continue
        told = job.title
        if job.kind == "fit":
            told = f"Fitting {name_model(job.key.model)} on {name_pairs(job.key.fit.pairs, job.key.model.name)}"
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.caption(plain(told), width="stretch")
            st.button(
                "",
                key=f"stop_here_{job.kind}",
                icon=":material/stop_circle:",
                help="Stop this work",
                on_click=job.stop,
                disabled=job.stopping,
            )
        jobs.draw_progress(job.snapshot)
