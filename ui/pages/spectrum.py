"""How many directions stand out, and where? Singular values, layer by layer."""

import numpy as np
import streamlit as st

from ui import charts, frame, state

SCALES = {"Share": "shares", "Added up": "cumulative", "Raw value": "values"}
SHOWN_DIRECTIONS = 32
CONFIG = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["zoom", "pan", "select2d", "lasso2d", "zoomIn2d", "zoomOut2d"],
}


def pick_layer() -> int:
    """The layer whose spectrum is drawn: by the slider, or by a click on the heatmap."""
    last = study.layers - 1
    st.session_state.setdefault("spectrum_layer", study.suggested_layers[-1])
    st.session_state.spectrum_layer = min(st.session_state.spectrum_layer, last)
    if last == 0:
        return 0
    return st.slider("Layer", 0, last, key="spectrum_layer", persist_state="session")


def take_click() -> None:
    """A click on the heatmap picks the layer; the selection itself is lost with the next figure."""
    points = st.session_state.spectrum_map["selection"]["points"]
    if points:
        st.session_state.spectrum_layer = int(points[0]["y"])


def describe_suggestion(layer: int, suggested: int) -> str:
    """How many directions of a layer stand out, in a sentence."""
    kept, count = study.subspaces[layer].kept, len(values[layer])
    if suggested == 0:
        return f"At layer {layer} no direction is stronger than chance allows."
    if suggested >= kept:
        return f"At layer {layer} all {kept} directions that were kept are stronger than chance allows."
    one = "1 direction is" if suggested == 1 else f"{suggested} directions are"
    return f"At layer {layer}, {one} stronger than chance allows, of {count}."


frame.open_page("Spectrum", "How many directions stand out, and where?")
study = frame.require_study()
edit = state.view().edit
colours = charts.palette(st.context.theme.type)

scale = SCALES[
    st.segmented_control(
        "Show", list(SCALES), default="Share", key="spectrum_scale", required=True, persist_state="session"
    )
]
values = np.stack([subspace.singular_values.numpy() for subspace in study.subspaces])
heatmap, detail = st.container(), st.container()
with detail:
    layer = pick_layer()
with heatmap:
    st.plotly_chart(
        charts.heatmap_figure(
            charts.scaled(values, scale)[:, :SHOWN_DIRECTIONS], scale, layer, edit.layers, edit.rank, colours
        ),
        key="spectrum_map",
        on_select=take_click,
        selection_mode="points",
        config=CONFIG,
        alt="Heatmap of the spectrum, layers by directions",
    )
    st.caption("A click picks a layer (framed grey). The green frame holds what the edit plan removes.")
with detail:
    suggested = study.suggested_ranks[layer]
    st.plotly_chart(
        charts.spectrum_figure(
            values[layer][:SHOWN_DIRECTIONS], scale, edit.rank if layer in edit.layers else None, suggested, colours
        ),
        key="spectrum_layer_chart",
        config=CONFIG,
        alt=f"Spectrum of layer {layer}; {suggested} directions stand out",
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        if suggested:
            rank = min(suggested, study.kept)
            st.button(
                f"Take rank {rank} for the edit",
                key="take_rank",
                icon=":material/check:",
                on_click=state.change_edit,
                kwargs={"rank": rank},
                disabled=edit.rank == rank,
            )
        st.caption(describe_suggestion(layer, suggested))
frame.explain(
    "Each singular value says how much of the differences between toxic and civil texts lies along one direction; "
    "the square, as a share of all squares, is that direction's share of the variance. "
    "A steep start followed by a long flat tail means that few directions carry what the pairs have in common. "
    "A direction stands out where its singular value is above nearly all of those that shuffled differences give.",
    r"T = U S V, \qquad \text{share}_i = \frac{s_i^2}{\sum_j s_j^2}",
)
