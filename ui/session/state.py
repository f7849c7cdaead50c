"""What a session looks at, kept over reruns and pages, and in the address bar.

The view is the one truth; widgets only mirror it. A widget that is bound to a part of the view is given its value
before it is drawn and writes back in its callback, so changing it anywhere changes it everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any, Literal

import streamlit as st

from detox_engine.errors import InputError
from ui.session import shared_models
from ui.session.links import list_names, read_link, write_link
from ui.session.view import View

if TYPE_CHECKING:
    from detox_engine.study.study import Study


ECHO_SECONDS = 1.0
"""For how long a browser that is asked for something else, such as another page, may still send what a widget held
before the view gave it another value; no hand moves it back as fast."""


def view() -> View:
    """What this session looks at; the first call of a session reads it from the link it was opened with."""
    if "view" not in st.session_state:
        try:
            st.session_state.view = read_link(st.query_params.to_dict())
        except InputError as error:
            st.session_state.view = View()
            st.session_state.link_error = str(error)
    return st.session_state.view


def change_edit(**changes: Any) -> None:
    """Change parts of the edit plan, for every page; only callbacks do this, so that a run sees one plan."""
    edit = view().edit
    if edit is not None:
        put("edit", replace(edit, **changes))


def bind(
    key: str,
    path: str,
    options: Sequence[Any] = (),
    show: Callable[[Any], Any] = lambda part: part,
    take: Callable[[Any], Any] = lambda value: value,
    begins: Literal["value", "index", "default"] = "value",
) -> dict[str, Any]:
    """Settings of the widget `key` with which it shows the view's part `path` and changes it.

    The widget must be given no value of its own and no other callback.

    Args:
        options: what the widget offers, last of all None where it may stand empty; the first is shown where the part
            is none of them.
        show: makes the widget's value of the part; within what the widget can show.
        take: makes the part of the widget's value.
        begins: what the widget calls the value that it begins with; an `index` is that among the `options`.
    """
    shown = show(view()[path])
    if options and shown not in options:
        shown = options[0]
    # Left alone where it shows this, so that a slider in motion never jumps.
    differs = st.session_state.get(key) != shown
    if differs and key in st.session_state:
        _replaced()[key] = st.session_state[key], time.monotonic()
    if differs or key in _given():
        _given().add(key)
        st.session_state[key] = shown
    # A value that is given to a widget comes with one run alone: a browser that gets two at once, as a slow one does,
    # has lost it by the time it makes the widget, and would show, and send back, the least value of a slider.
    beginning = options.index(shown) if begins == "index" and shown is not None else shown
    return {"key": key, "on_change": lambda: _take(key, path, take), begins: beginning}


def _take(key: str, path: str, take: Callable[[Any], Any]) -> None:
    """What a person did to a widget; what it held before the view gave it another value comes from no person."""
    value = st.session_state[key]
    # Its browser shows it, and may be asked for more of it by now.
    _given().discard(key)
    before, when = _replaced().get(key, (None, -inf))
    if value != before or time.monotonic() - when > ECHO_SECONDS:
        put(path, take(value))


def _replaced() -> dict[str, tuple[Any, float]]:
    """By a widget's key, what it held when the view gave it another value, and when that was."""
    return st.session_state.setdefault("replaced", {})


def end_run() -> None:
    """Say that a run has reached its end; what it drew gets to the browser."""
    _given().clear()


def _given() -> set[str]:
    """Widgets that the view gave a value in runs that did not reach their end.

    Streamlit sends a value that a script gives in that run alone, and drops what it drew where the browser asks for
    the next run before it was sent: on a busy machine that would show, and send back, the least value of a slider.
    """
    return st.session_state.setdefault("given", set())


def put(path: str, value: Any) -> None:
    """Change the view's part `path`; only callbacks do this, so that a run sees one view."""
    st.session_state.view = view().put(path, value)


def shows_words() -> bool:
    """Whether toxic words are shown rather than blurred."""
    return bool(st.session_state.get("show_words", False))


def current_study() -> Study | None:
    """The fitted study of this session's view, if it was there when this run began."""
    key = view().study_key
    return shared_models.shelf().find_study(key) if st.session_state.get("settled") == key else None


def write_address() -> None:
    """Keep the address bar such that it restores this view."""
    wanted, names, now = write_link(view()), list_names(), st.query_params.to_dict()
    if {name: now[name] for name in now if name in names} != wanted:
        st.query_params.from_dict({name: now[name] for name in now if name not in names} | wanted)
