"""Widgets that ask how a lab is to be run; quick unless a person asks for more."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.lab.baselines import baselines
from detox_engine.lab.verdicts import title
from detox_engine.plans.option import sentence
from ui.session import state
from ui.widgets.option import ask

if TYPE_CHECKING:
    from detox_engine.study.study import Study


def pick_bench(study: Study, path: str) -> None:
    _pick_methods(path, [*study.offered, *baselines()], "all that can be made here")
    ask(f"{path}.cost", "What all cost alike", f"{path}_cost")
    left, right = st.columns(2, gap="large")
    ask(f"{path}.prompts", "Prompts", f"{path}_prompts", left)
    _pick_training(path, right)


def pick_curve(along: str, called: str, study: Study, path: str) -> None:
    """Methods that fewer pairs or wrong labels change, and what they are fitted on: the list `along`."""
    learning = (name for name, kind in baselines().items() if kind.learns)
    _pick_methods(path, [*study.offered, *learning])
    left, middle, right = st.columns(3, gap="large")
    ask(f"{path}.{along}", called, f"{path}_{along}", left)
    ask(f"{path}.draws", "Draws", f"{path}_draws", left)
    ask(f"{path}.prompts", "Prompts", f"{path}_prompts", middle)
    _pick_training(path, right)


def pick_link(study: Study, path: str) -> None:
    left, middle, right = st.columns(3, gap="large")
    ask(f"{path}.at_steps", "Steps of DPO", f"{path}_at_steps", left)
    ask(f"{path}.few", "Few pairs", f"{path}_few", middle)
    ask(f"{path}.draws", "Draws of these pairs", f"{path}_draws", right)


def pick_centring(study: Study, path: str) -> None:
    left, right = st.columns(2, gap="large")
    ask(f"{path}.ranks", "Ranks", f"{path}_ranks", left)
    ask(f"{path}.prompts", "Prompts", f"{path}_prompts", right)


ASK: dict[str, Callable[[Study, str], None]] = {
    "bench": pick_bench,
    "sample-size": partial(pick_curve, "sizes", "Numbers of pairs"),
    "label-noise": partial(pick_curve, "flipped", "Shares flipped"),
    "dpo-link": pick_link,
    "centring": pick_centring,
}
"""Lab -> what asks for its settings."""


def _pick_methods(
    path: str, offers: list[str], usual: str = "those that the claim is about, as far as they can be made here"
) -> None:
    bound = state.bind(
        f"{path}_methods",
        f"{path}.methods",
        show=lambda names: [name for name in names if name in offers],
        take=lambda names: tuple(name for name in offers if name in names),
        begins="default",
    )
    st.multiselect(
        "Methods",
        offers,
        format_func=title,
        placeholder=usual,
        help=sentence(type(state.view()[path]), "methods"),
        **bound,
    )


def _pick_training(path: str, box: object) -> None:
    ask(f"{path}.training.steps", "Steps of DPO", f"{path}_dpo_steps", box)
    ask(f"{path}.training.rates", "Learning rates of DPO", f"{path}_dpo_rates", box)
