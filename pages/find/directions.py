"""What do they mean? Each direction of a layer in tokens, in numbers, and in the pairs that it sets apart."""

import csv
import io

import streamlit as st

from ui import cache, frame, poles, state

A_FEW, MANY = 4, 12
"""Cards drawn at first: as many as the rank, but no fewer and no more than these."""
APART, AGAINST = 3, 2
"""Pairs listed that a direction sets apart most, and that it sets apart the other way round."""
MEASURES = {"Product": "product", "Cosine": "cosine"}


def pick_layer() -> int:
    """The layer whose directions are shown; at first the one that was picked on the Spectrum."""
    last = study.layers - 1
    start = st.session_state.get("spectrum_layer", study.suggested_layers[-1])
    st.session_state.setdefault("directions_layer", start)
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
        chosen = st.segmented_control(
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
    return MEASURES[chosen], through_norm


def read(layer: int):
    """Every kept direction of `layer`, strongest first."""
    return cache.readings(key, study.made, layer, measure, through_norm)


def pins() -> tuple[tuple[int, int], ...]:
    """The pinned directions of this study, as (layer, direction), in the order they were pinned."""
    return st.session_state.get("pins", {}).get((key, study.made), ())


def change_pin(layer: int, direction: int) -> None:
    held, pin = pins(), (layer, direction)
    changed = tuple(other for other in held if other != pin) if pin in held else (*held, pin)
    st.session_state.pins = st.session_state.get("pins", {}) | {(key, study.made): changed}


def draw_card(entry, pinned: bool = False) -> None:
    """A direction as a card; `pinned` draws it among the pins, which say their layer."""
    name = f"{'pinned' if pinned else 'card'}_{entry.layer}_{entry.direction}"
    with st.container(border=True, key=f"direction_{name}"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            place = f"Layer {entry.layer} · direction" if pinned else "Direction"
            st.html(f'<h3 class="card">{place} {entry.direction + 1}</h3>', width="content")
            with st.container(horizontal=True, width="content", vertical_alignment="center"):
                draw_switch(entry.layer, entry.direction, f"switch_{name}")
                draw_pin(entry.layer, entry.direction, f"pin_{name}")
        st.html(poles.meaning_html(entry, find_evidence(entry)))
        st.html(poles.poles_html(entry.reading))
        if not pinned:
            draw_likeness(entry)
        draw_pairs(entry)


def draw_switch(layer: int, direction: int, name: str) -> None:
    """Whether the edit plan removes this direction, and the switch that leaves it in place."""
    if layer not in edit.layers or direction >= edit.rank:
        why = "Its layer is not edited" if layer not in edit.layers else "Beyond the edit's rank"
        st.html(f'<span class="aside">{why}</span>', width="content")
        return
    state.mirror(name, (layer, direction) not in edit.switched_off)

    def take() -> None:
        one, off = frozenset({(layer, direction)}), state.view().edit.switched_off
        state.change_edit(switched_off=off - one if st.session_state[name] else off | one)

    help = "Switched off, this direction stays in place although the rank covers it."
    st.toggle("Remove", key=name, on_change=take, help=help)


def draw_pin(layer: int, direction: int, name: str) -> None:
    held = (layer, direction) in pins()
    st.button(
        "Unpin" if held else "Pin",
        key=name,
        icon=":material/keep_off:" if held else ":material/keep:",
        type="tertiary",
        on_click=change_pin,
        args=(layer, direction),
        help="Pinned directions stay above, whatever layer is picked.",
    )


def find_evidence(entry) -> poles.Evidence:
    from detox_engine.separation import knows_poles

    agreeing = None
    if study.embeddings is not None:
        agreeing = cache.separation(key, study.made, entry.layer).agreeing[entry.direction]
    return poles.Evidence(len(study.pairs), agreeing, knows_poles(entry.polarity, len(study.pairs)))


def draw_likeness(entry) -> None:
    """How nearly this direction is a pinned one; all layers write into one residual stream, so they compare."""
    others = [pin for pin in pins() if pin != (entry.layer, entry.direction)]
    if not others:
        return
    own = study.subspaces[entry.layer].basis[entry.direction]
    cosines = {pin: float(study.subspaces[pin[0]].basis[pin[1]] @ own) for pin in others}
    layer, direction = nearest = max(cosines, key=lambda pin: abs(cosines[pin]))
    st.html(
        f'<p class="aside">Most like the pinned direction {direction + 1} of layer {layer}: '
        f"cosine {poles.signed(cosines[nearest])}</p>"
    )


def draw_pairs(entry) -> None:
    with st.expander("Pairs it separates most"):
        if study.embeddings is None:
            st.caption("This study was fitted without keeping the texts' embeddings, so its pairs cannot be ranked.")
            return
        found = cache.separation(key, study.made, entry.layer)
        ranked = [(study.pairs[index], times) for index, times in found.rank_pairs(entry.direction)]
        st.html(poles.pairs_html([(pair, times) for pair, times in ranked[:APART] if times > 0]))
        against = [(pair, times) for pair, times in ranked[: -AGAINST - 1 : -1] if times < 0]
        if against:
            st.caption("The other way round, with the toxic text nearer to the civil pole:")
            st.html(poles.pairs_html(against))


def draw_pins() -> None:
    if not pins():
        return
    st.subheader("Pinned", anchor=False)
    columns = st.columns(2)
    for index, (layer, direction) in enumerate(pins()):
        with columns[index % 2]:
            draw_card(read(layer)[direction], pinned=True)


def draw_cards() -> None:
    found = read(layer)
    st.subheader(f"Layer {layer}", anchor=False)
    draw_doubt(found)
    first = min(max(edit.rank, A_FEW), MANY, len(found))
    shown = found if st.session_state.get("directions_all") else found[:first]
    for start in range(0, len(shown), 2):
        for column, entry in zip(st.columns(2), shown[start : start + 2], strict=False):
            with column:
                draw_card(entry)
    with st.container(horizontal=True, vertical_alignment="center"):
        if len(found) > first:
            st.toggle(f"Show all {len(found)} directions", key="directions_all", persist_state="session")
        st.download_button(
            "Download as CSV",
            csv_of(found),
            f"directions_layer_{layer}.csv",
            "text/csv",
            key="directions_csv",
            icon=":material/download:",
            on_click="ignore",
        )


def draw_doubt(found) -> None:
    """Say so where the labels of the pairs do not settle which pole is which."""
    if all(entry.polarity < poles.PARTLY for entry in found[: edit.rank]):
        st.warning(
            f"In layer {layer} the strongest directions hardly tell toxic from civil, so read the names of their poles "
            "with care. Pairs whose labels are often swapped look like this too: the directions stay as they are, "
            "but which pole is toxic becomes uncertain.",
            icon=":material/warning:",
        )


def csv_of(found) -> str:
    """Every token of every direction as a row; the tokens in full, whatever is blurred on the page."""
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["layer", "direction", "singular_value", "share", "polarity", "pole", "token", "score"])
    for one in found:
        numbers = [one.layer, one.direction, one.singular_value, one.share, one.polarity]
        for pole, ends in (("toxic", one.reading.toxic_pole), ("civil", one.reading.civil_pole)):
            rows.writerows([*numbers, pole, end.token, end.score] for end in ends)
    return out.getvalue()


def draw_mean() -> None:
    with st.container(border=True):
        st.html('<h3 class="card">What centring keeps out: the mean direction</h3>')
        st.caption(
            "What civil texts have in common, mostly frequent words and punctuation. The edit leaves it in place: "
            "removing it would hurt fluency."
        )
        reading = cache.mean_reading(key, study.made, layer, measure, through_norm)
        st.html(poles.poles_html(reading, "Along it", "Against it", sided=False))


frame.open_page("Directions", "What do they mean?")
study = frame.require_study()
key, edit = state.view().study_key, state.view().edit
layer = pick_layer()
measure, through_norm = pick_reading()
if edit.switched_off.issuperset((layer, direction) for layer in edit.layers for direction in range(edit.rank)):
    st.warning("Every direction of the edit plan is switched off, so it removes nothing.", icon=":material/warning:")
draw_pins()
draw_cards()
draw_mean()
frame.explain(
    "Each direction is read by comparing it with the vector of every token in the vocabulary: the toxic pole lists "
    "the tokens that lie furthest along it, the civil pole those furthest against it; a space is shown as ·. "
    "The polarity says how surely the direction parts the two sides: near 1 toxic texts lie on its positive side in "
    "almost every pair, near 0 it varies within toxic text. "
    "A score compares tokens within one direction; scores of different layers have different scales.",
    r"\text{score}(\text{token}) = \langle v,\, u_{\text{token}} \rangle, \qquad "
    r"\text{polarity} = \frac{|\,\overline{T v}\,|}{\sqrt{\overline{(T v)^2}}}",
)
