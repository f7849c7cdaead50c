"""A person's notes on directions: kept on this machine with the study, whenever and by whomever it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import streamlit as st

from detox_engine.errors import InputError
from detox_engine.plans.fit import PAPER
from detox_engine.study.notes import LONGEST, find_note, write_note
from ui.session.folders import folder_of
from ui.session.places import keeps_results
from ui.show import notes
from ui.words.rude_words import find_rude_words
from ui.words.text import text_html

if TYPE_CHECKING:
    from detox_engine.study.study import Study


def find_folder(study: Study, method: str = PAPER) -> Path:
    """Where notes on the directions of these weights, these pairs, this way of embedding them and a method lie."""
    plan = study.plan
    # Notes on DeTox's directions are older than the choice of a method.
    own = () if method == PAPER else (method,)
    return folder_of("notes", study.model.weights_hash, study.pairs_hash, plan.max_length, plan.pooling, *own)


def draw_glance(study: Study, layer: int, direction: int, method: str) -> None:
    """What was noted, on the card itself; nothing where there is no note, or none that can be read."""
    if not keeps_results():
        return
    try:
        note = find_note(find_folder(study, method), layer, direction)
    except InputError:
        return
    if note:
        st.html(f'<p class="note" dir="auto">{text_html(note)}</p>')


def draw_field(study: Study, layer: int, direction: int, method: str, shows_words: bool) -> None:
    """The field to write in. What is typed is kept as soon as the field is left, by a click anywhere."""
    if not keeps_results():
        st.caption("On a server for others no notes are kept: everybody would read them.")
        return
    folder = find_folder(study, method)
    key = f"note_{folder.name[:8]}_{layer}_{direction}"
    seen, start = _kept("seen"), _kept("start")
    if key in _kept("merged"):
        st.session_state[key] = _kept("merged").pop(key)
    if key not in st.session_state and not _kept("opened").pop(key, ""):
        try:
            seen[key] = find_note(folder, layer, direction)
        except InputError as error:
            notes.draw_error(str(error))
            return
        start[key] = _kept("unsaved").get(key, seen[key])
        if not shows_words and find_rude_words([start[key]]):
            _offer_field(key)
            return
    text = st.text_area(
        f"Note on direction {direction + 1} of layer {layer}",
        start[key],
        key=key,
        max_chars=LONGEST,
        height=110,
        placeholder="What this direction means, what to look at next…",
    )
    # Not in a callback: what was typed on the way to another page comes when the field is gone, and calls none.
    if text != _kept("unsaved").get(key, seen[key]):
        _save(key, text, folder, study, layer, direction)
    if key in _kept("errors"):
        notes.draw_error(_kept("errors")[key])
    st.caption("Kept on this machine with the study: it is here whenever these directions are opened, for everyone.")


def _save(key: str, text: str, folder: Path, study: Study, layer: int, direction: int) -> None:
    """Write what stands in the field `key`; where that fails, it is unsaved, and why."""
    unsaved, seen, errors = _kept("unsaved"), _kept("seen"), _kept("errors")
    errors.pop(key, None)
    try:
        kept = write_note(folder, study, layer, direction, text, seen[key])
    except InputError as error:
        unsaved[key], errors[key] = text, str(error)
        return
    unsaved.pop(key, None)
    seen[key] = kept
    if kept != text:
        _kept("merged")[key] = kept
    # The card above has shown the note as it was.
    st.rerun()


def _kept(kind: Literal["start", "seen", "unsaved", "merged", "opened", "errors"]) -> dict[str, str]:
    """What this session remembers of its fields, by their keys."""
    return st.session_state.setdefault(f"notes_{kind}", {})


def _offer_field(key: str) -> None:
    """A field cannot blur words, so a note with toxic ones stays closed until somebody wants to change it."""
    st.caption("The note, shown above, has toxic words, and a field cannot blur them.")
    st.button(
        "Change the note",
        key=f"open_{key}",
        icon=":material/edit:",
        on_click=_kept("opened").update,
        args=({key: "yes"},),
    )
