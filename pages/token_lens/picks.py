"""The picks of the Token lens: which texts are looked at, and what colours them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import streamlit as st

from detox_engine.data.bundled import find_prompt_sets
from detox_engine.data.texts import read_prompts
from detox_engine.errors import InputError
from ui.session import state
from ui.session.picks import WRITTEN, Picks, pick
from ui.show import notes
from ui.show.tinted import Measure
from ui.widgets.option import ask
from ui.widgets.settings import fold_settings
from ui.widgets.written import ask_words
from ui.words.rude_words import mask

if TYPE_CHECKING:
    from detox_engine.study.study import Study
    from ui.session.view import View

LONGEST_FIELD = 200_000
MOST_SHOWN = 160
"""Characters of a text in a list."""


@dataclass(frozen=True)
class TokenLensPicks(Picks):
    """The text that is looked at, and what colours it; the direction and the layer are the view's."""

    kind: Literal["pair", "prompt", "own"] = pick(
        "pair", "lens", words={"pair": "A pair", "prompt": "A prompt", "own": "Your own words"}
    )
    pair: int = pick(1, "pair", low=1)
    """Number of the pair, from 1."""
    prompts: Literal["hostile", "plain", "everyday"] | None = pick(None, "lens_prompts")
    """A set of bundled prompts; None stands for the first that suits the model."""
    prompt: int = pick(1, "lens_prompt", low=1)
    """Number of the prompt in its set, from 1."""
    own: str = pick("", "text", form=WRITTEN)
    second: str = pick("", "second", form=WRITTEN)
    measure: Literal["direction", "length"] = pick(
        "direction",
        "colour",
        "The projection on one direction has a sign: toward toxic or toward civil. The length on the subspace of "
        "the first directions has none.",
        words={"direction": "Along one direction", "length": "Length on the subspace"},
    )
    rank: int | None = pick(None, "lens_rank", low=1)
    """Directions that the length is taken on; None stands for the study's suggestion."""

    def within(self, study: Study) -> TokenLensPicks:
        rank = None if self.rank is None else min(self.rank, study.kept)
        return replace(self, pair=min(self.pair, len(study.pairs)), rank=rank)

    def of_another_study(self) -> TokenLensPicks:
        return replace(self, pair=1, rank=None)


def pick_texts(study: Study, written: Sequence[tuple[str, ...]]) -> dict[str, str]:
    """One or two texts, by what they are called; none where nothing is written yet.

    Args:
        written: what was written and read before, the latest last.
    """
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        kind = ask("token_lens.kind", "Kind of text", "lens_kind", label_visibility="collapsed")
        if kind == "pair":
            return _pick_pair(study)
    return _pick_own(written) if kind == "own" else _pick_prompt(study)


def _pick_own(written: Sequence[tuple[str, ...]]) -> dict[str, str]:
    _offer_written(written)
    example = "What a day, you utter genius."
    first = ask_words("token_lens.own", "Text", "lens_own", height=100, max_chars=LONGEST_FIELD, placeholder=example)
    label = "A second text to compare it with, if you like"
    second = ask_words("token_lens.second", label, "lens_second", height=68, max_chars=LONGEST_FIELD)
    if not second.strip():
        return {"The text": first} if first.strip() else {}
    return {"The first text": first, "The second text": second}


def _offer_written(written: Sequence[tuple[str, ...]]) -> None:
    """What was read before, to be read again."""
    if not written:
        return
    latest = list(reversed(written))

    def take() -> None:
        if st.session_state.lens_written is not None:
            _take_words(*latest[st.session_state.lens_written])

    st.selectbox(
        "Texts that were read before",
        range(len(latest)),
        index=None,
        format_func=lambda place: mask(" │ ".join(latest[place]), state.shows_words())[:MOST_SHOWN],
        key="lens_written",
        placeholder="Choose one to read it again",
        on_change=take,
    )


def _pick_pair(study: Study) -> dict[str, str]:
    last = len(study.pairs)
    number = ask("token_lens.pair", f"Which of the {last:,} pairs", "lens_pair", max_value=last, width=220)
    pair = study.pairs[number - 1]
    _offer_editing(pair.toxic_text, pair.civil_text)
    return {"The toxic text": pair.toxic_text, "The civil text": pair.civil_text}


def _pick_prompt(study: Study) -> dict[str, str]:
    """One of the bundled prompts that suit the model."""
    sets = find_prompt_sets(state.view().model.name)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        names = list(sets)
        name = st.selectbox(
            "Prompts", names, format_func=str.capitalize, width=160,
            **state.bind(f"lens_prompts_{len(sets)}", "token_lens.prompts", names, begins="index"),
        )  # fmt: skip
        try:
            prompts = read_prompts(str(sets[name]), sets[name])
        except InputError as error:
            notes.draw_error(str(error))
            return {}
        numbers = range(1, len(prompts) + 1)
        chosen = st.selectbox(
            "Prompt", numbers, width=520,
            format_func=lambda number: mask(prompts[number - 1], state.shows_words()),
            **state.bind(
                f"lens_prompt_{name}", "token_lens.prompt", numbers, lambda number: min(number, len(prompts)),
                begins="index",
            ),
        )  # fmt: skip
        _offer_editing(prompts[chosen - 1])
    return {"The prompt": prompts[chosen - 1]}


def _offer_editing(first: str, second: str = "") -> None:
    st.button("Change the words", key="lens_edit", icon=":material/edit:", on_click=_take_words, args=(first, second))


def _take_words(first: str, second: str = "") -> None:
    for path, value in (("token_lens.own", first), ("token_lens.second", second), ("token_lens.kind", "own")):
        state.put(path, value)


def pick_measure(study: Study, method: str, view: View, picks: TokenLensPicks) -> Measure:
    """The folded bar: what colours the tokens, the projection on one direction of a method's or the length on its
    first ones."""
    kept, usual = study.kept_of(method), study.suggested_edit.rank
    direction = min((view.direction or 0) + 1, kept)
    rank = min(picks.rank or usual, kept)
    said = f"along direction {direction}" if picks.measure == "direction" else f"length on {rank} directions"
    with fold_settings(said, "lens_settings"):
        kind = ask("token_lens.measure", "Colour by", "lens_measure")
        if kind == "direction":
            bound = state.bind(
                "lens_direction", "direction", show=lambda chosen: min((chosen or 0) + 1, kept),
                take=lambda number: number - 1,
            )  # fmt: skip
            return Measure(True, st.number_input("Direction", 1, kept, width=140, **bound) - 1)
        bound = state.bind("lens_rank", "token_lens.rank", show=lambda chosen: min(chosen or usual, kept))
        return Measure(False, st.number_input("Directions", 1, kept, width=140, **bound))
