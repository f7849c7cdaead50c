"""The widget that asks for an option: which one, its range, its step, its words and its help are those declared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, get_origin

import streamlit as st

from detox_engine.plans.option import ALL, Leaf, leaves
from detox_engine.plans.sources import BUNDLED
from ui.session import state


def ask(
    path: str, label: str, key: str, box: Any = st, show: Callable[[Any], Any] | None = None, **settings: Any
) -> Any:
    """Ask for the view's part `path`, an option of a plan or of picks; returns what it is.

    Args:
        key: of the widget.
        box: where the widget stands.
        show: makes the widget's value of the part, where that is not the part as it is.
        settings: of the widget, beyond what the option declares.
    """
    whole, _, name = path.rpartition(".")
    plan = state.view()[whole]
    leaf = next(leaf for leaf in leaves(plan) if leaf.path == name)
    draw, declared, usual_show, take = _widget(leaf, getattr(type(plan), name))
    declared["help"] = leaf.option.sentence or None
    declared |= settings
    begins = {"selectbox": "index", "multiselect": "default", "segmented_control": "default"}.get(draw, "value")
    options = () if draw == "multiselect" else declared.get("options", ())
    bound = state.bind(key, path, options, show or usual_show, take, begins)
    # What is declared stands over it: a number that may be none has none to begin with.
    getattr(box, draw)(label, **bound | declared)
    return state.view()[path]


def ask_name(path: str, label: str, key: str, example: str) -> None:
    """Ask for the name of something on the Hub; that of what is bundled stands for none yet."""
    ask(path, label, key, show=lambda name: "" if name == BUNDLED else name, help=None, placeholder=example)


def ask_all(path: str, prefix: str) -> None:
    """Ask for every option of the view's part `path`, a kind's own, two a row; widgets' keys begin with `prefix`."""
    for number, leaf in enumerate(leaves(state.view()[path])):
        if number % 2 == 0:
            row = st.columns([2, 1], gap="large")
        ask(f"{path}.{leaf.path}", leaf.title, f"{prefix}_{leaf.path}", row[number % 2])


def _widget(leaf: Leaf, usual: Any) -> tuple[str, dict[str, Any], Callable[[Any], Any], Callable[[Any], Any]]:
    """Which widget suits an option, its settings, and how it shows and takes a value; an empty text is `usual`."""
    option, titles = leaf.option, leaf.option.words or {}

    def same(value: Any) -> Any:
        return value

    def once(values: Iterable[Any]) -> list[Any]:
        return list(dict.fromkeys(values))

    def title(value: Any) -> str:
        return titles.get(value, str(value))

    def read(text: str | None) -> str | None:
        return (text or "").strip() or usual

    if leaf.kind is bool:
        return "toggle", {}, same, same
    if leaf.kind in (int, float):
        bounds = {"min_value": option.low, "max_value": option.high, "step": option.step}
        numbers = {name: None if bound is None else leaf.kind(bound) for name, bound in bounds.items()}
        # Without a value of its own an optional number would show its lowest where nothing is set.
        empty = {"value": None, "placeholder": ALL} if leaf.optional else {}
        return "number_input", numbers | empty, same, same
    if get_origin(leaf.kind) is tuple:
        return "multiselect", {"options": once((*option.offers, *leaf.value)), "accept_new_options": True}, once, tuple
    if leaf.choices:
        return (
            "segmented_control",
            {"options": leaf.choices, "format_func": title, "required": True, "wrap": True},
            same,
            same,
        )
    if option.offers:
        offers = list(dict.fromkeys((*option.offers, leaf.value)))
        return "selectbox", {"options": offers, "accept_new_options": True}, same, read
    return "text_input", {"placeholder": option.empty}, lambda text: text or "", read
