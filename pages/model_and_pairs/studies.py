"""The studies that are kept on this machine: opened, named, deleted, and one held beside the one in use."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from pages.model_and_pairs import beside
from ui.frame.page import Page
from ui.session import kept_study, library
from ui.session.kept import Kept
from ui.session.library import LONGEST_NAME, Entry
from ui.session.places import keeps_results
from ui.show import notes
from ui.show.downloads import zip_folder
from ui.words.numbers import file_size
from ui.words.text import escape
from ui.work import fit, jobs

if TYPE_CHECKING:
    from pathlib import Path

    from detox_engine.study.study import Study

LIST = "studies"
SHOWN = 6
"""Studies listed at first."""
HELD: Kept[tuple[Path, str], Study] = Kept(4)
"""Studies that were read to be held beside another."""


def draw_studies(page: Page, study: Study | None) -> None:
    """The list, and the study that is held beside the one in use."""
    entries = library.list_entries(kept_study.ROOM)
    if not entries:
        return
    st.subheader("Studies on this machine", anchor=False)
    size = file_size(sum(entry.size for entry in entries))
    told = "they stay until you delete them" if keeps_results() else "those of a first visit"
    st.caption(f"{len(entries):,} studies, {size}: {told}.")
    notes.draw_failure(LIST)
    shown = st.session_state.get("studies_shown", SHOWN)
    for entry in entries[:shown]:
        _draw_entry(page, study, entry)
    if len(entries) > shown:
        st.button(
            f"Show {min(SHOWN, len(entries) - shown)} more",
            key="more_studies",
            on_click=st.session_state.update,
            kwargs={"studies_shown": shown + SHOWN},
        )
    held = next((entry for entry in entries if entry.folder.name == st.session_state.get("held_study")), None)
    if study is not None and held is not None and not _is_in_use(page, study, held):
        other = _read(held)
        if other is None:
            notes.draw_error("The study that was to be held beside this one can be read no more: delete it.")
        else:
            own = next((entry.title for entry in entries if _is_in_use(page, study, entry)), "The study in use")
            beside.draw_beside(page, (study, other), (own, held.title))


def _draw_entry(page: Page, study: Study | None, entry: Entry) -> None:
    in_use = study is not None and _is_in_use(page, study, entry)
    identity = entry.folder.name[:12]
    running = (job := jobs.find_job("fit")) is not None and job.running
    held = st.session_state.get("held_study") == entry.folder.name
    with st.container(border=True, key=f"study_{identity}"):
        left, right = st.columns([5, 3], vertical_alignment="center")
        left.html(entry_html(entry, in_use))
        with right, st.container(horizontal=True, horizontal_alignment="right"):
            st.button(
                "In use" if in_use else "Open",
                key=f"open_{identity}",
                disabled=in_use or running,
                on_click=partial(fit.begin_fit, entry.key, folder=entry.folder),
            )
            st.button(
                "Beside" if not held else "Put away",
                key=f"beside_{identity}",
                disabled=in_use or study is None,
                on_click=partial(_hold, "" if held else entry.folder.name),
                help="Hold this study beside the one in use.",
            )
            with st.popover("", icon=":material/more_horiz:", help="Name or delete it"):
                _draw_more(entry, in_use, identity)


def _draw_more(entry: Entry, in_use: bool, identity: str) -> None:
    key = f"study_name_{identity}"
    st.text_input(
        "What this study is called",
        entry.name,
        key=key,
        max_chars=LONGEST_NAME,
        placeholder=entry.title,
        on_change=lambda: notes.attempt(lambda: library.name_entry(entry, st.session_state[key]), LIST),
    )
    st.download_button(
        "The study as a file",
        partial(zip_folder, entry.folder, "study"),
        "study.zip",
        "application/zip",
        key=f"download_{identity}",
        icon=":material/download:",
        on_click="ignore",
        help="For another machine, where a link to uploads or folders of this one opens nothing: the commands read it.",
    )
    count = entry.results_kept
    results = f" and its {count:,} results" if count else ""
    st.button(
        f"Delete it{results}",
        key=f"delete_{identity}",
        icon=":material/delete:",
        disabled=in_use,
        help="It is in use: open another one first." if in_use else None,
        on_click=lambda: notes.attempt(lambda: library.delete_entry(entry, kept_study.ROOM), LIST),
    )


def entry_html(entry: Entry, in_use: bool) -> str:
    """One study of the list; what people and models call things is escaped."""
    made = datetime.fromisoformat(entry.made).strftime("%d %b %Y, %H:%M UTC")
    model, pairs = entry.key.names
    count = entry.results_kept
    parts = [
        f"{entry.pairs:,} pairs",
        f"{entry.layers} layers, {entry.hidden} wide",
        made,
        file_size(entry.size),
        f"{count:,} result{'s' if count != 1 else ''}" if count else "no results yet",
    ]
    more = f", {escape(entry.fitted_with)}" if entry.fitted_with else ""
    named = f'<span class="aside"> {escape(model)} × {escape(pairs)}{more}</span>' if entry.name else ""
    mark = ' <span class="chip empty">in use</span>' if in_use else ""
    return (
        f'<div class="study"><b>{escape(entry.title)}</b>{named}{mark}'
        f'<div class="aside">{" · ".join(parts)}</div><div>{escape(entry.told)}</div></div>'
    )


def _is_in_use(page: Page, study: Study, entry: Entry) -> bool:
    return entry.key == page.view.study_key and entry.made == study.made


def _hold(folder: str) -> None:
    st.session_state.held_study = folder


def _read(entry: Entry) -> Study | None:
    place = (entry.folder, entry.made)
    found = HELD.find(place)
    if found is None:
        found = kept_study.read_study(entry.key, entry.folder)
        if found is not None:
            HELD.keep(place, found)
    return found
