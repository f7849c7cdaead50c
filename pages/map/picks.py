"""The picks of the Map page: how texts are laid out, in which states they are shown, and with what lines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import streamlit as st

from detox_engine.plans.option import option_of
from detox_engine.plans.read import MapPlan
from pages.map.work import BEFORE, TITLES
from ui.session import state
from ui.session.picks import Picks, part, pick
from ui.widgets.option import ask

if TYPE_CHECKING:
    from detox_engine.study.study import Study

METHODS = {"directions": "Toxic directions", "pca": "PCA", "umap": "UMAP"}
Lines = Literal["none", "pairs", "moves"]
LINES = {"none": "None", "pairs": "Join the twins", "moves": "Before to after"}
NUMBERS = {"neighbours": "Neighbours", "spread": "Least distance", "seed": "Seed"}


@dataclass(frozen=True)
class MapPicks(Picks):
    """How texts are laid out, and what is drawn of them."""

    layout: Literal["pca", "umap", "directions"] = pick(
        "directions",
        "map",
        "PCA is a flat shadow, fitted without knowing the sides. UMAP keeps neighbours near. Toxic directions are "
        "the first two of the layer, found from these very pairs.",
        words=METHODS,
    )
    plan: MapPlan = part(MapPlan)
    """Its method is that of `layout`, where that is one."""
    states: tuple[Literal["before", "after", "on paper"], ...] = pick(("before", "after"), "states", words=TITLES)
    lines: Lines = pick("none", "lines", words=LINES)
    together: bool = pick(
        False,
        "together",
        "All states in one picture: hollow before, full after, with a dot where it is computed alone.",
    )
    play: bool = pick(False, "play", "All layers one after the other, turned so that the eye can follow a text.")

    def within(self, study: Study) -> MapPicks:
        return self if study.kept > 1 or self.layout != "directions" else replace(self, layout="pca")


def pick_plan(study: Study) -> MapPlan | None:
    """How texts are laid out; None lays them along the first two directions, which needs no layout."""
    methods = [name for name in METHODS if name != "directions" or study.kept > 1]
    chosen = ask("map.layout", "Layout", "map_method", options=methods)
    if chosen == "directions":
        return None
    with st.popover("Settings of the layout", icon=":material/tune:"):
        frame = option_of(MapPlan, "frame")
        st.radio(
            "Fit the layout on", list(frame.words), format_func=frame.words.get, help=frame.sentence,
            **state.bind("map_frame", "map.plan.frame"),
        )  # fmt: skip
        if chosen == "umap":
            for name, label in NUMBERS.items():
                ask(f"map.plan.{name}", label, f"map_{name}")
    plan = state.view()["map.plan"]
    return replace(plan, method="umap") if chosen == "umap" else MapPlan(frame=plan.frame)


def pick_states() -> tuple[str, ...]:
    """Which of the states that are there the map shows; before the edit where none is picked."""
    chosen = st.pills(
        "Show", list(TITLES), selection_mode="multi", format_func=TITLES.get,
        help="By the edited model: it read every text again. Computed alone: the edit's directions are taken out of "
        "the embeddings, and no model is run.",
        **state.bind("map_states", "map.states", show=list, take=tuple),
    )  # fmt: skip
    return tuple(name for name in TITLES if name in chosen) or (BEFORE,)


def pick_looks(study: Study, several: bool) -> tuple[str, bool, bool]:
    """Which lines are drawn, whether all states are in one picture, and whether the layers play.

    Args:
        several: whether there are several states to be put into one picture.
    """
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        together = several and ask("map.together", "One over the other", "map_together")
        kinds = [name for name in LINES if name != "moves" or together]
        lines = st.selectbox(
            "Lines", kinds, format_func=LINES.get, width=180, **state.bind("map_lines", "map.lines", kinds)
        )
        playing = study.layers > 1 and ask("map.play", "Play through the layers", "map_play")
    return lines, together, playing
