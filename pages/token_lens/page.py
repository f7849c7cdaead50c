"""Where in a text does it light up? Each token's projection on a direction or on the subspace, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.plans import commands
from detox_engine.plans.edit import EditPlan, describe_edit
from pages.token_lens import picture, work
from pages.token_lens.picks import TokenLensPicks, pick_measure, pick_texts
from pages.token_lens.picture import Texts
from ui.frame.command import draw_commands
from ui.frame.page import Head, Help, StudyPage, show
from ui.session import state
from ui.show.chart import clicked, draw_chart
from ui.show.downloads import Table
from ui.show.notes import draw_verdict
from ui.show.tinted import Lit, Measure, ends_of, say_next, scale_html, texts_html
from ui.widgets.fold import draw_folded
from ui.widgets.layer import pick_layer
from ui.words.rude_words import mask
from ui.words.text import plain
from ui.work.lens import LENS, MOST_PREDICTED, AskedOfTexts, Found
from ui.work.tasks import draw_unfinished

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

HEAD = Head("Token lens", "Where in a text does it light up?", "token_lens")
HELP = Help(
    "The model's state at each token, after the picked layer, is compared with the directions that were found: warm "
    "lies toward toxic texts, cool toward civil ones, and the stronger the colour the further along. "
    "The colours of a layer end where 99 of 100 tokens of the study's own texts do, so any two texts can be compared. "
    "A state holds what the text so far suggests: words after an insult can light up though they are harmless. "
    "Hatched tokens are attention sinks, states many times as long as all others where a model parks its attention, "
    "mostly at the first token: they say nothing about the text, and the colours leave them out.",
    r"c_t = \langle h_t,\, v \rangle \qquad \text{or} \qquad c_t = \lVert V h_t \rVert_2",
)
DIRECTIONS_PAGE = "directions/page.py"


def draw(page: StudyPage[TokenLensPicks]) -> None:
    edit = None if page.edit.removes_nothing else page.edit
    above = st.container()
    texts = pick_texts(page.study, work.list_texts(page.study, page.fitted))
    with st.container(horizontal=True, vertical_alignment="top", gap="medium"):
        layer = pick_layer(page.study, "lens_layer", 260)
        measure = pick_measure(page.study, page.edit.method, page.view, page.picks)
    if not texts:
        st.info("Write some words above, and each of them is coloured here.", icon=":material/info:")
        return
    if edit is None:
        st.warning("Every direction of the edit plan is switched off: there is no after.", icon=":material/warning:")
    draw_result(page, texts, edit, measure, layer, above)
    draw_command(page, texts, edit, measure)


def draw_result(
    page: StudyPage[TokenLensPicks],
    texts: Mapping[str, str],
    edit: EditPlan | None,
    measure: Measure,
    layer: int,
    above: DeltaGenerator,
) -> None:
    """What the model makes of the texts, once it has read them, with the verdict in the place `above`."""
    asked = AskedOfTexts(page.fitted, edit, tuple(texts.values()), page.edit.method)
    found = LENS.ask(asked)
    if found is None:
        draw_unfinished(LENS, asked, "lens_again", "Read it again", "The reading was stopped.")
        return
    if page.picks.kind == "own" and found.complete:
        work.keep_texts(page.study, page.fitted, asked.texts)
    lit = dict(zip(texts, found.light(measure), strict=True))
    name, states = next(iter(lit.items()))
    with above:
        draw_verdict(picture.tell_text(name, states, layer, measure.signed, page.shows_words))
    st.html(scale_html(measure.signed, ends_of(found.scale, measure)[layer]))
    for name, one in zip(texts, found.texts, strict=True):
        draw_text(page, name, lit[name], one.projections.text.cut, measure, layer)
    draw_waiting(asked, found)
    if edit is not None:
        st.caption(plain(f"After the edit: {describe_edit(edit)}; the edited model really reads the text."))
    draw_heatmap(page, found, lit, measure, layer)
    table = partial(draw_table, page, lit, layer)
    draw_folded("The numbers of this layer as a table", "lens_table", ":material/table:", table)


def draw_text(
    page: StudyPage[TokenLensPicks], name: str, states: Sequence[Lit], cut: int, measure: Measure, layer: int
) -> None:
    """One text before and after, each token coloured; `cut` is how many tokens at its end were not read."""
    st.html(texts_html(name, states, layer, measure.signed, page.shows_words))
    if cut:
        st.caption(
            f"The text is longer than can be read at once: its last {cut:,} tokens of "
            f"{len(states[0].tokens) + cut:,} were left out."
        )


def draw_waiting(asked: AskedOfTexts, found: Found) -> None:
    """What pointing at a token says, once it has been read."""
    if found.complete:
        words = "Point at a token for its number, and for what the model would write next if this layer were its last."
        if max(len(one.projections.text.ids) for one in found.texts) > MOST_PREDICTED:
            words += f" What comes next is read for the first {MOST_PREDICTED} tokens of a text."
        st.caption(words)
    else:
        stopped = "Point at a token for its number. Reading what comes next was stopped."
        draw_unfinished(LENS, asked, "lens_again", "Read it again", stopped)


def draw_heatmap(page: StudyPage[TokenLensPicks], found: Found, texts: Texts, measure: Measure, layer: int) -> None:
    st.subheader("Token by token through the layers", anchor=False)
    names = list(texts)
    name = names[0]
    if len(names) > 1:
        if st.session_state.get("lens_heat") not in names:
            st.session_state.lens_heat = names[0]
        name = st.segmented_control(
            "Which text", names, key="lens_heat", required=True, label_visibility="collapsed", persist_state="session"
        )
    states = texts[name]
    draw_chart(
        picture.lens_figure(states, layer, measure.signed, page.colours, page.shows_words),
        key="lens_heatmap",
        title=f"{name} token by token through the layers, {measure.words}",
        alt=f"{name}: {picture.describe_heatmap(states, layer, measure.signed)}",
        table=partial(list_tokens, found, texts, measure),
        filename="token_lens",
        on_select=take_click,
    )
    count = len(states[0].tokens)
    least = picture.COLUMN * min(count, picture.MOST_COLUMNS) + 80
    st.html(f"<style>.st-key-lens_heatmap {{ min-width: {least}px; }}</style>")
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.caption("A click on a cell picks its layer; hatched cells are attention sinks, outside the scale.")
        st.page_link(
            DIRECTIONS_PAGE, label=f"What the direction means at layer {layer}", icon=":material/explore:",
            width="content",
        )  # fmt: skip
    if count > picture.MOST_COLUMNS:
        st.caption(f"The first {picture.MOST_COLUMNS} of {count:,} tokens; the file has them all.")


def take_click() -> None:
    for layer in clicked("lens_heatmap", "y")[:1]:
        state.put("layer", round(layer))


def draw_table(page: StudyPage[TokenLensPicks], texts: Texts, layer: int) -> None:
    """The same numbers to read without pointing, and to take along."""
    rows = []
    for name, states in texts.items():
        for place in range(len(states[0].tokens)):
            row = {"Text": name, "Token": states[0].name(place, page.shows_words)}
            row |= {lit.title: round(float(lit.values[layer, place]), 3) for lit in states}
            row |= {
                f"Next, {lit.title[:1].lower()}{lit.title[1:]}": say_next(lit, layer, place, page.shows_words)
                for lit in states
            }
            rows.append(row)
    st.dataframe(rows, hide_index=True, height=320, alt=f"Every token's number at layer {layer}")


def list_tokens(found: Found, texts: Texts, measure: Measure) -> Table:
    """A row for each text, token and layer; the tokens in full, whatever is blurred on the page."""
    from detox_engine.reading import token_lens

    rows = []
    for (name, states), one in zip(texts.items(), found.texts, strict=True):
        before, *after = (lit.values.tolist() for lit in states)
        listed = token_lens.list_tokens(one.projections, before, after[0] if after else None)
        rows += [(name, *row, measure.words) for row in listed]
    return ("text", *token_lens.TOKEN, "measure"), rows


def draw_command(
    page: StudyPage[TokenLensPicks], texts: Mapping[str, str], edit: EditPlan | None, measure: Measure
) -> None:
    key = page.fitted.study
    chosen = (None, measure.number) if measure.signed else (measure.number, None)
    notes = []
    if any(mask(text, page.shows_words) != text for text in texts.values()):
        notes.append("Show toxic words to see the text in full.")
    if measure.signed:
        notes.append("The command line counts directions from 0.")
    written = [
        commands.lens_command(key, mask(text, page.shows_words), *chosen, edit, page.edit.method)
        for text in texts.values()
    ]
    draw_commands([commands.fit_command(key), *written], " ".join(notes))


show(draw, HEAD, HELP)
