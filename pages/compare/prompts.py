"""What Compare lets the model continue."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.data.bundled import find_prompt_sets
from detox_engine.data.texts import read_prompts
from detox_engine.errors import InputError
from detox_engine.plans.sources import BUNDLED
from ui.session import state
from ui.show import notes
from ui.widgets.option import ask
from ui.widgets.written import ask_words

if TYPE_CHECKING:
    from pages.compare.picks import ComparePicks

OWN = "own"
PROMPTS_AT_FIRST = 20
SETS_IN_WORDS = {
    "hostile": "Openings that the bundled model often continues rudely.",
    "plain": "Openings that the bundled model mostly continues civilly.",
    "everyday": "Openings that invite a rude continuation without being rude themselves.",
}


def pick_prompts(model: str) -> tuple[str, ...]:
    """A draw from bundled prompts, or a person's own; none while they have written none."""
    sets = find_prompt_sets(model)
    kinds = [*sets, OWN]
    kind = st.segmented_control(
        "Prompts",
        kinds,
        format_func=lambda kind: "Your own" if kind == OWN else kind.capitalize(),
        required=True,
        label_visibility="collapsed",
        **state.bind(f"prompts_kind_{len(sets)}", "compare.prompts", kinds, begins="default"),
    )
    if kind == OWN:
        example = "The driver who took my parking space is"
        given = ask_words("compare.own", "One prompt a line", "prompts_own", height=150, placeholder=example)
        if model == BUNDLED:
            st.caption(
                "The bundled model knows a small world, of people, plans and soups: prompts from elsewhere lead it "
                "astray. The bundled prompts show what it can go on with."
            )
        return tuple(dict.fromkeys(line.strip() for line in given.splitlines() if line.strip()))
    st.caption(SETS_IN_WORDS[kind])
    try:
        prompts = tuple(dict.fromkeys(read_prompts(str(sets[kind]), sets[kind])))
    except InputError as error:
        notes.draw_error(str(error))
        return ()
    return _draw_prompts(prompts, kind)


def count_prompts(model: str, picks: ComparePicks) -> int:
    """How many prompts are picked."""
    sets = find_prompt_sets(model)
    kind = picks.prompts if picks.prompts in (*sets, OWN) else next(iter(sets))
    if kind == OWN:
        return len(dict.fromkeys(line.strip() for line in picks.own.splitlines() if line.strip()))
    try:
        most = len(dict.fromkeys(read_prompts(str(sets[kind]), sets[kind])))
    except InputError:
        return 0
    return min(picks.count or PROMPTS_AT_FIRST, most)


def _draw_prompts(prompts: Sequence[str], kind: str) -> tuple[str, ...]:
    """A sample of `prompts` in their order, its size and seed chosen here."""
    first, second = st.columns(2)
    most = len(prompts)
    bound = state.bind(
        f"prompts_count_{kind}", "compare.count", show=lambda count: min(count or PROMPTS_AT_FIRST, most)
    )
    count = first.number_input(f"How many of the {most:,}", 1, most, step=10, **bound)
    seed = ask("compare.draw", "Seed of the choice", "prompts_seed", second)
    chosen = random.Random(seed).sample(range(most), count)
    return tuple(prompts[index] for index in sorted(chosen))
