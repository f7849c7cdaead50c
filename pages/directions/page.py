"""What do they mean? Each direction of a layer in tokens, in numbers, and in the pairs that it sets apart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.plans import commands
from detox_engine.plans.fit import PAPER
from detox_engine.plans.option import option_of
from detox_engine.study.methods import title_of
from pages.directions import figures, poles, work
from pages.directions.card import draw_card, draw_opened, list_pins, opened_direction
from pages.directions.picks import DirectionsPicks
from ui.frame.command import draw_commands
from ui.frame.page import Head, Help, StudyPage, show
from ui.session import state
from ui.show.chart import draw_chart
from ui.show.downloads import draw_download, write_csv
from ui.show.notes import draw_verdict, warn_of_no_edit
from ui.show.poles import poles_html
from ui.widgets.layer import pick_layer
from ui.widgets.option import ask
from ui.widgets.settings import fold_settings

if TYPE_CHECKING:
    from detox_engine.reading.directions import DirectionReading

HEAD = Head("Directions", "What do they mean?", "directions")
HELP = Help(
    "The direction that is open is read by what it does: it is removed from the model's state after its layer, and the "
    "tokens that become less likely are what it promotes, its toxic pole, those that become more likely its civil "
    "pole; a space is shown as ·. The logit lens compares a direction with the vector of every token instead, which "
    "tells where it points, and not what becomes of it in the layers above. "
    "The polarity says how surely the direction parts the two sides: near 1 toxic texts lie on its positive side in "
    "almost every pair, near 0 it varies within toxic text. "
    "A score compares tokens within one direction; scores of different layers have different scales.",
    r"\text{causal}(\text{token}) = \overline{\log p(\text{token}) - \log p(\text{token} \mid s \leftarrow s - "
    r"\langle s, v \rangle v)}, \qquad \text{lens}(\text{token}) = \cos(v,\, g \odot (u_{\text{token}} - \bar u)), "
    r"\qquad "
    r"\text{polarity} = \frac{|\,\overline{T v}\,|}{\sqrt{\overline{(T v)^2}}}",
)
A_FEW = 4
MANY = 12
"""Cards drawn at first are as many as the rank, but no fewer than `A_FEW` and no more than these."""
SUMMARIES = {"Mean angle": "mean", "Smallest angle": "min", "Largest angle": "max"}


def draw(page: StudyPage[DirectionsPicks]) -> None:
    edit, layer = page.edit, page.layer
    found = work.readings(page.fitted, layer, page.picks.listed, edit.method)
    opened = found[opened_direction(page)]
    above = st.container()
    draw_bar(page)
    warn_of_no_edit(edit)
    by = "" if edit.method == PAPER else f", by {title_of(edit.method)}"
    st.subheader(f"Layer {layer}{by}", anchor=False)
    draw_opened(page, opened)
    with above:
        draw_verdict(tell_opened(page, opened))
    draw_pins(page)
    draw_cards(page, found, opened.direction)
    draw_angles(page, layer)
    if edit.method == PAPER:
        draw_mean(page, layer)
    rank = min(max(edit.rank, A_FEW), len(found))
    draw_commands(
        [
            commands.fit_command(page.fitted.study),
            commands.directions_command(page.fitted.study, [layer], rank, page.picks.measure, edit.method),
        ]
    )


def tell_opened(page: StudyPage[DirectionsPicks], entry: DirectionReading) -> str:
    """The verdict on the opened direction, with what speaks against the pairs."""
    study, method = page.study, page.edit.method
    agreeing = None
    if study.embeddings is not None:
        agreeing = work.separation(page.fitted, entry.layer, method).agreeing[entry.direction]
    causal = work.CAUSAL.find(work.Asked(page.fitted, entry.layer, entry.direction, method))
    told = poles.tell_direction(entry, len(study.pairs), agreeing, causal, page.shows_words)
    return f"{study.verdict} {told}".strip()


def draw_bar(page: StudyPage[DirectionsPicks]) -> None:
    """The layer whose directions are shown, with buttons that step up and down, and the settings, folded."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if page.study.layers > 1:
            layer = pick_layer(page.study, "directions_layer", width=330)
            for label, name, icon, to in (
                ("Previous layer", "layer_down", ":material/chevron_left:", layer - 1),
                ("Next layer", "layer_up", ":material/chevron_right:", layer + 1),
            ):
                outside = not 0 <= to < page.study.layers
                st.button(label, key=name, icon=icon, on_click=state.put, args=("layer", to), disabled=outside)
        words = option_of(DirectionsPicks, "measure").words[page.picks.measure]
        with fold_settings(f"{words[:1].lower()}{words[1:]}", "directions_settings"):
            ask("directions.measure", "Read directions by", "directions_measure")


def draw_pins(page: StudyPage[DirectionsPicks]) -> None:
    pins = list_pins(page)
    if not pins:
        return
    st.subheader("Pinned", anchor=False)
    columns = st.columns(2)
    for index, (layer, direction) in enumerate(pins):
        with columns[index % 2]:
            readings = work.readings(page.fitted, layer, page.picks.listed, page.edit.method)
            draw_card(page, readings[direction], pinned=True)


def draw_cards(page: StudyPage[DirectionsPicks], found: Sequence[DirectionReading], opened: int) -> None:
    """The other directions of the layer, each as a card."""
    layer = page.layer
    draw_doubt(layer, [entry.polarity for entry in found[: page.edit.rank]])
    first = min(max(page.edit.rank, A_FEW), MANY, len(found))
    shown = [entry for entry in (found if page.picks.show_all else found[:first]) if entry.direction != opened]
    if shown:
        st.subheader(f"Other directions of layer {layer}", anchor=False)
    for start in range(0, len(shown), 2):
        for column, entry in zip(st.columns(2), shown[start : start + 2], strict=False):
            with column:
                draw_card(page, entry)
    with st.container(horizontal=True, vertical_alignment="center"):
        if len(found) > first:
            ask("directions.show_all", f"Show all {len(found)} directions", "directions_all")
        draw_download(
            "All of this layer as CSV",
            lambda: write_csv(*poles.list_readings(found)),
            f"directions_layer_{layer}.csv",
            key="directions_csv",
        )


def draw_doubt(layer: int, polarities: Sequence[float]) -> None:
    """Say so where the labels of the pairs do not settle which pole is which."""
    if all(polarity < poles.PARTLY for polarity in polarities):
        st.warning(
            f"In layer {layer} the strongest directions hardly tell toxic from civil, so read the names of their poles "
            "with care. Pairs whose labels are often swapped look like this too: the directions stay as they are, "
            "but which pole is toxic becomes uncertain.",
            icon=":material/warning:",
        )


def draw_angles(page: StudyPage[DirectionsPicks], layer: int) -> None:
    """How far the first directions of every two layers lie apart."""
    if page.study.layers == 1:
        return
    st.subheader("How alike are the layers?", anchor=False)
    chart, words = st.columns([3, 2], gap="large")
    with words:
        rank, name = pick_angles(page.study.kept_of(page.edit.method))
        angles = work.angles(page.fitted, rank, page.edit.method)
        summary = getattr(angles, SUMMARIES.get(name, "mean"))(axis=-1)
        course = figures.describe_angles(summary)
        st.write(f"0° is the same direction, 90° one that has nothing of the other. {course}")
        if rank > 1:
            st.caption(
                f"Two spaces of {rank} directions have {rank} principal angles: the smallest between the two "
                "directions in them that are most alike, and so on. Point at a cell for all of its angles."
            )
    subject = "first directions" if rank == 1 else f"first {rank} directions"
    title = f"Principal angles between the {subject} of every two layers"
    with chart:
        draw_chart(
            figures.angles_figure(angles, summary, layer, name, page.colours),
            key="angles",
            title=title if rank == 1 else f"{title}: {name.lower()}",
            alt=f"{title}. {course}",
            table=partial(figures.list_angles, angles),
            filename=f"angles_of_{rank}",
        )


def pick_angles(kept: int) -> tuple[int, str]:
    """How many directions of each layer are compared, and what of their angles is shown."""
    st.session_state.angles_rank = min(st.session_state.get("angles_rank", 1), kept)
    rank = st.number_input("Directions of each layer", 1, kept, key="angles_rank", width=220, persist_state="session")
    if rank == 1:
        return rank, "Angle"
    name = st.segmented_control(
        "Show",
        list(SUMMARIES),
        default="Mean angle",
        key="angles_summary",
        required=True,
        wrap=True,
        persist_state="session",
    )
    return rank, name


def draw_mean(page: StudyPage[DirectionsPicks], layer: int) -> None:
    with st.container(border=True):
        st.html('<h3 class="card">What centring keeps out: the mean direction</h3>')
        st.caption("What civil texts have in common. The edit leaves it in place: removing it would hurt fluency.")
        reading = work.mean_reading(page.fitted, layer, page.picks.listed)
        st.html(poles_html(reading, "Along it", "Against it", sided=False))


show(draw, HEAD, HELP)
