"""A direction as a card: its tokens, its polarity and its share at a glance, and names that open the rest."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from pages.directions import poles, work
from pages.directions.parts import draw_pairs, draw_parts
from pages.directions.readings import draw_readings
from ui.session import state
from ui.words.numbers import signed

if TYPE_CHECKING:
    from detox_engine.plans.edit import EditPlan
    from detox_engine.reading.directions import DirectionReading
    from pages.directions.picks import DirectionsPicks
    from ui.frame.page import StudyPage
    from ui.session.view import Place


def draw_opened(page: StudyPage[DirectionsPicks], entry: DirectionReading) -> None:
    """The opened direction, large: the texts that it lights up in, then its words, then names that open the rest."""
    place = (entry.layer, entry.direction)
    name = f"card_{entry.layer}_{entry.direction}"
    asked = work.Asked(page.fitted, *place, page.edit.method)
    reads_causally = page.picks.measure == "causal"
    # Both are begun before either is waited for.
    if page.study.embeddings is not None:
        work.PAIRS.ask(asked, patience=0)
    if reads_causally:
        work.CAUSAL.ask(asked, patience=0)
    with st.container(border=True, key=f"direction_picked_{name}"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.html(f'<h3 class="card">Direction {entry.direction + 1}</h3>', width="content")
            with st.container(horizontal=True, width="content", vertical_alignment="center"):
                draw_switch(page.edit, place, f"switch_{name}")
                draw_pin(page.picks.pins, place, f"pin_{name}")
        with st.container(key="opened_direction"):
            with st.container(key="read_texts", gap="xsmall"):
                draw_pairs(page, asked)
            with st.container(key="read_words", gap="small"):
                sure = draw_meaning(page, entry)
                draw_readings(asked, entry, reads_causally, sure)
        draw_likeness(page, entry)
        draw_parts(page, entry, place in page.picks.pins, is_opened=True)


def draw_card(page: StudyPage[DirectionsPicks], entry: DirectionReading, pinned: bool = False) -> None:
    """A direction's card; `pinned` draws it among the pins, which say their layer.

    The parts of a direction open in one place alone: where it is drawn large, else on its pinned card.
    """
    place = (entry.layer, entry.direction)
    name = f"{'pinned' if pinned else 'card'}_{entry.layer}_{entry.direction}"
    is_opened = place == (page.layer, opened_direction(page))
    with st.container(border=True, key=f"direction_{name}"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            called = f"Layer {entry.layer} · direction" if pinned else "Direction"
            st.html(f'<h3 class="card">{called} {entry.direction + 1}</h3>', width="content")
            with st.container(horizontal=True, width="content", vertical_alignment="center"):
                if not is_opened:
                    draw_switch(page.edit, place, f"switch_{name}")
                    draw_pick(place, f"pick_{name}")
                draw_pin(page.picks.pins, place, f"pin_{name}")
        sure = draw_meaning(page, entry)
        draw_readings(work.Asked(page.fitted, *place, page.edit.method), entry, False, sure)
        if not pinned:
            draw_likeness(page, entry)
        if is_opened:
            st.html('<p class="aside">More on it stands above, where it is open.</p>')
        elif not pinned and place in page.picks.pins:
            st.html('<p class="aside">More on it opens on its pinned card above.</p>')
        else:
            draw_parts(page, entry, pinned)


def opened_direction(page: StudyPage[DirectionsPicks]) -> int:
    """The direction of the picked layer that is drawn large: the picked one, or the first."""
    kept = page.study.of(page.edit.method)[page.layer].kept
    picked = page.view.direction
    return picked if picked is not None and picked < kept else 0


def draw_switch(edit: EditPlan, place: Place, name: str) -> None:
    """Whether the edit plan removes this direction, and the switch that leaves it in place."""
    layer, direction = place
    if layer not in edit.layers or direction >= edit.rank:
        why = "Its layer is not edited" if layer not in edit.layers else "Beyond the edit's rank"
        st.html(f'<span class="aside">{why}</span>', width="content")
        return
    st.toggle(
        "Remove",
        help="Switched off, this direction stays in place although the rank covers it.",
        **state.bind(name, "edit.switched_off", show=lambda off: place not in off, take=partial(switch, place)),
    )


def switch(place: Place, removed: bool) -> frozenset[Place]:
    """The directions that are switched off once this one is removed, or is not."""
    off = state.view().edit.switched_off
    return off - {place} if removed else off | {place}


def draw_pick(place: Place, name: str) -> None:
    st.button(
        "Open",
        key=name,
        icon=":material/open_in_full:",
        type="tertiary",
        on_click=take_pick,
        args=place,
        help="Drawn large, with its texts and what it makes the model say; the Token lens and the Map colour by it, "
        "and a shared link points at it.",
    )


def take_pick(layer: int, direction: int) -> None:
    state.put("layer", layer)
    state.put("direction", direction)


def draw_pin(held: tuple[Place, ...], place: Place, name: str) -> None:
    is_pinned = place in held
    changed = tuple(pin for pin in held if pin != place) if is_pinned else (*held, place)
    st.button(
        "Unpin" if is_pinned else "Pin",
        key=name,
        icon=":material/keep_off:" if is_pinned else ":material/keep:",
        type="tertiary",
        on_click=state.put,
        args=("directions.pins", changed),
        help="Pinned directions stay above, whatever layer is picked, and are compared across layers.",
    )


def draw_meaning(page: StudyPage[DirectionsPicks], entry: DirectionReading) -> bool:
    """A direction's numbers, and whether the pairs settle which pole is the toxic one; returns that."""
    from detox_engine.reading.pairs import knows_poles

    study, agreeing = page.study, None
    if study.embeddings is not None:
        agreeing = work.separation(page.fitted, entry.layer, page.edit.method).agreeing[entry.direction]
    sure = knows_poles(entry.polarity, study.pair_count)
    st.html(poles.meaning_html(entry, len(study.pairs), agreeing, sure))
    return sure


def list_pins(page: StudyPage[DirectionsPicks]) -> list[Place]:
    """The pinned directions that the edit's method has."""
    subspaces = page.study.of(page.edit.method)
    return [(layer, direction) for layer, direction in page.picks.pins if direction < subspaces[layer].kept]


def draw_likeness(page: StudyPage[DirectionsPicks], entry: DirectionReading) -> None:
    """How nearly this direction is a pinned one; all layers write into one residual stream, so they compare."""
    subspaces = page.study.of(page.edit.method)
    others = [pin for pin in list_pins(page) if pin != (entry.layer, entry.direction)]
    if not others:
        return
    own = subspaces[entry.layer].basis[entry.direction]
    cosines = {pin: float(subspaces[pin[0]].basis[pin[1]] @ own) for pin in others}
    layer, direction = nearest = max(cosines, key=lambda pin: abs(cosines[pin]))
    st.html(
        f'<p class="aside">Most like the pinned direction {direction + 1} of layer {layer}: '
        f"cosine {signed(cosines[nearest], decimals=2)}</p>"
    )
