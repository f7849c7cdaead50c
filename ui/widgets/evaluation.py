"""What an edit is measured with: the picks of every page that measures, and the widgets that ask for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import streamlit as st

from detox_engine.data.files import READERS
from detox_engine.plans.choice import Choice
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.option import leaves
from detox_engine.plans.sources import BUNDLED, TextSpec
from detox_engine.scoring.scorers import choose, scorers
from ui.session import state
from ui.session.picks import Picks, offered, part, pick
from ui.session.places import check_names
from ui.widgets.option import ask, ask_all, ask_name
from ui.widgets.sampling import pick_sampling, without_dice
from ui.widgets.uploads import pick_file

Source = Literal["bundled", "file", "hub"]
SOURCES = {"bundled": "Bundled", "file": "Own file", "hub": "Hub data set"}


@dataclass(frozen=True)
class MeasurePicks(Picks):
    """What an edit is measured with, whole or still to be completed."""

    plan: EvaluationPlan = part(EvaluationPlan)
    """Its scorers by the name alone. Where it names prompts or neutral text, they are the data set to take once it is
    to be one of the Hub."""
    options: Mapping[str, Any] = offered(scorers)
    prompts_from: Source = pick("bundled", "prompts_from", words=SOURCES)
    prompts_file: str = ""
    """Where an upload is kept; it is in no link."""
    neutral_from: Source = pick("bundled", "neutral_from", words=SOURCES)
    neutral_file: str = ""

    def complete(self) -> EvaluationPlan | None:
        """The plan, without what is picked but not in use; None while a file or a name is missing.

        Raises:
            InputError: the picks do not go together.
        """
        prompts = _source(self.prompts_from, self.prompts_file, self.plan.prompts)
        source = _source(self.neutral_from, self.neutral_file, self.plan.neutral.source)
        if prompts is None or source is None:
            return None
        neutral = TextSpec(source, limit=self.plan.neutral.limit)
        if self.neutral_from == "hub":
            neutral = replace(self.plan.neutral, source=source)
        elif not source.endswith(".txt") and source != BUNDLED:
            neutral = replace(neutral, column=self.plan.neutral.column)
        sampling = without_dice(self.plan.sampling)
        plan = replace(self.plan, prompts=prompts, neutral=neutral, sampling=sampling).with_options(self.options)
        check_names(_list_places(choose(plan).values()))
        return plan


def _list_places(options: Iterable[Any]) -> Iterator[str]:
    """What scorers' options name that can be a folder or a file of this machine."""
    for leaf in (leaf for own in options for leaf in leaves(own)):
        if leaf.option.may_be_file:
            yield from (leaf.value,) if isinstance(leaf.value, str) else leaf.value or ()


def _source(kind: Source, file: str, name: str) -> str | None:
    return {"bundled": BUNDLED, "file": file or None, "hub": None if name == BUNDLED else name}[kind]


def tell_plan(plan: EvaluationPlan, prompts: int | None) -> str:
    """What an edit is measured with, in a few words.

    Args:
        prompts: how many they are, where that is known.
    """
    samples = "1 text each" if plan.sampling.greedy or plan.sampling.samples == 1 else f"{plan.sampling.samples} each"
    count = "all prompts" if prompts is None else f"{prompts:,} prompt{'s' if prompts != 1 else ''}"
    return f"{len(plan.scorers):,} scorers, {count}, {samples}, seed {plan.sampling.seed}"


def pick_evaluation_plan(path: str, prefix: str) -> EvaluationPlan | None:
    """What to measure with, by the `MeasurePicks` at `path` of the view; None while a file or a name is missing.

    Args:
        prefix: of the widgets' keys.

    Raises:
        InputError: the choices do not go together.
    """
    plan = f"{path}.plan"
    for name in _pick_scorers(plan, prefix):
        ask_all(f"{path}.options.{name}", f"{prefix}_{name}")
    left, right = st.columns(2, gap="large")
    with left:
        _pick_prompts(path, prefix)
    with right:
        _pick_neutral(path, prefix)
    with st.expander("How it writes, and how sure the numbers are", icon=":material/tune:"):
        pick_sampling(f"{plan}.sampling", prefix)
        ask(f"{plan}.control", "Held against", f"{prefix}_control")
        first, second, third = st.columns(3)
        ask(f"{plan}.controls", "Random subspaces drawn", f"{prefix}_controls", first)
        ask(f"{plan}.seed", "Seed of control and intervals", f"{prefix}_seed", second)
        ask(f"{plan}.resamples", "Resamples behind the intervals", f"{prefix}_resamples", third)
    return state.view()[path].complete()


def _pick_scorers(plan: str, prefix: str) -> list[str]:
    bound = state.bind(
        f"{prefix}_scorers",
        f"{plan}.scorers",
        show=_list_names,
        # In the engine's order, so that the order of the clicks changes nothing.
        take=lambda names: tuple(Choice(name) for name in scorers() if name in names),
        begins="default",
    )
    st.pills(
        "Measure",
        list(scorers()),
        selection_mode="multi",
        format_func=lambda name: scorers()[name].title,
        help="\n".join(f"- **{kind.title}**: {kind.sentence}." for kind in scorers().values()),
        **bound,
    )
    return _list_names(state.view()[f"{plan}.scorers"])


def _list_names(choices: Iterable[Choice]) -> list[str]:
    """Those that are here, as lists of them go."""
    names = [choice.name for choice in choices]
    return [name for name in scorers() if name in names]


def _pick_prompts(path: str, prefix: str) -> None:
    kind = ask(f"{path}.prompts_from", "Prompts", f"{prefix}_prompts_kind")
    if kind == "file":
        types = ["txt", "jsonl", "ndjson"]
        pick_file(f"{path}.prompts_file", f"{prefix}_prompts", "A text file with a prompt a line, or JSONL", types)
    elif kind == "hub":
        label, example = "Data set of prompts", "allenai/real-toxicity-prompts"
        ask_name(f"{path}.plan.prompts", label, f"{prefix}_prompts_hub", example)
    ask(f"{path}.plan.limit_prompts", "At most this many prompts", f"{prefix}_limit")


def _pick_neutral(path: str, prefix: str) -> None:
    plan = f"{path}.plan.neutral"
    column: dict[str, Any] = {"path": f"{plan}.column", "label": "Column", "key": f"{prefix}_neutral_column"}
    kind = ask(f"{path}.neutral_from", "Neutral text", f"{prefix}_neutral_kind")
    if kind == "file":
        types = ["txt", *(ending.removeprefix(".") for ending in READERS)]
        label = "A text file with a text a line, or a table"
        file = pick_file(f"{path}.neutral_file", f"{prefix}_neutral", label, types)
        if file and not file.endswith(".txt"):
            ask(**column)
    elif kind == "hub":
        ask_name(f"{plan}.source", "Data set", f"{prefix}_neutral_hub", "Salesforce/wikitext")
        first, second, third = st.columns(3)
        ask(f"{plan}.subset", "Configuration", f"{prefix}_neutral_subset", first)
        ask(f"{plan}.split", "Split", f"{prefix}_neutral_split", second)
        ask(**column, box=third)
    ask(f"{plan}.limit", "At most this many lines", f"{prefix}_neutral_limit")
