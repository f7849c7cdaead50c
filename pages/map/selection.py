"""Pairs that a person has selected, by a box, a lasso or their words: kept over pages, listed, and saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from ui.show.downloads import draw_download, write_csv
from ui.show.pair_list import filter_pairs, pairs_html

if TYPE_CHECKING:
    from detox_engine.study.study import Study
    from ui.session.view import Fitted
    from ui.show.downloads import Table

MOST_LISTED = 50
_PICKED, _WORDS = "map_picked", "map_words"


def find_selected(fitted: Fitted) -> list[int]:
    """Indices of the selected pairs of this very study."""
    return st.session_state.get(_PICKED, {}).get(fitted, [])


def select_pairs(fitted: Fitted, indices: Sequence[int]) -> None:
    """Select pairs, which stay selected when something else is drawn; none lets them go."""
    st.session_state[_PICKED] = {fitted: list(indices)}


def take_words(fitted: Fitted, study: Study) -> None:
    words, unflawed = st.session_state[_WORDS], [()] * len(study.pairs)
    select_pairs(fitted, filter_pairs(study.pairs, unflawed, words, False) if words.strip() else ())


def let_go(fitted: Fitted) -> None:
    st.session_state[_WORDS] = ""
    select_pairs(fitted, ())


def draw_selected(fitted: Fitted, study: Study) -> None:
    """A field that selects pairs by their words, and the selected pairs as a list and as a file."""
    words = st.text_input(
        "Select pairs by their words", key=_WORDS, on_change=take_words, args=(fitted, study), max_chars=200, width=360,
        help="Pairs that hold all of these words in one of their texts.", persist_state="session",
    )  # fmt: skip
    picked = find_selected(fitted)
    if not picked:
        if words.strip():
            st.caption("No pair holds these words.")
        return
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.subheader(f"{len(picked):,} selected pair{'s' if len(picked) > 1 else ''}", anchor=False)
        with st.container(horizontal=True, width="content"):
            draw_download(
                "Selected pairs as CSV", lambda: write_csv(*list_pairs(study, picked)), "selected_pairs.csv",
                key="map_picked_csv",
            )  # fmt: skip
            st.button("Let them go", key="map_clear", icon=":material/close:", on_click=let_go, args=(fitted,))
    listed = [(study.pairs[index], (f"pair {index + 1:,}",)) for index in picked[:MOST_LISTED]]
    with st.container(height=420 if len(listed) > 4 else "content", border=len(listed) > 4):
        st.html(pairs_html(listed))
    if len(picked) > MOST_LISTED:
        st.caption(f"The first {MOST_LISTED}; the file has all {len(picked):,}.")


def list_pairs(study: Study, indices: Sequence[int]) -> Table:
    """Those pairs, numbered from 1."""
    heads = ("prompt", "toxic", "civil")
    return ("pair", *heads), [(index + 1, *(getattr(study.pairs[index], head) for head in heads)) for index in indices]
