"""The picked pair beside the map: both of its texts token by token, as the Token lens draws them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.study.methods import title_of
from ui.session import state
from ui.show.tinted import Measure, ends_of, scale_html, texts_html
from ui.work.lens import LENS, AskedOfTexts
from ui.work.tasks import draw_unfinished

if TYPE_CHECKING:
    from pages.map.picks import MapPicks
    from ui.frame.page import StudyPage

LENS_PAGE = "token_lens/page.py"
PICKED = "token_lens.pair"
"""The picked pair is the Token lens's, by its number from 1."""


def find_pair(page: StudyPage[MapPicks]) -> int:
    """The number of the picked pair, from 1."""
    return min(page.view[PICKED], len(page.study.pairs))


def take_pair(number: int) -> None:
    """Pick a pair, here and on the Token lens."""
    state.put("token_lens.kind", "pair")
    state.put(PICKED, number)


def draw_reading(page: StudyPage[MapPicks], layer: int) -> None:
    """Where in the picked pair the direction lights up, before the edit and after it."""
    study, number, method = page.study, find_pair(page), page.edit.method
    pair = study.pairs[number - 1]
    measure = Measure(True, min(page.view.direction or 0, study.kept_of(method) - 1))
    edit = None if page.edit.removes_nothing else page.edit
    asked = AskedOfTexts(page.fitted, edit, (pair.toxic_text, pair.civil_text), method)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.html(f"<h3>Pair {number:,}, token by token</h3>", width="content")
        st.page_link(
            LENS_PAGE, label="Through all layers", icon=":material/center_focus_strong:", width="content",
            help="The same pair on the Token lens, token by token through the layers.",
        )  # fmt: skip
    found = LENS.ask(asked)
    if found is None:
        draw_unfinished(LENS, asked, "lens_again", "Read it again", "The reading was stopped.")
        return
    st.caption(f"Along direction {measure.number + 1} of layer {layer}, {title_of(method)}")
    st.html(scale_html(measure.signed, ends_of(found.scale, measure)[layer]))
    for name, states in zip(("The toxic text", "The civil text"), found.light(measure), strict=True):
        st.html(texts_html(name, states, layer, measure.signed, page.shows_words))
