"""The picks of the Map page: how texts are laid out, in which states they are shown, and with what lines."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import streamlit as st

from detox_engine.plans.option import option_of
from detox_engine.plans.read import MapPlan
from pages.map.work import TITLES
from ui.session import state
from ui.session.picks import Picks, part, pick
from ui.widgets.option import ask
from ui.widgets.settings import fold_settings
from ui.work.parting import BEFORE

if TYPE_CHECKING:
    from detox_engine.study.study import Study

METHODS = {"directions": "Toxic directions", "pca": "PCA", "umap": "UMAP"}
Lines = Literal["none", "pairs", "moves"]
LINES = {"none": "None", "pairs": "Join the twins", "moves": "Before to after"}
NUMBERS = {"neighbours": "Neighbours", "spread": "Least distance", "seed": "Seed"}


@dataclass(frozen=True)
class Settings:
    """What the folded bar holds."""

    plan: MapPlan | None
    """How texts are laid out; None lays them along the first two directions, which needs no layout."""
    shown: tuple[str, ...]
    """The states to be shown, those that are not there yet too."""
    lines: Lines
    together: bool
    playing: bool


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


def pick_settings(study: Study, picks: MapPicks, there: Collection[str]) -> Settings:
    """The folded bar.

    Args:
        there: the states that are there.
    """
    states = [name for name in TITLES if name in picks.states and name in there] or [BEFORE]
    said = (
        METHODS[picks.layout].lower() if picks.layout == "directions" else METHODS[picks.layout],
        " and ".join(TITLES[name].split(",")[0].lower() for name in states),
        "all layers in turn" if picks.play else "",
    )
    with fold_settings(", ".join(filter(None, said)), "map_settings"):
        plan = pick_plan(study)
        shown = pick_states()
        several = sum(name in there for name in shown) > 1
        return Settings(plan, shown, *pick_looks(study, several))


def pick_plan(study: Study) -> MapPlan | None:
    """How texts are laid out; None lays them along the first two directions, which needs no layout."""
    methods = [name for name in METHODS if name != "directions" or study.kept > 1]
    chosen = ask("map.layout", "Layout", "map_method", options=methods)
    if chosen == "directions":
        return None
    frame = option_of(MapPlan, "frame")
    st.radio(
        "Fit the layout on", list(frame.words), format_func=frame.words.get, help=frame.sentence,
        **state.bind("map_frame", "map.plan.frame", list(frame.words), begins="index"),
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
        **state.bind("map_states", "map.states", show=list, take=tuple, begins="default"),
    )  # fmt: skip
    return tuple(name for name in TITLES if name in chosen) or (BEFORE,)


def pick_looks(study: Study, several: bool) -> tuple[str, bool, bool]:
    """Which lines are drawn, whether all states are in one picture, and whether the layers play.

    Args:
        several: whether there are several states to be put into one picture.
    """
    together = several and ask("map.together", "One over the other", "map_together")
    kinds = [name for name in LINES if name != "moves" or together]
    bound = state.bind("map_lines", "map.lines", kinds, begins="index")
    lines = st.selectbox("Lines", kinds, format_func=LINES.get, **bound)
    playing = study.layers > 1 and ask("map.play", "Play through the layers", "map_play")
    return lines, together, playing
