"""The one picked layer of every page: which it is at first, and the slider that asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from ui.session import state
from ui.session.kept import Kept

if TYPE_CHECKING:
    from detox_engine.study.study import Study


FIRST: Kept[tuple[str, str, str], int] = Kept(32)
"""The layer that is picked at first, by study."""


def picked_layer(study: Study) -> int:
    """The one picked layer of every page: the one that parts the sides best, until another is picked."""
    layer = state.view().layer
    if layer is not None:
        return layer
    return FIRST.find_or_make((study.model.weights_hash, study.pairs_hash, study.made), lambda: _find_first(study))


def tell_first(study: Study) -> str:
    """Why the picked layer is the one it is, within a sentence; empty where somebody picked it."""
    if state.view().layer is not None or study.layers == 1:
        return ""
    why = "the suggestion ends there" if study.embeddings is None else (
        "its first direction alone sets the sides farthest apart"
    )  # fmt: skip
    return f"Layer {picked_layer(study)} is picked at first, since {why}"


def _find_first(study: Study) -> int:
    """Of a study that kept no embeddings the last layer of what is suggested."""
    if study.embeddings is None:
        return study.suggested_edit.layers[-1]
    from detox_engine.reading.probe import find_parting_layer

    return find_parting_layer(study.embeddings, [subspace.basis[0] for subspace in study.subspaces])


def pick_layer(study: Study, key: str, width: int | str = "stretch") -> int:
    """The one picked layer, by a slider; where there is one layer alone, nothing is asked."""
    if study.layers > 1:
        bound = state.bind(key, "layer", show=lambda layer: picked_layer(study))
        st.slider("Layer", 0, study.layers - 1, width=width, **bound)
    return picked_layer(study)
