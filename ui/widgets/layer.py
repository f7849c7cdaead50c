"""The one picked layer of every page: which it is at first, and the slider that asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from ui.session import state

if TYPE_CHECKING:
    from detox_engine.study.study import Study


def picked_layer(study: Study) -> int:
    """The one picked layer of every page: of the layers suggested for an edit the last, until one is picked."""
    layer = state.view().layer
    return study.suggested_edit.layers[-1] if layer is None else layer


def pick_layer(study: Study, key: str, width: int | str = "stretch") -> int:
    """The one picked layer, by a slider; where there is one layer alone, nothing is asked."""
    if study.layers > 1:
        bound = state.bind(key, "layer", show=lambda layer: picked_layer(study))
        st.slider("Layer", 0, study.layers - 1, width=width, **bound)
    return picked_layer(study)
