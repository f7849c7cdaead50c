"""What a model is asked to write, and the worker that writes it before and after an edit."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from detox_engine.comparisons import record_comparisons, record_plans, record_results
from detox_engine.errors import InputError
from detox_engine.pairs import DEMO, EVERYDAY
from detox_engine.prompts import read_prompts
from detox_engine.specs import BUNDLED, EditPlan, SamplingPlan
from ui import cache, frame, jobs, state, text
from ui.blur import blur_rude
from ui.cache import StudyKey
from ui.downloads import Table

if TYPE_CHECKING:
    from detox_engine.generate import Comparison
    from detox_engine.study import ModelIdentity

KIND = "writing"
OWN = "own"
PROMPTS_AT_FIRST = 20


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

    jobs.start_job(KIND, request, work)


def settle_writing() -> Written | None:
    """The latest finished comparison of this session; a run that was stopped or failed leaves it in place."""
    job = jobs.find_job(KIND)
    if job is not None and job.snapshot.state == "done":
        st.session_state.written = job.snapshot.result
        st.session_state.pop("written_shown", None)
        jobs.forget_job(KIND)
    return st.session_state.get("written")


def find_prompt_sets(model: str) -> Mapping[str, Path]:
    """The bundled prompts that suit a model, by their names for people."""
    if model == BUNDLED:
        return {"Hostile": DEMO / "hostile_prompts.txt", "Plain": DEMO / "plain_prompts.txt"}
    return {"Everyday": EVERYDAY / "challenge_prompts.txt"}


SETS_IN_WORDS = {
    "hostile": "Openings that the bundled model often continues rudely.",
    "plain": "Openings that the bundled model mostly continues civilly.",
    "everyday": "Openings that invite a rude continuation without being rude themselves.",
}


def pick_prompts(model: str) -> tuple[str, ...]:
    """A draw from bundled prompts, or a person's own; none while they have written none."""
    sets = {name.lower(): path for name, path in find_prompt_sets(model).items()}
    kinds = [*sets, OWN]
    kind = st.segmented_control(
        "Prompts",
        kinds,
        format_func=lambda kind: "Your own" if kind == OWN else kind.capitalize(),
        required=True,
        label_visibility="collapsed",
        **state.bind(f"prompts_kind_{len(sets)}", "compare.prompts", options=kinds),
    )
    if kind == OWN:
        given = st.text_area(
            "One prompt a line",
            height=150,
            placeholder="The driver who took my parking space is",
            **state.bind("prompts_own", "compare.own"),
        )
        blur_rude(given, "prompts_own")
        frame.note_long_text("compare.own")
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
    most = len(prompts)
    bound = state.bind(
        f"prompts_count_{kind}", "compare.count", show=lambda count: min(count or PROMPTS_AT_FIRST, most)
    )
    count = first.number_input(f"How many of the {most:,}", 1, most, step=10, **bound)
    seed = second.number_input(
        "Seed of the choice",
        0,
        None,
        step=1,
        help="Another seed picks other prompts.",
        **state.bind("prompts_seed", "compare.draw"),
    )
    chosen = random.Random(seed).sample(range(most), count)
    return tuple(prompts[index] for index in sorted(chosen))


def record_written(written: Written) -> dict[str, Any]:
    """What was written as one document, with the model, the edit and the sampling."""
    model, request = written.model, written.request
    source = {"model": {"name": model.name, "revision": model.revision, "weights_hash": model.weights_hash}}
    return source | record_comparisons(written.comparisons, request.edit, request.sampling)


def list_written(written: Written) -> Table:
    """A row for each continuation; the model, the edit and the sampling stand in each, so that files can be joined."""
    plans = record_plans(written.request.edit, written.request.sampling)
    shared = {"model": written.model.name} | {
        f"{plan}_{name}": json.dumps(value) if isinstance(value, list) else value
        for plan, options in plans.items()
        for name, value in options.items()
    }
    rows = [result | shared for result in record_results(written.comparisons)]
    return tuple(rows[0]), [tuple(row.values()) for row in rows]
