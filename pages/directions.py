"""What do they mean? The directions of a layer in tokens, each as a card."""

import csv
import io

import streamlit as st

from ui import cache, cards, frame, state

MEASURES = {"Product": "product", "Cosine": "cosine"}
SHOWN_AT_FIRST = 6


def pick_layer() -> int:
    """The layer whose directions are shown, walked through with two buttons or the slider."""
    last = study.layers - 1
    st.session_state.setdefault("directions_layer", study.suggested_layers[-1])
    st.session_state.directions_layer = min(st.session_state.directions_layer, last)
    if last == 0:
        return 0
    layer = st.session_state.directions_layer
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button(
            "Previous layer",
            key="layer_down",
            icon=":material/chevron_left:",
            on_click=step,
            args=(-1,),
            disabled=layer == 0,
        )
        st.slider("Layer", 0, last, key="directions_layer", persist_state="session", width=360)
        st.button(
            "Next layer",
            key="layer_up",
            icon=":material/chevron_right:",
            on_click=step,
            args=(1,),
            disabled=layer == last,
        )
    return layer


def step(by: int) -> None:
    st.session_state.directions_layer += by


def pick_reading() -> tuple[str, bool]:
    """How directions are read: by product or cosine, through the final normalisation or not."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        measure = st.segmented_control(
            "Rank tokens by",
            list(MEASURES),
            default="Product",
            key="directions_measure",
            required=True,
            persist_state="session",
            help="The product favours tokens with long vectors, often common ones; the cosine looks at angles alone.",
        )
        through_norm = st.toggle(
            "Through the final normalisation",
            key="directions_norm",
            persist_state="session",
            help="Weigh each coordinate as the model does just before it turns its state into tokens.",
        )
    return MEASURES[measure], through_norm


def draw_pins(measure: str, through_norm: bool) -> None:
    places = [
        (layer, direction)
        for layer, direction in cards.pinned()
        if layer < study.layers and direction < study.subspaces[layer].kept
    ]
    if not places:
        return
    st.subheader("Pinned", anchor=False)
    columns = st.columns(2)
    for index, (layer, direction) in enumerate(places):
        found = cache.readings(key, study.made, layer, measure, through_norm)[direction]
        with columns[index % 2]:
            cards.draw_direction(study, found, pinned_view=True)


def draw_cards(layer: int, measure: str, through_norm: bool) -> None:
    found = cache.readings(key, study.made, layer, measure, through_norm)
    st.subheader(f"Layer {layer}", anchor=False)
    count = len(found) if st.session_state.get("directions_all") else min(SHOWN_AT_FIRST, len(found))
    columns = st.columns(2)
    for index, direction in enumerate(found[:count]):
        with columns[index % 2]:
            cards.draw_direction(study, direction)
    with st.container(horizontal=True):
        if len(found) > SHOWN_AT_FIRST:
            st.toggle(f"Show all {len(found)} directions", key="directions_all", persist_state="session")
        st.download_button(
            "Download as CSV",
            csv_of(found),
            f"directions_layer_{layer}.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )


def csv_of(found) -> str:
    """Every token of every direction as a row; the tokens in full, whatever is blurred on the page."""
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["layer", "direction", "singular_value", "share", "polarity", "pole", "token", "score"])
    for one in found:
        numbers = [one.layer, one.direction, one.singular_value, one.share, one.polarity]
        for pole, scores in (("toxic", one.reading.toxic_pole), ("civil", one.reading.civil_pole)):
            rows.writerows([*numbers, pole, score.token, score.score] for score in scores)
    return out.getvalue()


def draw_mean(layer: int, measure: str, through_norm: bool) -> None:
    with st.container(border=True):
        st.html('<h3 class="card">What centring keeps out: the mean direction</h3>')
        st.caption(
            "What civil texts have in common: mostly frequent words and punctuation. Removing it would hurt fluency."
        )
        reading = cache.mean_reading(key, study.made, layer, measure, through_norm)
        st.html(cards.poles_html(reading, "Along it", "Against it", sided=False))


frame.open_page("Directions", "What do they mean?")
study = frame.require_study()
key = state.view().study_key
layer = pick_layer()
measure, through_norm = pick_reading()
draw_pins(measure, through_norm)
draw_cards(layer, measure, through_norm)
draw_mean(layer, measure, through_norm)
frame.explain(
    "Each direction is read by comparing it with the vector of every token in the vocabulary: the toxic pole lists "
    "the tokens that lie furthest along it, the civil pole those furthest against it. "
    "The polarity says how surely the direction parts the two sides: near 1 toxic texts lie on its positive side in "
    "almost every pair, near 0 it varies within toxic text. "
    "A score compares tokens within one direction; scores of different layers have different scales.",
    r"\text{score}(\text{token}) = \langle v,\, u_{\text{token}} \rangle, \qquad "
    r"\text{polarity} = \frac{|\,\overline{T v}\,|}{\sqrt{\overline{(T v)^2}}}",
)
