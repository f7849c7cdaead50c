"""Where in a text does it light up? Each token's projection on a direction or on the subspace, layer by layer."""

import csv
import io
from functools import partial

import numpy as np
import streamlit as st

from detox_engine.errors import InputError
from detox_engine.prompts import read_prompts
from detox_engine.specs import EditPlan
from ui import charts, commands, frame, jobs, lens_view, lensing, state
from ui.effects import describe_edit
from ui.lens_view import Lit
from ui.text import mask, plain
from ui.writing import effective, find_prompt_sets

PAIR, PROMPT, OWN = "A pair", "A prompt", "Your own words"
ALONG, LENGTH = "Along one direction", "Length on the subspace"
SIDES = ("Before the edit", "After the edit")
LONGEST_FIELD = 200_000
KEPT = {"persist_state": "session"}
CONFIG = {
    "displaylogo": False,
    "toImageButtonOptions": {"format": "svg", "filename": "token_lens"},
    "modeBarButtonsToRemove": ["zoom2d", "pan2d", "select2d", "lasso2d", "zoomIn2d", "zoomOut2d"],
}


def pick_texts() -> dict[str, str]:
    """One or two texts, by what they are called; none where nothing is written yet."""
    kind = st.segmented_control(
        "Text", [PAIR, PROMPT, OWN], default=PAIR, key="lens_kind", required=True,
        label_visibility="collapsed", **KEPT,
    )  # fmt: skip
    if kind == PAIR:
        return pick_pair()
    if kind == PROMPT:
        return pick_prompt()
    first = st.text_area(
        "Text", key="lens_own", height=100, max_chars=LONGEST_FIELD, placeholder="What a day, you utter genius.", **KEPT
    )
    second = st.text_area(
        "A second text to compare it with, if you like", key="lens_second", height=68, max_chars=LONGEST_FIELD, **KEPT
    )
    if not second.strip():
        return {"The text": first} if first.strip() else {}
    return {"The first text": first, "The second text": second}


def pick_pair() -> dict[str, str]:
    last = len(study.pairs)
    st.session_state.lens_pair = min(st.session_state.get("lens_pair", 1), last)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        number = st.number_input(f"Which of the {last:,} pairs", 1, last, key="lens_pair", width=220, **KEPT)
        pair = study.pairs[number - 1]
        offer_editing(pair.toxic_text, pair.civil_text)
    return {"The toxic text": pair.toxic_text, "The civil text": pair.civil_text}


def pick_prompt() -> dict[str, str]:
    """One of the bundled prompts that suit the model."""
    sets = find_prompt_sets(view.model.name)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox("Prompts", list(sets), key=f"lens_prompts_{len(sets)}", width=160, **KEPT)
        try:
            prompts = read_prompts(str(sets[name]), sets[name])
        except InputError as error:
            frame.draw_error(str(error))
            return {}
        chosen = st.selectbox(
            "Prompt", range(len(prompts)), key=f"lens_prompt_{name}", width=520,
            format_func=lambda index: mask(prompts[index], state.shows_words()), **KEPT,
        )  # fmt: skip
        offer_editing(prompts[chosen])
    return {"The prompt": prompts[chosen]}


def offer_editing(first: str, second: str = "") -> None:
    def take() -> None:
        st.session_state.update(lens_own=first, lens_second=second, lens_kind=OWN)

    hidden = any(mask(text, state.shows_words()) != text for text in (first, second))
    st.button(
        "Change the words", key="lens_edit", icon=":material/edit:", on_click=take, disabled=hidden,
        help="A field cannot blur words: show toxic words first." if hidden else None,
    )  # fmt: skip


def pick_measure() -> tuple[bool, int]:
    """Whether the signed projection on one direction is shown, with that direction from 0, or the length on a rank."""
    kind = st.segmented_control(
        "Colour by", [ALONG, LENGTH], default=ALONG, key="lens_measure", required=True,
        help="The projection on one direction has a sign: toward toxic or toward civil. The length on the subspace of "
        "the first directions has none.", **KEPT,
    )  # fmt: skip
    name, key, start = (
        ("Direction", "lens_direction", 1) if kind == ALONG else ("Directions", "lens_rank", study.suggested_rank)
    )
    st.session_state[key] = min(st.session_state.get(key, start), study.kept)
    number = st.number_input(name, 1, study.kept, key=key, width=140, **KEPT)
    return kind == ALONG, number - 1 if kind == ALONG else number


def pick_layer() -> int:
    """The layer whose colours the text has; at first the one last looked at on another page."""
    last = study.layers - 1
    shown = st.session_state
    start = shown.get("directions_layer", shown.get("spectrum_layer", study.suggested_layers[-1]))
    shown.setdefault("lens_layer", start)
    shown.lens_layer = min(shown.lens_layer, last)
    return st.slider("Layer", 0, last, key="lens_layer", width=260, **KEPT) if last else 0


def light(looked, scale) -> list[Lit]:
    """The states of one text, with the numbers of the picked measure."""
    found = looked.projections
    ends = ends_of(scale)
    states = []
    for after, (title, follow) in enumerate(zip(SIDES, (looked.next_before, looked.next_after), strict=True)):
        if follow is None:
            continue
        measured = found.along(number, bool(after)) if signed else found.norms(number, bool(after))
        values = measured.numpy()
        states.append(Lit(title, found.text.tokens, found.text.pieces, values, values / ends[:, None], follow))
    return states


def ends_of(scale) -> np.ndarray:
    """`[layers]` where the colours end."""
    ends = scale.directions[:, number] if signed else scale.norms[:, number - 1]
    return np.maximum(ends.numpy(), 1e-9)


def draw_texts(found) -> None:
    """The main picture: every text, before and after, each token coloured."""
    st.html(lens_view.scale_html(signed, ends_of(found.scale)[layer]))
    shown = state.shows_words()
    for name, looked in zip(texts, found.texts, strict=True):
        blocks = "".join(
            f'<section class="{("before", "after")[place]}"><h4>{lit.title}</h4>'
            f"{lens_view.text_html(lit, layer, signed, shown)}</section>"
            for place, lit in enumerate(light(looked, found.scale))
        )
        st.html(f'<div class="lens"><h3 class="card">{name}</h3><div class="sides">{blocks}</div></div>')
        text = looked.projections.text
        if text.cut:
            st.caption(
                f"The text is longer than can be read at once: its last {text.cut:,} tokens of "
                f"{len(text.ids) + text.cut:,} were left out."
            )
    st.caption("Point at a token for its number, and for what the model would write next if this layer were its last.")


def draw_heatmap(found) -> None:
    st.subheader("Token by token through the layers", anchor=False)
    names = list(texts)
    name = names[0]
    if len(names) > 1:
        if st.session_state.get("lens_heat") not in names:
            st.session_state.lens_heat = names[0]
        name = st.segmented_control(
            "Which text", names, key="lens_heat", required=True, label_visibility="collapsed", **KEPT
        )
    states = light(found.texts[names.index(name)], found.scale)
    figure = lens_view.lens_figure(states, layer, signed, colours, state.shows_words())
    st.plotly_chart(figure, key="lens_heatmap", config=CONFIG, alt=describe_heatmap(name, states))
    count = len(states[0].tokens)
    if count > lens_view.MOST_COLUMNS:
        st.caption(f"The first {lens_view.MOST_COLUMNS} of {count:,} tokens; the file has them all.")


def describe_heatmap(name: str, states: list[Lit]) -> str:
    """The picture in words: the strongest token of each state at the picked layer."""
    parts = [f"{name}: {states[0].values.shape[1]} tokens by {states[0].values.shape[0]} layers"]
    for lit in states:
        place = int(np.abs(lit.values[layer]).argmax())
        words = lens_view.say_value(lit.values[layer, place], signed)
        parts.append(f"{lit.title}, strongest at layer {layer} is token {place + 1}: {words}")
    return "; ".join(parts)


def draw_table(found) -> None:
    """The same numbers to read without pointing, and to take along."""
    with st.expander("The numbers of this layer as a table", icon=":material/table:"):
        rows = []
        for name, looked in zip(texts, found.texts, strict=True):
            states = light(looked, found.scale)
            for place, token in enumerate(states[0].tokens):
                row = {"Text": name, "Token": lens_view.mask_token(token, state.shows_words())}
                row |= {lit.title: round(float(lit.values[layer, place]), 3) for lit in states}
                rows.append(row)
        st.dataframe(rows, hide_index=True, height=320, alt=f"Every token's number at layer {layer}")
    st.download_button(
        "All tokens and layers as CSV", partial(csv_of, found), "token_lens.csv", "text/csv",
        key="lens_csv", icon=":material/download:", on_click="ignore",
    )  # fmt: skip


def csv_of(found) -> str:
    """A row for each text, token and layer; the tokens in full, whatever is blurred on the page."""
    from detox_engine.explore import TOKEN, list_tokens

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("text", *TOKEN, "measure"))
    measure = f"along direction {number + 1}" if signed else f"length on {number} directions"
    for name, looked in zip(texts, found.texts, strict=True):
        states = [lit.values.tolist() for lit in light(looked, found.scale)]
        after = states[1] if len(states) > 1 else None
        writer.writerows((name, *row, measure) for row in list_tokens(looked.projections, states[0], after))
    return out.getvalue()


def draw_command() -> None:
    shown = state.shows_words()
    edit = EditPlan(view.edit.layers, view.edit.rank, view.edit.strength)
    chosen = (None, number) if signed else (number, None)
    notes = []
    if any(mask(text, shown) != text for text in texts.values()):
        notes.append("Show toxic words to see the text in full.")
    if effective(view.edit).switched_off:
        notes.append("The command line removes whole ranks: it has no option for directions that are switched off.")
    if signed:
        notes.append("The command line counts directions from 0.")
    written = [commands.lens_command(key, mask(text, shown), *chosen, edit) for text in texts.values()]
    commands.draw_commands([commands.fit_command(key), *written], " ".join(notes))


def draw_result() -> None:
    """What the model makes of the texts, once it has read them."""
    asked = lensing.Asked(key, study.made, edit, tuple(texts.values()))
    found = lensing.look(asked)
    job = jobs.find_job(lensing.LENS)
    if found is not None:
        draw_texts(found)
        draw_heatmap(found)
        draw_table(found)
    elif job.running:
        jobs.watch_job(job, jobs.draw_progress)
    elif job.snapshot.state == "failed":
        frame.draw_error(job.snapshot.error)
    else:
        st.info("The reading was stopped.", icon=":material/info:")
        st.button("Read it again", key="lens_again", on_click=jobs.forget_job, args=(lensing.LENS,))


frame.open_page("Token lens", "Where in a text does it light up?")
study = frame.require_study()
view = state.view()
key = view.study_key
colours = charts.palette(st.context.theme.type)
texts = pick_texts()
with st.container(horizontal=True, vertical_alignment="top", gap="medium"):
    signed, number = pick_measure()
    layer = pick_layer()
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
frame.explain(
    "The model's state at each token, after the picked layer, is compared with the directions that were found: warm "
    "lies toward toxic texts, cool toward civil ones, and the stronger the colour the further along. "
    "The colours of a layer end where 99 of 100 tokens of the study's own texts do, so any two texts can be compared. "
    "A state holds what the text so far suggests: words after an insult can light up though they are harmless, and "
    "the first token often stands out by itself, for models park attention there.",
    r"c_t = \langle h_t,\, v \rangle \qquad \text{or} \qquad c_t = \lVert V h_t \rVert_2",
)
