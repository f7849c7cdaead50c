"""Direction cards: both poles of a direction in tokens as bars, its numbers, and the pairs it separates most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from ui import cache, state
from ui.text import escape, text_html, token_html

if TYPE_CHECKING:
    from detox_engine.lens import Reading, TokenScore
    from detox_engine.study import Study
    from detox_engine.workbench import DirectionReading

MOST_SEPARATED = 3


def poles_html(reading: Reading, left: str = "Toxic pole", right: str = "Civil pole", sided: bool = True) -> str:
    """Two lists of tokens with bars, on one scale; `sided` gives them the toxic and the civil colour."""
    longest = max(abs(score.score) for score in (*reading.toxic_pole, *reading.civil_pole)) or 1.0
    classes = ("toxic", "civil") if sided else ("plain", "plain")
    return (
        '<div class="poles">'
        + _pole_html(left, classes[0], reading.toxic_pole, longest)
        + _pole_html(right, classes[1], reading.civil_pole, longest)
        + "</div>"
    )


def _pole_html(title: str, side: str, scores: Sequence[TokenScore], longest: float) -> str:
    rows = "".join(
        f'<li><span class="token">{token_html(score.token)}</span>'
        f'<span class="bar"><i style="width: {abs(score.score) / longest:.1%}"></i></span>'
        f'<span class="score">{score.score:+.2f}</span></li>'
        for score in scores
    )
    return f'<section class="{side}"><h4>{escape(title)}</h4><ol>{rows}</ol></section>'


def draw_direction(study: Study, found: DirectionReading, pinned_view: bool = False) -> None:
    """One direction as a card, with its switch in the edit plan and its pin."""
    name = f"{'pinned' if pinned_view else 'card'}_{found.layer}_{found.direction}"
    with st.container(border=True, key=f"direction_{name}"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            place = f"Layer {found.layer} · direction" if pinned_view else "Direction"
            st.html(f'<h3 class="card">{place} {found.direction + 1}</h3>', width="content")
            with st.container(horizontal=True, width="content", vertical_alignment="center"):
                _draw_switch(found.layer, found.direction, name)
                _draw_pin(found.layer, found.direction, name)
        st.html(numbers_html(found))
        st.html(poles_html(found.reading))
        _draw_pairs(study, found)


def numbers_html(found: DirectionReading) -> str:
    """Share of variance and polarity as two small meters."""
    return (
        '<div class="numbers">'
        f"{_meter('Share of variance', found.share, f'{found.share:.1%}')}"
        f"{_meter('Polarity', found.polarity, f'{found.polarity:.2f}')}"
        f'<div class="meter"><span>Singular value</span><b>{found.singular_value:.2f}</b></div>'
        "</div>"
    )


def _meter(label: str, share: float, value: str) -> str:
    return (
        f'<div class="meter"><span>{label}</span><b>{value}</b>'
        f'<div class="track"><i style="width: {min(1.0, share):.1%}"></i></div></div>'
    )


def _draw_switch(layer: int, direction: int, name: str) -> None:
    """Whether the edit plan removes this direction, and the switch that leaves it in place."""
    edit = state.view().edit
    if layer not in edit.layers or direction >= edit.rank:
        why = "Its layer is not edited" if layer not in edit.layers else "Beyond the edit's rank"
        st.html(f'<span class="aside">{why}</span>', width="content")
        return
    key = f"switch_{name}"
    state.mirror(key, (layer, direction) not in edit.switched_off)

    def take() -> None:
        one = frozenset({(layer, direction)})
        off = state.view().edit.switched_off
        state.change_edit(switched_off=off - one if st.session_state[key] else off | one)

    st.toggle("Remove", key=key, on_change=take, help="Off leaves this direction in place although the rank covers it.")


def _draw_pin(layer: int, direction: int, name: str) -> None:
    pins = pinned()
    is_pinned = (layer, direction) in pins
    st.button(
        "Unpin" if is_pinned else "Pin",
        key=f"pin_{name}",
        icon=":material/keep_off:" if is_pinned else ":material/keep:",
        type="tertiary",
        on_click=_toggle_pin,
        args=((layer, direction),),
        help="Pinned directions stay above, whatever layer is picked.",
    )


def pinned() -> tuple[tuple[int, int], ...]:
    """The pinned directions of this session, as (layer, direction), in the order they were pinned."""
    return st.session_state.get("pins", ())


def _toggle_pin(place: tuple[int, int]) -> None:
    pins = pinned()
    st.session_state.pins = tuple(pin for pin in pins if pin != place) if place in pins else (*pins, place)


def _draw_pairs(study: Study, found: DirectionReading) -> None:
    with st.expander("Pairs it separates most"):
        if study.embeddings is None:
            st.caption("The study was fitted without keeping its embeddings.")
            return
        key = state.view().study_key
        separations = cache.separations(key, study.made, found.layer, found.direction, MOST_SEPARATED)
        st.html("".join(pair_html(study, separation) for separation in separations))


def pair_html(study: Study, separation) -> str:
    """A pair with the projections of its two sides on a direction."""
    pair = study.pairs[separation.pair]
    prompt = f'<div class="prompt">{text_html(pair.prompt)}</div>' if pair.prompt else ""
    return (
        f'<div class="pair">{prompt}'
        f'<div class="side toxic"><b>{separation.toxic:+.2f}</b> {text_html(pair.toxic)}</div>'
        f'<div class="side civil"><b>{separation.civil:+.2f}</b> {text_html(pair.civil)}</div></div>'
    )
