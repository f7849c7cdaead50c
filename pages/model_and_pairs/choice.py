"""Which model and which pairs: the choice and its preview."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.data.bundled import find_smollm2
from detox_engine.data.files import READERS
from detox_engine.data.pairs import Preview
from detox_engine.errors import InputError
from detox_engine.plans.choice import Choice
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.option import option_of, sentence
from detox_engine.plans.sources import ModelSpec, PairSpec
from detox_engine.study.methods import methods
from pages.model_and_pairs.card import read_essentials
from pages.model_and_pairs.picks import ChoicePicks
from ui.session import state
from ui.session.folders import PATHS
from ui.session.places import allows_paths
from ui.session.shared_models import shelf
from ui.session.view import StudyKey
from ui.show import notes
from ui.widgets.option import ask, ask_all, ask_name
from ui.widgets.uploads import is_open, open_upload, pick_file
from ui.words.rude_words import mask
from ui.words.text import plain
from ui.work import jobs

if TYPE_CHECKING:
    from ui.session.view import View

CHOICE = "model_and_pairs"
"""The choice's part of the view."""
KEPT = {"persist_state": "session"}
_NONE = "(none)"


def begin(view: View) -> None:
    """Choose from what is in use; once, as the choice outlasts pages and fits."""
    if not view[CHOICE].begun:
        state.put(CHOICE, ChoicePicks.of(view))


def pick_model() -> ModelSpec | None:
    """Bundled, SmolLM2, from the Hub, or from a folder or file; None while its name or the model itself is missing."""
    kind = ask(f"{CHOICE}.model_from", "Model", "model_kind", label_visibility="collapsed")
    if kind == "hub":
        ask_name(f"{CHOICE}.model.name", "Model id", "model_hub", "openai-community/gpt2-medium")
        ask(f"{CHOICE}.model.revision", "Revision", "model_revision")
    elif kind == "folder" and not allows_paths():
        st.info(
            f"Folders of this server are switched off, as others can reach it; {PATHS}=on switches them on.",
            icon=":material/lock:",
        )
        return None
    elif kind == "folder":
        ask(f"{CHOICE}.folder", "Path of the folder or file", "model_folder", placeholder="/path/to/a/model")
    elif kind == "smollm2":
        try:
            find_smollm2()
        except InputError as error:
            st.info(plain(str(error)), icon=":material/download:")
            return None
        st.caption(
            "A language model of 135 million parameters that many people use (SmolLM2-135M-Instruct, Apache 2.0): what "
            "is found here is real, and takes a real model's time."
        )
    else:
        st.caption("A small model that learnt to answer civilly and rudely; it comes with the app.")
        introduction, figures = read_essentials()
        with st.expander("About the bundled model"):
            st.markdown(mask(introduction, state.shows_words()))
            st.markdown(figures)
    with st.expander("Device and number format"):
        ask(f"{CHOICE}.model.device", "Device", "model_device")
        ask(f"{CHOICE}.model.dtype", "Number format", "model_dtype")
        ask(f"{CHOICE}.model.device_map", "Split over devices", "model_device_map")
    return state.view()[CHOICE].chosen_model()


def pick_pairs() -> PairSpec | None:
    """Bundled, an upload, or a Hub data set; None while it is not complete."""
    kind = ask(f"{CHOICE}.pairs_from", "Pairs", "pairs_kind", label_visibility="collapsed")
    if kind == "upload":
        return _pick_upload()
    if kind == "hub":
        return _pick_hub_pairs()
    st.caption(
        "Toxic and civil continuations that suit the model: the demo pairs for the bundled one, the everyday pairs "
        "for others."
    )
    return PairSpec()


def _pick_upload() -> PairSpec | None:
    label = "JSONL, CSV, Excel or Parquet with a toxic and a civil text in each row"
    try:
        file = pick_file(f"{CHOICE}.file", "pairs", label, [ending.removeprefix(".") for ending in READERS])
        if file and not is_open(file):
            # A link alone opens nothing.
            st.button(
                "Look at the upload",
                key="open_upload",
                icon=":material/visibility:",
                on_click=open_upload,
                args=(file,),
            )
            return None
        return _map_columns(PairSpec(file), _preview_upload(PairSpec(file))) if file else None
    except InputError as error:
        notes.draw_error(str(error))
        return None


def _pick_hub_pairs() -> PairSpec | None:
    ask_name(f"{CHOICE}.fit.pairs.source", "Data set", "pairs_hub", "owner/name")
    names = {"subset": "Configuration", "split": "Split", "revision": "Revision"}
    for column, (name, label) in zip(st.columns(3), names.items(), strict=True):
        ask(f"{CHOICE}.fit.pairs.{name}", label, f"pairs_{name}", column)
    spec = state.view()[CHOICE].hub_pairs()
    if spec is None:
        return None
    job = jobs.find_job("columns")
    if job is None or job.key != spec:
        st.button(
            "Look at its columns",
            key="look_at_columns",
            icon=":material/table_eye:",
            on_click=jobs.start_job,
            args=("columns", spec, lambda progress: preview(spec)),
        )
    elif job.running:
        jobs.watch_job(job, jobs.draw_progress)
    elif job.snapshot.state == "failed":
        notes.draw_error(job.snapshot.error)
        return None
    elif job.snapshot.state == "done":
        return _map_columns(spec, job.snapshot.result)
    return spec


def _map_columns(spec: PairSpec, preview: Preview) -> PairSpec | None:
    """Show a table's first rows, and ask for its columns where their names do not tell."""
    shown = state.shows_words()
    rows = [{mask(name, shown): mask(cell, shown) for name, cell in row.items()} for row in preview.rows]
    # Each column as wide as the others: a long text in the first would push the rest out of sight.
    columns = {name: st.column_config.TextColumn(width="medium") for name in (rows[0] if rows else {})}
    st.dataframe(rows, hide_index=True, column_config=columns, alt="The first rows of the table")
    recognised = preview.layout is not None
    if recognised:
        st.caption(plain("Recognised by its columns: " + mask(", ".join(preview.layout.columns), shown) + "."))
    else:
        st.info("Which column is which? Their names do not say.", icon=":material/view_column:")
    with st.expander("Columns", expanded=not recognised):
        if recognised and not st.toggle("Map the columns by hand", key=f"map_{spec.source}", **KEPT):
            return spec
        choices = [_NONE, *preview.columns]
        words = {"format_func": lambda name: mask(name, shown), **KEPT}
        toxic = st.selectbox("Toxic text", choices, key=f"toxic_{spec.source}", **words)
        civil = st.selectbox("Civil text", choices, key=f"civil_{spec.source}", **words)
        prompt = st.selectbox("Prompt that both continue", choices, key=f"prompt_{spec.source}", **words)
    if _NONE in (toxic, civil):
        return None
    return replace(spec, toxic=toxic, civil=civil, prompt=None if prompt == _NONE else prompt)


def pick_fit_plan(pairs: PairSpec) -> FitPlan:
    """How embeddings are taken and how much is kept, and how many of `pairs` are drawn."""
    plan, titles = f"{CHOICE}.fit", option_of(FitPlan, "pooling").words
    first, second = st.columns(2)
    ask(f"{plan}.pairs.limit", "At most this many pairs", "fit_limit", first)
    ask(f"{plan}.pairs.seed", "Seed", "fit_seed", second)
    ask(f"{plan}.max_length", "Longest text in tokens", "fit_max_length", first)
    ask(f"{plan}.keep", "Directions kept", "fit_keep", second)
    first.selectbox(
        "What stands for a text",
        list(titles),
        format_func=titles.get,
        help=sentence(FitPlan, "pooling"),
        **state.bind("fit_pooling", f"{plan}.pooling", list(titles), begins="index"),
    )
    ask(f"{plan}.sinks", "Attention sinks", "fit_sinks", first)
    second.multiselect(
        "Methods",
        list(methods()),
        format_func=lambda name: methods()[name].title,
        help="\n".join(f"- **{kind.title}**: {kind.sentence}." for kind in methods().values()),
        **state.bind(
            "fit_methods",
            f"{plan}.methods",
            show=lambda choices: [choice.name for choice in choices],
            take=lambda names: tuple(map(Choice, names)),
            begins="default",
        ),
    )
    ask(f"{plan}.budget", "A suggested edit may cost", "fit_budget", second)
    ask(f"{plan}.parallel_analysis", "Parallel analysis too", "fit_parallel_analysis")
    ask(f"{plan}.suggest", "Suggest an edit", "fit_suggest")
    for choice in state.view()[f"{plan}.methods"]:
        ask_all(f"{CHOICE}.method_options.{choice.name}", f"fit_{choice.name}")
    return state.view()[CHOICE].plan(pairs)


def preview(spec: PairSpec) -> Preview:
    """The columns and first rows of a table."""
    from detox_engine.data.bundled import EVERYDAY
    from detox_engine.data.pairs import read_columns

    return read_columns(spec, EVERYDAY / "pairs.jsonl")


_preview_upload = st.cache_resource(preview, max_entries=16, show_spinner=False)
"""An upload's name holds the hash of its content, so what was read of it stays true."""


@st.cache_resource(max_entries=8, show_spinner=False)
def flaws(key: StudyKey, made: str) -> tuple[tuple[str, ...], ...]:
    """What is odd about each pair of a study, in words; mostly nothing."""
    from detox_engine.data.flaws import find_flaws

    study = shelf().find_study(key)
    cut = set(study.embeddings.cut) if study.embeddings else set()
    return tuple(
        tuple(sorted(found | {"cut off"} if index in cut else found))
        for index, found in enumerate(find_flaws(study.pairs))
    )
