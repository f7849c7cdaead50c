"""What a model is asked to write, and the worker that writes it before and after an edit."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.comparisons import record_comparisons, record_plans, record_results
from detox_engine.errors import InputError
from detox_engine.pairs import DEMO, EVERYDAY
from detox_engine.prompts import read_prompts
from detox_engine.specs import BUNDLED, EditPlan, SamplingPlan, sentence
from ui import cache, frame, jobs, text
from ui.cache import StudyKey

if TYPE_CHECKING:
    from detox_engine.generate import Comparison
    from detox_engine.study import ModelIdentity

OWN = "Your own"
PROMPTS_AT_FIRST = 20
_KEPT = {"persist_state": "session"}


@dataclass(frozen=True)
class Request:
    """What a comparison answers."""

    study: StudyKey
    made: str
    """Tells a study from an earlier one with the same specs."""
    edit: EditPlan
    prompts: tuple[str, ...]
    sampling: SamplingPlan


@dataclass(frozen=True)
class Written:
    """A request and what came of it."""

    request: Request
    model: ModelIdentity
    comparisons: tuple[Comparison, ...]


def effective(edit: EditPlan) -> EditPlan:
    """`edit` without switches that its layers and rank do not reach, so that plans which do the same are equal."""
    within = frozenset(
        (layer, direction) for layer, direction in edit.switched_off if layer in edit.layers and direction < edit.rank
    )
    return replace(edit, switched_off=within)


def begin_writing(request: Request) -> None:
    """Write before and after in a worker; `settle_writing` takes over what comes of it."""
    shelf = cache.shelf()

    def work(progress):
        study = shelf.fit(request.study, progress)
        workbench = shelf.workbench(request.study.model, progress)
        found = workbench.compare(study, request.edit, request.prompts, request.sampling, progress)
        sides = [side.text for comparison in found for side in (comparison.before, comparison.after)]
        text.find_rude_words([*request.prompts, *sides])
        return Written(request, study.model, found)

    jobs.start_job("writing", request, work)


def settle_writing() -> Written | None:
    """The latest finished comparison of this session; a run that was stopped or failed leaves it in place."""
    job = jobs.find_job("writing")
    if job is not None and job.snapshot.state == "done":
        st.session_state.written = job.snapshot.result
        st.session_state.pop("written_shown", None)
        jobs.forget_job("writing")
    return st.session_state.get("written")


def find_prompt_sets(model: str) -> Mapping[str, Path]:
    """The bundled prompts that suit a model, by their names for people."""
    if model == BUNDLED:
        return {"Hostile": DEMO / "hostile_prompts.txt", "Plain": DEMO / "plain_prompts.txt"}
    return {"Everyday": EVERYDAY / "challenge_prompts.txt"}


SETS_IN_WORDS = {
    "Hostile": "Openings that the bundled model often continues rudely.",
    "Plain": "Openings that the bundled model mostly continues civilly.",
    "Everyday": "Openings that invite a rude continuation without being rude themselves.",
}


def pick_prompts(model: str) -> tuple[str, ...]:
    """A draw from bundled prompts, or a person's own; none while they have written none."""
    sets = find_prompt_sets(model)
    kinds = [*sets, OWN]
    kind = st.segmented_control(
        "Prompts",
        kinds,
        default=kinds[0],
        key=f"prompts_kind_{len(sets)}",
        required=True,
        label_visibility="collapsed",
        **_KEPT,
    )
    if kind == OWN:
        given = st.text_area(
            "One prompt a line",
            key="prompts_own",
            height=150,
            placeholder="The driver who took my parking space is",
            **_KEPT,
        )
        return tuple(dict.fromkeys(line.strip() for line in given.splitlines() if line.strip()))
    st.caption(SETS_IN_WORDS[kind])
    try:
        prompts = tuple(dict.fromkeys(read_prompts(str(sets[kind]), sets[kind])))
    except InputError as error:
        frame.draw_error(str(error))
        return ()
    return _draw_prompts(prompts, kind)


def _draw_prompts(prompts: Sequence[str], kind: str) -> tuple[str, ...]:
    """A sample of `prompts` in their order, its size and seed chosen here."""
    first, second = st.columns(2)
    st.session_state.setdefault(f"prompts_count_{kind}", min(PROMPTS_AT_FIRST, len(prompts)))
    st.session_state.setdefault("prompts_seed", 0)
    count = first.number_input(
        f"How many of the {len(prompts):,}", 1, len(prompts), step=10, key=f"prompts_count_{kind}", **_KEPT
    )
    seed = second.number_input(
        "Seed of the choice", 0, None, step=1, key="prompts_seed", help="Another seed picks other prompts.", **_KEPT
    )
    chosen = random.Random(seed).sample(range(len(prompts)), count)
    return tuple(prompts[index] for index in sorted(chosen))


def pick_sampling() -> SamplingPlan:
    """How continuations are written."""
    start = SamplingPlan()
    for name in ("max_new_tokens", "samples", "greedy", "temperature", "top_p", "seed"):
        st.session_state.setdefault(f"sampling_{name}", getattr(start, name))
    greedy = st.session_state.sampling_greedy
    help = {name: sentence(SamplingPlan, name) for name in ("temperature", "top_p", "seed", "samples", "greedy")}
    first, second = st.columns(2)
    length = first.number_input(
        "Length in tokens",
        1,
        None,
        step=5,
        key="sampling_max_new_tokens",
        help=sentence(SamplingPlan, "max_new_tokens"),
        **_KEPT,
    )
    samples = second.number_input(
        "Samples for each prompt",
        1,
        100,
        step=1,
        key="sampling_samples",
        help=help["samples"],
        disabled=greedy,
        **_KEPT,
    )
    st.toggle("Always the most probable token", key="sampling_greedy", help=help["greedy"], **_KEPT)
    first, second, third = st.columns(3)
    temperature = first.number_input(
        "Temperature",
        0.05,
        5.0,
        step=0.1,
        key="sampling_temperature",
        help=help["temperature"],
        disabled=greedy,
        **_KEPT,
    )
    top_p = second.number_input(
        "Top-p", 0.05, 1.0, step=0.05, key="sampling_top_p", help=help["top_p"], disabled=greedy, **_KEPT
    )
    seed = third.number_input(
        "Seed of the draws", 0, None, step=1, key="sampling_seed", help=help["seed"], disabled=greedy, **_KEPT
    )
    if greedy:
        # One path has one sample, and none of the dice matter.
        return SamplingPlan(length, greedy=True)
    return SamplingPlan(length, samples, False, temperature, top_p, seed)


def json_of(written: Written) -> str:
    """What was written as one JSON document, with the model, the edit and the sampling."""
    model, request = written.model, written.request
    source = {"model": {"name": model.name, "revision": model.revision, "weights_hash": model.weights_hash}}
    whole = source | record_comparisons(written.comparisons, request.edit, request.sampling)
    return json.dumps(whole, ensure_ascii=False, indent=2)


def csv_of(written: Written) -> str:
    """A row for each continuation; the model, the edit and the sampling stand in each, so that files can be joined."""
    plans = record_plans(written.request.edit, written.request.sampling)
    shared = {"model": written.model.name} | {
        f"{plan}_{name}": json.dumps(value) if isinstance(value, list) else value
        for plan, options in plans.items()
        for name, value in options.items()
    }
    rows = [result | shared for result in record_results(written.comparisons)]
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
