"""Widgets that ask what an edit is measured with: scorers, prompts, neutral text, how it writes, how sure."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import streamlit as st

from detox_engine.data.files import READERS
from detox_engine.plans.measure import CLASSIFIERS, TASKS, EvaluationPlan
from detox_engine.plans.option import sentence
from detox_engine.plans.sources import BUNDLED, TextSpec
from detox_engine.scoring.scorers import choose, scorers
from ui.widgets.sampling import pick_sampling
from ui.widgets.uploads import store_upload
from ui.words.text import plain

Source = Literal["Bundled", "Own file", "Hub data set"]

_KEPT = {"persist_state": "session"}


def _start_with(prefix: str, **values: object) -> None:
    for name, value in values.items():
        st.session_state.setdefault(f"{prefix}_{name}", value)


def pick_evaluation_plan(path: str, prefix: str, start: EvaluationPlan) -> EvaluationPlan | None:
    """What to measure with; None while a file or a name is missing. `start` is what the widgets show at first.

    Args:
        path: of how continuations are written, in the view.
        prefix: of the widgets' keys, so that each page keeps its own.

    Raises:
        InputError: the choices do not go together.
    """
    chosen = pick_scorers(prefix, start)
    settings = {}
    if "classifier" in chosen:
        settings |= pick_classifier(prefix)
    if "capability" in chosen:
        settings |= pick_tasks(prefix)
    left, right = st.columns(2, gap="large")
    with left:
        prompts, limit = pick_prompts(prefix, start)
    with right:
        neutral = pick_neutral(prefix, start)
    with st.expander("How it writes, and how sure the numbers are", icon=":material/tune:"):
        sampling = pick_sampling(path, prefix)
        settings |= pick_certainty(prefix, start)
    if prompts is None or neutral is None:
        return None
    plan = EvaluationPlan(
        scorers=chosen, prompts=prompts, limit_prompts=limit, neutral=neutral, sampling=sampling, **settings
    )
    choose(plan)
    return plan


def pick_scorers(prefix: str, start: EvaluationPlan) -> tuple[str, ...]:
    _start_with(prefix, scorers=list(start.scorers))
    chosen = st.pills(
        "Measure",
        list(scorers()),
        selection_mode="multi",
        format_func=lambda name: scorers()[name].title,
        key=f"{prefix}_scorers",
        help="\n".join(f"- **{kind.title}**: {kind.sentence}." for kind in scorers().values()),
        **_KEPT,
    )
    # In the engine's order, so that the order of the clicks changes nothing.
    return tuple(name for name in scorers() if name in chosen)


def pick_classifier(prefix: str) -> dict[str, str | None]:
    _start_with(prefix, classifier=CLASSIFIERS[0], label="")
    name, label = st.columns([2, 1], gap="large")
    source = name.selectbox(
        "Classifier",
        CLASSIFIERS,
        accept_new_options=True,
        key=f"{prefix}_classifier",
        help=sentence(EvaluationPlan, "classifier"),
        **_KEPT,
    )
    wanted = label.text_input(
        "Its label for toxic text",
        placeholder="found by itself",
        key=f"{prefix}_label",
        help=sentence(EvaluationPlan, "classifier_label"),
        **_KEPT,
    )
    return {"classifier": (source or CLASSIFIERS[0]).strip(), "classifier_label": wanted.strip() or None}


def pick_tasks(prefix: str) -> dict[str, object]:
    _start_with(prefix, tasks=list(TASKS), limit_tasks=None)
    name, limit = st.columns([2, 1], gap="large")
    tasks = name.multiselect(
        "Tasks",
        TASKS,
        accept_new_options=True,
        key=f"{prefix}_tasks",
        help=sentence(EvaluationPlan, "tasks"),
        **_KEPT,
    )
    most = limit.number_input(
        "At most this many questions of each",
        1,
        None,
        step=50,
        placeholder="all",
        key=f"{prefix}_limit_tasks",
        help=sentence(EvaluationPlan, "limit_tasks"),
        **_KEPT,
    )
    return {"tasks": tuple(tasks), "limit_tasks": most}


def _pick_source(prefix: str, what: str, label: str) -> Source:
    kinds: list[Source] = ["Bundled", "Own file", "Hub data set"]
    _start_with(prefix, **{f"{what}_kind": "Bundled"})
    return st.segmented_control(label, kinds, key=f"{prefix}_{what}_kind", required=True, **_KEPT)


def _pick_file(prefix: str, what: str, label: str, types: list[str]) -> str | None:
    """An upload, kept over page changes by the place of its copy."""
    held = f"{prefix}_{what}_file"
    upload = st.file_uploader(label, type=types, key=f"{prefix}_{what}_upload")
    if upload is not None:
        st.session_state[held] = str(store_upload(upload.name, upload.getvalue()))
    elif held in st.session_state:
        st.caption(plain(f"In use: {Path(st.session_state[held]).name}"))
    return st.session_state.get(held)


def pick_prompts(prefix: str, start: EvaluationPlan) -> tuple[str | None, int | None]:
    """Where the prompts come from, None while that is missing, and how many of them."""
    _start_with(prefix, limit=start.limit_prompts, prompts_hub="")
    kind = _pick_source(prefix, "prompts", "Prompts")
    source: str | None = BUNDLED
    if kind == "Own file":
        source = _pick_file(prefix, "prompts", "A text file with a prompt a line, or JSONL", ["txt", "jsonl", "ndjson"])
    elif kind == "Hub data set":
        name = st.text_input(
            "Data set of prompts", key=f"{prefix}_prompts_hub", placeholder="allenai/real-toxicity-prompts", **_KEPT
        )
        source = name.strip() or None
    limit = st.number_input(
        "At most this many prompts",
        1,
        None,
        step=50,
        placeholder="all",
        key=f"{prefix}_limit",
        help=sentence(EvaluationPlan, "limit_prompts"),
        **_KEPT,
    )
    return source, limit


def pick_neutral(prefix: str, start: EvaluationPlan) -> TextSpec | None:
    """Which neutral text, and how much of it; None while its source is missing."""
    _start_with(
        prefix,
        neutral_limit=start.neutral.limit,
        neutral_hub="",
        neutral_subset="",
        neutral_split=start.neutral.split,
        neutral_column=start.neutral.column,
    )
    kind = _pick_source(prefix, "neutral", "Neutral text")
    settings = {}
    source: str | None = BUNDLED
    if kind == "Own file":
        types = ["txt", *(ending.removeprefix(".") for ending in READERS)]
        source = _pick_file(prefix, "neutral", "A text file with a text a line, or a table", types)
        if source is not None and not source.endswith(".txt"):
            settings["column"] = _pick_text(prefix, "neutral_column", "Column", "column")
    elif kind == "Hub data set":
        name = st.text_input("Data set", key=f"{prefix}_neutral_hub", placeholder="Salesforce/wikitext", **_KEPT)
        source = name.strip() or None
        first, second, third = st.columns(3)
        with first:
            settings["subset"] = _pick_text(prefix, "neutral_subset", "Configuration", "subset") or None
        with second:
            settings["split"] = _pick_text(prefix, "neutral_split", "Split", "split") or TextSpec.split
        with third:
            settings["column"] = _pick_text(prefix, "neutral_column", "Column", "column") or TextSpec.column
    limit = st.number_input(
        "At most this many lines",
        1,
        None,
        step=50,
        placeholder="all",
        key=f"{prefix}_neutral_limit",
        help=sentence(TextSpec, "limit"),
        **_KEPT,
    )
    return TextSpec(source, limit=limit, **settings) if source else None


def _pick_text(prefix: str, name: str, label: str, option: str) -> str:
    return st.text_input(label, key=f"{prefix}_{name}", help=sentence(TextSpec, option), **_KEPT).strip()


def pick_certainty(prefix: str, start: EvaluationPlan) -> dict[str, int]:
    """The random control and the intervals."""
    _start_with(prefix, controls=start.controls, seed=start.seed, resamples=start.resamples)
    entries = {
        "controls": ("Random subspaces drawn", 1, 20, 1),
        "seed": ("Seed of control and intervals", 0, None, 1),
        "resamples": ("Resamples behind the intervals", 100, 20_000, 500),
    }
    found = {}
    for column, (name, (label, low, high, step)) in zip(st.columns(3), entries.items(), strict=True):
        found[name] = column.number_input(
            label, low, high, step=step, key=f"{prefix}_{name}", help=sentence(EvaluationPlan, name), **_KEPT
        )
    return found
