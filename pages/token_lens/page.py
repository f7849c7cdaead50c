"""Where in a text does it light up? Each token's projection on a direction or on the subspace, layer by layer."""

import numpy as np
import streamlit as st

from detox_engine.plans import commands
from detox_engine.plans.edit import effective
from detox_engine.plans.words import describe_edit
from pages.token_lens import picture, work
from pages.token_lens.picks import pick_measure, pick_texts
from pages.token_lens.picture import Lit
from ui.frame import page
from ui.frame.command import draw_commands
from ui.session import state
from ui.show import figures
from ui.show.chart import draw_chart
from ui.show.downloads import Table
from ui.show.notes import draw_error
from ui.widgets.layer import pick_layer
from ui.words.rude_words import mask
from ui.words.text import plain
from ui.work import jobs

SIDES = ("Before the edit", "After the edit")


def light(looked, scale) -> list[Lit]:
    """The states of one text, with the numbers of the picked measure."""
    found = looked.projections
    ends = ends_of(scale)
    states = []
    for after, title in enumerate(SIDES[: 1 if found.after is None else 2]):
        measured = found.along(number, bool(after)) if signed else found.norms(number, bool(after))
        values = measured.numpy()
        follow = looked.next[after] if looked.next else ()
        states.append(Lit(title, found.text.tokens, found.text.pieces, values, values / ends[:, None], follow))
    return states


def ends_of(scale) -> np.ndarray:
    """`[layers]` where the colours end."""
    ends = scale.directions[:, number] if signed else scale.norms[:, number - 1]
    return np.maximum(ends.numpy(), 1e-9)


def draw_texts(found) -> None:
    """The main picture: every text, before and after, each token coloured."""
    st.html(picture.scale_html(signed, ends_of(found.scale)[layer]))
    shown = state.shows_words()
    for name, looked in zip(texts, found.texts, strict=True):
        blocks = "".join(
            f'<section class="{("before", "after")[place]}"><h4>{lit.title}</h4>'
            f"{picture.text_html(lit, layer, signed, shown)}</section>"
            for place, lit in enumerate(light(looked, found.scale))
        )
        st.html(f'<div class="lens"><h3 class="card">{name}</h3><div class="sides">{blocks}</div></div>')
        text = looked.projections.text
        if text.cut:
            st.caption(
                f"The text is longer than can be read at once: its last {text.cut:,} tokens of "
                f"{len(text.ids) + text.cut:,} were left out."
            )


def draw_waiting(found) -> None:
    """What pointing at a token says, once it has been read."""
    job = jobs.find_job(work.LENS)
    if found.complete:
        words = "Point at a token for its number, and for what the model would write next if this layer were its last."
        if max(len(looked.projections.text.ids) for looked in found.texts) > work.MOST_PREDICTED:
            words += f" What comes next is read for the first {work.MOST_PREDICTED} tokens of a text."
        st.caption(words)
    else:
        draw_unfinished(job, "Point at a token for its number. Reading what comes next was stopped.")


def draw_unfinished(job: jobs.Job, stopped: str) -> None:
    """How a reading goes or why there is none; `stopped` says so where somebody ended it."""
    if job.running:
        jobs.watch_job(job, jobs.draw_progress)
    elif job.snapshot.state == "failed":
        draw_error(job.snapshot.error)
    else:
        st.info(stopped, icon=":material/info:")
        st.button("Read it again", key="lens_again", on_click=jobs.forget_job, args=(work.LENS,))


def draw_heatmap(found) -> None:
    st.subheader("Token by token through the layers", anchor=False)
    names = list(texts)
    name = names[0]
    if len(names) > 1:
        if st.session_state.get("lens_heat") not in names:
            st.session_state.lens_heat = names[0]
        name = st.segmented_control(
            "Which text", names, key="lens_heat", required=True, label_visibility="collapsed", persist_state="session"
        )
    states = light(found.texts[names.index(name)], found.scale)
    draw_chart(
        picture.lens_figure(states, layer, signed, colours, state.shows_words()),
        key="lens_heatmap",
        title=f"{name} token by token through the layers, {measure}",
        alt=describe_heatmap(name, states),
        table=lambda: list_tokens(found),
        filename="token_lens",
    )
    count = len(states[0].tokens)
    if count > picture.MOST_COLUMNS:
        st.caption(f"The first {picture.MOST_COLUMNS} of {count:,} tokens; the file has them all.")


def describe_heatmap(name: str, states: list[Lit]) -> str:
    """The picture in words: the strongest token of each state at the picked layer."""
    parts = [f"{name}: {states[0].values.shape[1]} tokens by {states[0].values.shape[0]} layers"]
    for lit in states:
        place = int(np.abs(lit.values[layer]).argmax())
        words = picture.say_value(lit.values[layer, place], signed)
        parts.append(f"{lit.title}, strongest at layer {layer} is token {place + 1}: {words}")
    return "; ".join(parts)


def draw_table(found) -> None:
    """The same numbers to read without pointing, and to take along."""
    shown = state.shows_words()
    with st.expander("The numbers of this layer as a table", icon=":material/table:"):
        rows = []
        for name, looked in zip(texts, found.texts, strict=True):
            states = light(looked, found.scale)
            for place, token in enumerate(states[0].tokens):
                row = {"Text": name, "Token": picture.mask_token(token, shown)}
                row |= {lit.title: round(float(lit.values[layer, place]), 3) for lit in states}
                row |= {
                    f"Next, {lit.title[:1].lower()}{lit.title[1:]}": picture.say_next(lit, layer, place, shown)
                    for lit in states
                }
                rows.append(row)
        st.dataframe(rows, hide_index=True, height=320, alt=f"Every token's number at layer {layer}")


def list_tokens(found) -> Table:
    """A row for each text, token and layer; the tokens in full, whatever is blurred on the page."""
    from detox_engine.reading import token_lens

    rows = []
    for name, looked in zip(texts, found.texts, strict=True):
        before, *after = (lit.values.tolist() for lit in light(looked, found.scale))
        listed = token_lens.list_tokens(looked.projections, before, after[0] if after else None)
        rows += [(name, *row, measure) for row in listed]
    return ("text", *token_lens.TOKEN, "measure"), rows


def draw_command() -> None:
    shown = state.shows_words()
    chosen = (None, number) if signed else (number, None)
    notes = []
    if any(mask(text, shown) != text for text in texts.values()):
        notes.append("Show toxic words to see the text in full.")
    if signed:
        notes.append("The command line counts directions from 0.")
    written = [commands.lens_command(key, mask(text, shown), *chosen, edit) for text in texts.values()]
    draw_commands([commands.fit_command(key), *written], " ".join(notes))


def draw_result() -> None:
    """What the model makes of the texts, once it has read them."""
    asked = work.Asked(key, study.made, edit, tuple(texts.values()))
    found = work.look(asked)
    job = jobs.find_job(work.LENS)
    if found is not None:
        draw_texts(found)
        draw_waiting(found)
        draw_heatmap(found)
        draw_table(found)
    else:
        draw_unfinished(job, "The reading was stopped.")


page.open_page("Token lens", "Where in a text does it light up?")
study = page.require_study()
view = state.view()
key = view.study_key
colours = figures.palette(st.context.theme.type)
texts = pick_texts(study)
with st.container(horizontal=True, vertical_alignment="top", gap="medium"):
    signed, number = pick_measure(study)
    layer = pick_layer(study, "lens_layer", 260)
measure = f"along direction {number + 1}" if signed else f"length on {number} directions"
edit = effective(view.edit)
if len(edit.switched_off) == len(edit.layers) * edit.rank:
    edit = None
if texts:
    if edit is None:
        st.warning("Every direction of the edit plan is switched off: there is no after.", icon=":material/warning:")
    else:
        st.caption(plain(f"After the edit: {describe_edit(edit)}; the edited model really reads the text."))
    draw_result()
    draw_command()
else:
    st.info("Write some words above, and each of them is coloured here.", icon=":material/info:")
page.explain(
    "The model's state at each token, after the picked layer, is compared with the directions that were found: warm "
    "lies toward toxic texts, cool toward civil ones, and the stronger the colour the further along. "
    "The colours of a layer end where 99 of 100 tokens of the study's own texts do, so any two texts can be compared. "
    "A state holds what the text so far suggests: words after an insult can light up though they are harmless, and "
    "the first token often stands out by itself, for models park attention there.",
    r"c_t = \langle h_t,\, v \rangle \qquad \text{or} \qquad c_t = \lVert V h_t \rVert_2",
)
