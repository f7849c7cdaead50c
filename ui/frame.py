"""What is the same on every page: the style, the sidebar, a page's head, its help, and its empty state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import streamlit as st

from detox_engine.errors import InputError
from detox_engine.specs import BUNDLED, EditPlan, ModelSpec, PairSpec, format_layers, sentence
from ui import chart_view, jobs, state
from ui.links import left_out, write_link
from ui.text import escape, mask, plain
from ui.uploads import without_folder

if TYPE_CHECKING:
    from detox_engine.study import Study

ABOUT = """
**DeTox Explorer** finds the directions in a language model along which toxic text parts from civil text, shows
what they mean, and removes them.

After Uppaal, Dey, He, Zhong and Hu, *DeTox: Toxic Subspace Projection for Model Editing* (arXiv 2405.13967).
"""
ASSETS = Path(__file__).parent.parent / "assets"
ICON = str(ASSETS / "icon.png")
LOGO = str(ASSETS / "logo.svg")
STYLE = ASSETS / "style.css"
FIRST_PAGE = "pages/find/model_and_pairs.py"
_BLUR = "<style>.rude { filter: blur(0.32em); user-select: none; }</style>"


def run_page(page: st.Page) -> None:
    """Draw the frame and the page in it; what cannot be used is said in one sentence."""
    state.settle()
    draw_frame()
    try:
        page.run()
    except InputError as error:
        draw_error(str(error))


def draw_frame() -> None:
    """The style and the sidebar."""
    st.logo(LOGO, size="large")
    st.html(STYLE)
    chart_view.listen_for_saves()
    if not state.shows_words():
        st.html(_BLUR)
    with st.sidebar:
        _draw_sources()
        _draw_edit_plan()
        _draw_switches()
        _draw_running_fit()
    state.write_address()
    if error := st.session_state.pop("link_error", None):
        draw_error(error)


def open_page(title: str, question: str) -> None:
    """A page's head: its title and the one question it answers."""
    st.title(title, anchor=False)
    st.html(f'<p class="question">{escape(question)}</p>')


def explain(words: str, formula: str, picture: str = "", alt: str = "") -> None:
    """The expander “How to read this”: a picture from the assets where there is one, three sentences, the formula."""
    with st.expander("How to read this", icon=":material/help:"):
        if picture:
            st.image(ASSETS / picture, width=820, alt=alt)
        st.markdown(words)
        st.latex(formula)


def draw_error(sentence: str) -> None:
    """One sentence on what went wrong and what to do; its quotations are shown as they are."""
    st.error(plain(mask(without_folder(sentence), state.shows_words())), icon=":material/error:")


def note_long_text(path: str) -> None:
    """Under a text field: say so where its text, the view's part `path`, is too long for a link."""
    if path in left_out(state.view()):
        st.caption("This text is too long for a link: a shared view leaves it out.")


def require_study() -> Study:
    """This view's study; where there is none, say what to do next, offer it, and end the page here."""
    study = state.current_study()
    if study is None:
        _draw_empty_state()
        st.stop()
    return study


def _draw_empty_state() -> None:
    job = jobs.find_job("fit")
    with st.container(border=True):
        if job is not None and job.running:
            st.subheader("The study is being fitted", anchor=False)
            st.write("This page opens by itself when it is ready.")
            jobs.watch_job(job, jobs.draw_progress)
        else:
            _offer_fit(job)


def _offer_fit(job: jobs.Job | None) -> None:
    view = state.view()
    st.subheader("There is no study to show yet", anchor=False)
    if job is not None and job.snapshot.state == "failed":
        draw_error(job.snapshot.error)
    st.write(plain(f"Fit {name_model(view.model)} on {name_pairs(view.fit.pairs)}, or choose others."))
    with st.container(horizontal=True):
        st.button(
            "Fit it now",
            type="primary",
            icon=":material/play_arrow:",
            key="fit_now",
            on_click=state.begin_fit,
            args=(view.study_key,),
        )
        if st.button("Choose a model and pairs", icon=":material/dataset:", key="choose_model"):
            st.switch_page(FIRST_PAGE)


def name_model(spec: ModelSpec) -> str:
    """A model in a few words for people."""
    if spec.name == BUNDLED:
        return "the bundled model"
    return Path(spec.name).name if Path(spec.name).expanduser().is_dir() else spec.name


def name_pairs(spec: PairSpec) -> str:
    """A set of pairs in a few words for people."""
    if spec.source == BUNDLED:
        return "the bundled pairs"
    return Path(spec.source).name if Path(spec.source).expanduser().is_file() else spec.source


def _draw_sources() -> None:
    view = state.view()
    st.html(
        '<dl class="sources">'
        f"<dt>Model</dt><dd>{escape(name_model(view.model).removeprefix('the '))}</dd>"
        f"<dt>Pairs</dt><dd>{escape(name_pairs(view.fit.pairs).removeprefix('the '))}</dd>"
        "</dl>"
    )


def _draw_edit_plan() -> None:
    st.html('<h2 class="plan">Edit plan</h2>')
    study, edit = state.current_study(), state.view().edit
    if study is None or edit is None:
        st.caption("Layers, rank and strength appear here once a study is fitted.")
        return
    _pick_layers(study, edit)
    _pick_rank(study, edit)
    _pick_strength(edit)
    if edit.switched_off:
        count = len(edit.switched_off)
        st.caption(f"{count} direction{'s are' if count > 1 else ' is'} switched off.")
    suggested = EditPlan(study.suggested_layers, study.suggested_rank)
    if edit != suggested:
        st.button(
            "Back to the suggestion",
            key="edit_reset",
            type="tertiary",
            icon=":material/restart_alt:",
            on_click=state.change_view,
            kwargs={"edit": suggested},
        )


def _pick_layers(study: Study, edit: EditPlan) -> None:
    if study.layers == 1:
        st.caption("The model has one layer, layer 0.")
        return
    key = f"edit_layers_{study.layers}"
    state.mirror(key, (edit.layers[0], edit.layers[-1]))

    def take() -> None:
        first, last = st.session_state[key]
        state.change_edit(layers=tuple(range(first, last + 1)))

    st.slider("Layers", 0, study.layers - 1, key=key, on_change=take, help=sentence(EditPlan, "layers"))
    if edit.layers[-1] - edit.layers[0] + 1 != len(edit.layers):
        st.caption(f"Only layers {format_layers(edit.layers)} of these.")


def _pick_rank(study: Study, edit: EditPlan) -> None:
    if study.kept == 1:
        st.caption("One direction was kept in each layer, so the rank is 1.")
        return
    key = f"edit_rank_{study.kept}"
    state.mirror(key, edit.rank)
    st.slider(
        "Rank",
        1,
        study.kept,
        key=key,
        on_change=lambda: state.change_edit(rank=st.session_state[key]),
        help=sentence(EditPlan, "rank"),
    )


def _pick_strength(edit: EditPlan) -> None:
    low, high = min(0.0, edit.strength), max(2.0, edit.strength)
    key = f"edit_strength_{low:g}_{high:g}"
    state.mirror(key, edit.strength)
    st.slider(
        "Strength",
        low,
        high,
        step=0.05,
        key=key,
        on_change=lambda: state.change_edit(strength=st.session_state[key]),
        help=sentence(EditPlan, "strength"),
    )


def _draw_switches() -> None:
    st.html('<hr class="thin">')
    st.toggle(
        "Show toxic words",
        key="show_words",
        persist_state="session",
        help="Toxic words are blurred until you ask for them; charts and tables show only their first letter.",
    )
    with st.popover("Share this view", icon=":material/link:", width="stretch"):
        st.write("This link opens the same model, pairs and edit plan on this page.")
        address = (st.context.url or "").split("?")[0]
        query = urlencode(write_link(state.view()))
        st.code(f"{address}?{query}" if query else address, language=None, wrap_lines=True)


def _draw_running_fit() -> None:
    job = jobs.find_job("fit")
    if job is not None and job.running:
        st.html('<hr class="thin">')
        st.caption(plain(f"Fitting {name_model(job.key.model)} on {name_pairs(job.key.fit.pairs)}"))
        _watch_quietly(job)


@st.fragment(run_every=2 * jobs.POLL_SECONDS)
def _watch_quietly(job: jobs.Job) -> None:
    if not job.running:
        st.rerun()
    jobs.draw_progress(job.snapshot)
