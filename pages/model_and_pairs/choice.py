"""Which model and which pairs: the choice and its preview."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import streamlit as st

from detox_engine.data.files import READERS
from detox_engine.data.pairs import Preview
from detox_engine.errors import InputError
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.option import sentence
from detox_engine.plans.sources import BUNDLED, ModelSpec, PairSpec
from detox_engine.study.methods import methods
from pages.model_and_pairs.card import read_essentials
from ui.session import state
from ui.session.shared_models import shelf
from ui.session.view import StudyKey
from ui.show import notes
from ui.widgets.uploads import store_upload
from ui.words.rude_words import mask
from ui.words.text import plain
from ui.work import jobs

_KEPT = {"persist_state": "session"}
_NONE = "(none)"


def _start_with(**values: object) -> None:
    """Values that widgets have before anyone touches them."""
    for key, value in values.items():
        st.session_state.setdefault(key, value)


def pick_model() -> ModelSpec | None:
    """Bundled, from the Hub, or from a folder; None while its name is missing."""
    shown = state.view().model
    is_folder = Path(shown.name).expanduser().is_dir()
    kind = "Bundled" if shown.name == BUNDLED else "Folder" if is_folder else "Hugging Face Hub"
    _start_with(
        model_kind=kind,
        model_hub="" if is_folder or shown.name == BUNDLED else shown.name,
        model_folder=shown.name if is_folder else "",
        model_revision=shown.revision or "",
        model_device=shown.device,
        model_dtype=shown.dtype,
    )
    kinds = ["Bundled", "Hugging Face Hub", "Folder"]
    st.segmented_control(
        "Model", kinds, key="model_kind", required=True, label_visibility="collapsed", wrap=True, **_KEPT
    )
    name, revision = BUNDLED, None
    if st.session_state.model_kind == "Hugging Face Hub":
        name = st.text_input("Model id", key="model_hub", placeholder="openai-community/gpt2-medium", **_KEPT).strip()
        revision = st.text_input("Revision", key="model_revision", help=sentence(ModelSpec, "revision"), **_KEPT)
    elif st.session_state.model_kind == "Folder":
        name = st.text_input("Folder", key="model_folder", placeholder="/path/to/a/model", **_KEPT).strip()
    else:
        st.caption("A small model that learnt to answer civilly and rudely; it comes with the app.")
        introduction, figures = read_essentials()
        with st.expander("About the bundled model"):
            st.markdown(mask(introduction, state.shows_words()))
            st.markdown(figures)
    with st.expander("Device and number format"):
        devices, dtypes = ["auto", "cpu", "cuda", "mps"], ["auto", "float32", "bfloat16", "float16"]
        device = st.selectbox(
            "Device",
            devices if st.session_state.model_device in devices else [*devices, st.session_state.model_device],
            key="model_device",
            help=sentence(ModelSpec, "device"),
            **_KEPT,
        )
        dtype = st.selectbox(
            "Number format",
            dtypes if st.session_state.model_dtype in dtypes else [*dtypes, st.session_state.model_dtype],
            key="model_dtype",
            help=sentence(ModelSpec, "dtype"),
            **_KEPT,
        )
    return ModelSpec(name, (revision or "").strip() or None, device, dtype) if name else None


def pick_pairs() -> PairSpec | None:
    """Bundled, an upload, or a Hub data set; None while it is not complete."""
    shown = state.view().fit.pairs
    is_file = Path(shown.source).expanduser().is_file()
    _start_with(
        pairs_kind="Bundled" if shown.source == BUNDLED else "Upload" if is_file else "Hub data set",
        pairs_file=shown.source if is_file else None,
        pairs_hub="" if is_file or shown.source == BUNDLED else shown.source,
        pairs_subset=shown.subset or "",
        pairs_split=shown.split,
        pairs_revision=shown.revision or "",
    )
    kinds = ["Bundled", "Upload", "Hub data set"]
    st.segmented_control(
        "Pairs", kinds, key="pairs_kind", required=True, label_visibility="collapsed", wrap=True, **_KEPT
    )
    if st.session_state.pairs_kind == "Upload":
        return _pick_upload()
    if st.session_state.pairs_kind == "Hub data set":
        return _pick_hub_pairs()
    st.caption("Toxic and civil continuations that suit the model: its own for the bundled one, everyday ones else.")
    return PairSpec()


def _pick_upload() -> PairSpec | None:
    upload = st.file_uploader(
        "JSONL, CSV or Parquet with a toxic and a civil text in each row",
        type=[ending.removeprefix(".") for ending in READERS],
        key="pairs_upload",
    )
    try:
        if upload is not None:
            st.session_state.pairs_file = str(store_upload(upload.name, upload.getvalue()))
        if st.session_state.pairs_file is None:
            return None
        spec = PairSpec(st.session_state.pairs_file)
        if upload is None:
            st.caption(plain(f"In use: {Path(spec.source).name}"))
        return _map_columns(spec, _preview_upload(spec))
    except InputError as error:
        notes.draw_error(str(error))
        return None


def _pick_hub_pairs() -> PairSpec | None:
    source = st.text_input("Data set", key="pairs_hub", placeholder="owner/name", **_KEPT).strip()
    columns = st.columns(3)
    subset = columns[0].text_input("Configuration", key="pairs_subset", help=sentence(PairSpec, "subset"), **_KEPT)
    split = columns[1].text_input("Split", key="pairs_split", help=sentence(PairSpec, "split"), **_KEPT)
    revision = columns[2].text_input("Revision", key="pairs_revision", help=sentence(PairSpec, "revision"), **_KEPT)
    if not source:
        return None
    spec = PairSpec(
        source, subset=subset.strip() or None, split=split.strip() or "train", revision=revision.strip() or None
    )
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
    st.dataframe(rows, hide_index=True, alt="The first rows of the table")
    recognised = preview.layout is not None
    if recognised:
        st.caption(plain("Recognised by its columns: " + mask(", ".join(preview.layout.columns), shown) + "."))
    else:
        st.info("Which column is which? Their names do not say.", icon=":material/view_column:")
    with st.expander("Columns", expanded=not recognised):
        if recognised and not st.toggle("Map the columns by hand", key=f"map_{spec.source}"):
            return spec
        choices = [_NONE, *preview.columns]
        words = {"format_func": lambda name: mask(name, shown)}
        toxic = st.selectbox("Toxic text", choices, key=f"toxic_{spec.source}", **words)
        civil = st.selectbox("Civil text", choices, key=f"civil_{spec.source}", **words)
        prompt = st.selectbox("Prompt that both continue", choices, key=f"prompt_{spec.source}", **words)
    if _NONE in (toxic, civil):
        return None
    return replace(spec, toxic=toxic, civil=civil, prompt=None if prompt == _NONE else prompt)


def pick_fit_plan(pairs: PairSpec) -> FitPlan:
    """How embeddings are taken and how much is kept, and how many of `pairs` are drawn.

    Raises:
        InputError: a number is outside its range.
    """
    shown = state.view().fit
    _start_with(
        fit_limit=shown.pairs.limit,
        fit_seed=shown.pairs.seed,
        fit_max_length=shown.max_length,
        fit_pooling=shown.pooling,
        fit_keep=shown.keep,
        # A link can name a method that is not here.
        fit_method=shown.method if shown.method in methods() else FitPlan.method,
    )
    words = {"mean": "Mean over all tokens", "continuation": "Mean over the continuation", "last": "Last token"}
    first, second = st.columns(2)
    limit = first.number_input(
        "At most this many pairs",
        2,
        None,
        step=100,
        key="fit_limit",
        placeholder="all",
        help=sentence(PairSpec, "limit"),
        **_KEPT,
    )
    seed = second.number_input("Seed", 0, None, step=1, key="fit_seed", help=sentence(PairSpec, "seed"), **_KEPT)
    length = first.number_input(
        "Longest text in tokens", 1, None, step=16, key="fit_max_length", help=sentence(FitPlan, "max_length"), **_KEPT
    )
    keep = second.number_input(
        "Directions kept", 1, None, step=1, key="fit_keep", help=sentence(FitPlan, "keep"), **_KEPT
    )
    pooling = first.selectbox(
        "What stands for a text",
        list(words),
        format_func=words.get,
        key="fit_pooling",
        help=sentence(FitPlan, "pooling"),
        **_KEPT,
    )
    method = second.selectbox(
        "Method",
        list(methods()),
        format_func=lambda name: methods()[name].title,
        key="fit_method",
        help="\n".join(f"- **{kind.title}**: {kind.sentence}." for kind in methods().values()),
        **_KEPT,
    )
    return FitPlan(replace(pairs, limit=limit, seed=seed), length, pooling, keep, method=method)


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
    from detox_engine.data.pairs import find_flaws

    study = shelf().find_study(key)
    cut = set(study.embeddings.cut) if study.embeddings else set()
    return tuple(
        tuple(sorted(found | {"cut off"} if index in cut else found))
        for index, found in enumerate(find_flaws(study.pairs))
    )
