"""A person's notes on directions: kept on this machine with the study, whenever and by whomever it is opened."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.errors import InputError
from detox_engine.plans.fit import FitPlan
from detox_engine.study.notes import LONGEST, find_note, write_note
from ui.session import state
from ui.session.folders import cache_folder
from ui.show import notes
from ui.words.rude_words import find_rude_words
from ui.words.text import text_html

if TYPE_CHECKING:
    from detox_engine.study.study import Study


def find_folder(study: Study) -> Path:
    """Where notes on the directions of these weights, these pairs, this way of embedding them and this method lie."""
    plan = study.plan
    # Notes on DeTox's directions are older than the choice of a method.
    method = () if plan.method == FitPlan.method else (plan.method,)
    answers = repr((study.model.weights_hash, study.pairs_hash, plan.max_length, plan.pooling, *method))
    return cache_folder() / "notes" / hashlib.sha256(answers.encode()).hexdigest()[:32]


def draw_glance(study: Study, layer: int, direction: int) -> None:
    """What was noted, on the card itself; nothing where there is no note, or none that can be read."""
    try:
        note = find_note(find_folder(study), layer, direction)
    except InputError:
        return
    if note:
        st.html(f'<p class="note" dir="auto">{text_html(note)}</p>')


def draw_field(study: Study, layer: int, direction: int) -> None:
    """The field to write in. What is typed is kept as soon as the field is left, by a click anywhere."""
    folder = find_folder(study)
    key = f"note_{folder.name[:8]}_{layer}_{direction}"
    unsaved, seen, errors = (st.session_state.setdefault(f"notes_{kind}", {}) for kind in ("unsaved", "seen", "errors"))
    if key not in st.session_state:
        try:
            seen[key] = find_note(folder, layer, direction)
        except InputError as error:
            notes.draw_error(str(error))
            return
        start = unsaved.get(key, seen[key])
        if find_rude_words([start]) and not state.shows_words():
            _offer_field(key, start)
            return
        st.session_state[key] = start

    def save() -> None:
        errors.pop(key, None)
        try:
            kept = write_note(folder, study, layer, direction, st.session_state[key], seen[key])
        except InputError as error:
            unsaved[key], errors[key] = st.session_state[key], str(error)
            return
        unsaved.pop(key, None)
        st.session_state[key] = seen[key] = kept

    st.text_area(
        f"Note on direction {direction + 1} of layer {layer}",
        key=key,
        max_chars=LONGEST,
        height=110,
        on_change=save,
        placeholder="What this direction means, what to look at next…",
    )
    if key in errors:
        notes.draw_error(errors[key])
    st.caption("Kept on this machine with the study: it is here whenever these directions are opened, for everyone.")


def _offer_field(key: str, start: str) -> None:
    """A field cannot blur words, so a note with toxic ones stays closed until somebody wants to change it."""
    st.caption("The note, shown above, has toxic words, and a field cannot blur them.")
    st.button(
        "Change the note",
        key=f"open_{key}",
        icon=":material/edit:",
        on_click=lambda: st.session_state.update({key: start}),
    )
