"""What a direction card shows on demand: only the part that is opened is worked out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages.directions import figures, neurons, notes, work
from pages.directions.pairs import list_tokens, pairs_html
from pages.directions.work import EFFECT, PAIRS, Asked, Effect
from ui.show.chart import draw_chart
from ui.show.downloads import Table, draw_download, write_csv
from ui.words.numbers import interval, number, signed
from ui.words.text import escape
from ui.words.verdicts import judge, way
from ui.work.tasks import draw_task, draw_unfinished

if TYPE_CHECKING:
    from detox_engine.reading.directions import DirectionReading
    from detox_engine.scoring.evaluation import Score
    from pages.directions.picks import DirectionsPicks
    from ui.frame.page import StudyPage

PARTS = {"pairs": "Pairs", "neurons": "Neurons", "effect": "Effect", "note": "Note"}
ACROSS = {"layers": "Across layers"}
"""For pinned directions, and open there at first."""


def draw_parts(
    page: StudyPage[DirectionsPicks], entry: DirectionReading, pinned: bool, is_opened: bool = False
) -> None:
    """The note on a direction, the names of the parts, and the one part that is open.

    Args:
        is_opened: whether it is drawn large, with its pairs in sight.
    """
    layer, direction = entry.layer, entry.direction
    notes.draw_glance(page.study, layer, direction, page.edit.method)
    names = ACROSS | PARTS if pinned else dict(PARTS)
    if is_opened:
        names.pop("pairs")
    # Not of the layer: what is open stays open while a person walks through the layers.
    key = f"part_pinned_{layer}_{direction}" if pinned and not is_opened else f"part_{direction}"
    if st.session_state.get(key) not in (None, *names):
        st.session_state[key] = None
    part = st.pills(
        f"More on direction {direction + 1} of layer {layer}",
        list(names),
        format_func=names.get,
        default="layers" if pinned and not is_opened else None,
        key=key,
        label_visibility="collapsed",
        persist_state="session",
    )
    if part == "note":
        notes.draw_field(page.study, layer, direction, page.edit.method, page.shows_words)
    elif part is not None:
        drawn = {"layers": draw_layers, "pairs": draw_pairs, "neurons": draw_neurons, "effect": draw_effect}
        drawn[part](page, Asked(page.fitted, layer, direction, page.edit.method))


def draw_layers(page: StudyPage[DirectionsPicks], asked: Asked) -> None:
    """Where a pinned direction appears first and how it lasts."""
    cosines = work.cosines(asked)
    course = figures.describe_course(cosines, asked.layer)
    st.caption(course)
    name = f"layer {asked.layer}, direction {asked.direction + 1}"
    draw_chart(
        figures.cosines_figure(cosines, asked.layer, asked.direction, page.colours),
        key=f"cosines_{asked.layer}_{asked.direction}",
        title=f"Cosines of {name} with the directions of every layer",
        alt=f"Cosines of {name} with the directions of every layer. {course}",
        table=lambda: figures.list_cosines(cosines),
        filename=f"cosines_layer_{asked.layer}_direction_{asked.direction + 1}",
    )


def draw_pairs(page: StudyPage[DirectionsPicks], asked: Asked) -> None:
    """The pairs set apart most, least, and the other way round, with the tokens that carry it."""
    if page.study.embeddings is None:
        st.caption("This study was fitted without keeping the texts' embeddings, so its pairs cannot be ranked.")
        return
    found = PAIRS.ask(asked)
    if found is None:
        stopped = "The reading of the pairs was stopped."
        draw_unfinished(PAIRS, asked, f"again_pairs of {asked.place}", "Read them again", stopped)
        return
    st.caption(
        "Warm tokens carry a text toward the toxic pole, cool ones toward the civil pole; point at one for what it "
        "adds. The number beside a side is the sum over its text: how far it lies along the direction."
    )
    st.html(pairs_html(found, page.shows_words))
    draw_download(
        "Their tokens as CSV",
        lambda: write_csv(*list_tokens(found.pairs)),
        f"pairs_layer_{asked.layer}_direction_{asked.direction + 1}.csv",
        key=f"tokens_{asked.layer}_{asked.direction}",
    )


def draw_neurons(page: StudyPage[DirectionsPicks], asked: Asked) -> None:
    """The neurons of the layer that write most along the direction."""
    found = work.value_vectors(asked)
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


def draw_effect(page: StudyPage[DirectionsPicks], asked: Asked) -> None:
    """What removing just this direction changes, measured on demand."""
    found = EFFECT.find(asked)
    if found is not None:
        draw_scores(found, asked)
        return
    draw_task(
        EFFECT,
        asked,
        f"measure_{asked.layer}_{asked.direction}",
        "Measure its effect",
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


SHOWN = ("profanity", "drift")


def effect_html(found: Effect) -> str:
    """Toxicity and drift: before, and how they change without the direction and without random ones instead."""
    return f'<div class="effect">{"".join(_score_html(score) for score in found.scores if score.name in SHOWN)}</div>'


def _score_html(score: Score) -> str:
    effect, verdict = score.effect, judge(score.effect, score.lower_is_better)
    rows = "".join(
        f"<dt>{name}</dt><dd>{value}</dd>"
        for name, value in (
            ("Before", f"{number(effect.before.mean)} {score.unit}"),
            ("Change without it", interval(effect.difference, signed)),
            ("Without random ones", interval(effect.control.difference, signed)),
        )
    )
    return (
        f'<div class="score"><h4>{escape(score.title)}<span class="aside">{way(score.lower_is_better)}</span></h4>'
        f'<p class="{verdict.kind}">{escape(verdict.words)}</p><dl>{rows}</dl></div>'
    )


def list_effect(found: Effect) -> Table:
    """Each score before, after and with random directions removed, and its changes, with their intervals."""
    rows = [
        (score.name, what, estimate.mean, estimate.low, estimate.high, estimate.n)
        for score in found.scores
        for what, estimate in (
            ("before", score.effect.before),
            ("after", score.effect.after),
            ("random", score.effect.control.level),
            ("change", score.effect.difference),
            ("random change", score.effect.control.difference),
        )
    ]
    return ("score", "what", "mean", "low", "high", "n"), rows
