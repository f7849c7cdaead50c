"""What a direction card shows on demand: only the part that is opened is worked out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from ui import cache, charts, direction_charts, direction_notes, direction_work, frame, jobs, neurons, state
from ui.carried_pairs import list_tokens, pairs_html
from ui.chart_view import draw_chart
from ui.direction_effect import effect_html, list_effect
from ui.direction_work import Asked, Effect
from ui.downloads import draw_download, write_csv
from ui.runs import draw_run

if TYPE_CHECKING:
    from detox_engine.study import Study
    from detox_engine.workbench import DirectionReading

PARTS = {"pairs": "Pairs", "neurons": "Neurons", "effect": "Effect", "note": "Note"}
ACROSS = {"layers": "Across layers"}
"""For pinned directions, and open there at first."""


def draw_parts(study: Study, entry: DirectionReading, pinned: bool) -> None:
    """The note on a direction, the names of the parts, and the one part that is open."""
    layer, direction = entry.layer, entry.direction
    direction_notes.draw_glance(study, layer, direction)
    names = ACROSS | PARTS if pinned else PARTS
    part = st.pills(
        f"More on direction {direction + 1} of layer {layer}",
        list(names),
        format_func=names.get,
        default="layers" if pinned else None,
        # Not of the layer: what is open stays open while a person walks through the layers.
        key=f"part_pinned_{layer}_{direction}" if pinned else f"part_{direction}",
        label_visibility="collapsed",
        persist_state="session",
    )
    if part == "note":
        direction_notes.draw_field(study, layer, direction)
    elif part is not None:
        asked = Asked(state.view().study_key, study.made, layer, direction)
        {"layers": draw_layers, "pairs": draw_pairs, "neurons": draw_neurons, "effect": draw_effect}[part](study, asked)


def draw_layers(study: Study, asked: Asked) -> None:
    """Where a pinned direction appears first and how it lasts."""
    cosines = cache.cosines(asked.study, asked.made, asked.layer, asked.direction)
    course = direction_charts.describe_course(cosines, asked.layer)
    st.caption(course)
    name = f"layer {asked.layer}, direction {asked.direction + 1}"
    draw_chart(
        direction_charts.cosines_figure(cosines, asked.layer, asked.direction, charts.palette(st.context.theme.type)),
        key=f"cosines_{asked.layer}_{asked.direction}",
        title=f"Cosines of {name} with the directions of every layer",
        alt=f"Cosines of {name} with the directions of every layer. {course}",
        table=lambda: direction_charts.list_cosines(cosines),
        filename=f"cosines_layer_{asked.layer}_direction_{asked.direction + 1}",
    )


def draw_pairs(study: Study, asked: Asked) -> None:
    """The pairs set apart most, least, and the other way round, with the tokens that carry it."""
    if study.embeddings is None:
        st.caption("This study was fitted without keeping the texts' embeddings, so its pairs cannot be ranked.")
        return
    found, job = direction_work.look_at_pairs(asked)
    if found is None:
        draw_unread(job)
        return
    st.caption(
        "Warm tokens carry a text toward the toxic pole, cool ones toward the civil pole; point at one for what it "
        "adds. The number beside a side is the sum over its text: how far it lies along the direction."
    )
    st.html(pairs_html(found, state.shows_words()))
    draw_download(
        "Their tokens as CSV",
        lambda: write_csv(*list_tokens(found.pairs)),
        f"pairs_layer_{asked.layer}_direction_{asked.direction + 1}.csv",
        key=f"tokens_{asked.layer}_{asked.direction}",
    )


def draw_unread(job: jobs.Job) -> None:
    """Pairs that are being read, or were not."""
    if job.snapshot.state in ("running", "done"):
        jobs.watch_job(job, jobs.draw_progress)
        return
    if job.snapshot.state == "failed":
        frame.draw_error(job.snapshot.error)
    else:
        st.info("The reading of the pairs was stopped.", icon=":material/info:")
    st.button("Read them again", key=f"again_{job.kind}", on_click=jobs.forget_job, args=(job.kind,))


def draw_neurons(study: Study, asked: Asked) -> None:
    """The neurons of the layer that write most along the direction."""
    found = cache.value_vectors(asked.study, asked.made, asked.layer, asked.direction)
    st.html(neurons.neurons_html(found))
    st.caption(
        f"Value vectors of layer {asked.layer}: what a neuron of its MLP writes when it fires, read through the logit "
        f"lens. Among as many random vectors the nearest would have a cosine of about {found.chance:.2f}. Where a gate "
        "makes activations negative, neurons that point away write toward it too. Lee et al. 2024 (arXiv 2401.01967) "
        "found value vectors that promote toxic tokens with a trained probe; those that point toward a toxic "
        "direction are its counterpart here."
    )
    draw_download(
        "All of them as CSV",
        lambda: write_csv(*neurons.list_neurons(found)),
        f"neurons_layer_{asked.layer}_direction_{asked.direction + 1}.csv",
        key=f"neurons_{asked.layer}_{asked.direction}",
    )


def draw_effect(study: Study, asked: Asked) -> None:
    """What removing just this direction changes, measured on demand."""
    found = direction_work.find_effect(asked)
    if found is not None:
        draw_scores(found, asked)
        return
    draw_run(
        direction_work.effect_job(asked),
        f"measure_{asked.layer}_{asked.direction}",
        "Measure its effect",
        direction_work.begin_effect,
        asked,
        "Removes this direction alone and measures toxicity and drift on a few prompts, beside random directions.",
        "The measurement was stopped; nothing of it was kept.",
        again=True,
    )


def draw_scores(found: Effect, asked: Asked) -> None:
    st.html(effect_html(found))
    st.caption(
        f"The change when this direction alone is removed, beside random directions of layer {asked.layer} removed "
        f"instead, with 95 % intervals: {found.prompts} prompts continued by the most probable tokens, and neutral "
        f"text read, in {found.seconds:.0f} s. One direction of one layer often changes little; an edit removes many."
    )
    draw_download(
        "These numbers as CSV",
        lambda: write_csv(*list_effect(found)),
        f"effect_layer_{asked.layer}_direction_{asked.direction + 1}.csv",
        key=f"effect_{asked.layer}_{asked.direction}",
    )
