"""The one picked layer, asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from ui.session import state

if TYPE_CHECKING:
    from detox_engine.study.study import Study


def pick_layer(study: Study, key: str, width: int | str = "stretch") -> int:
    """The one picked layer, by a slider; where there is one layer alone, nothing is asked."""
    if study.layers > 1:
        bound = state.bind(key, "layer", show=lambda layer: state.picked_layer(study))
        st.slider("Layer", 0, study.layers - 1, width=width, **bound)
    return state.picked_layer(study)
