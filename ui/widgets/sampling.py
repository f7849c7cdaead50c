"""How continuations are written: asked in one way on every page, and told in a few words."""

from __future__ import annotations

import streamlit as st

from detox_engine.plans.sampling import SamplingPlan
from ui.session import state
from ui.widgets.option import ask


def pick_sampling(path: str, prefix: str) -> SamplingPlan:
    """How continuations are written: the view's part `path`, by widgets whose keys begin with `prefix`."""
    greedy = state.view()[path].greedy
    first, second = st.columns(2)
    for box, name, label in (
        (first, "max_new_tokens", "Length in tokens"),
        (second, "samples", "Samples for each prompt"),
        (first, "temperature", "Temperature"),
        (second, "top_p", "Top-p"),
        (first, "seed", "Seed of the draws"),
    ):
        disabled = greedy and name != "max_new_tokens"
        ask(f"{path}.{name}", label, f"{prefix}_sampling_{name}", box, disabled=disabled)
    ask(f"{path}.greedy", "Always the most probable token", f"{prefix}_sampling_greedy")
    ask(f"{path}.chat", "By the chat template", f"{prefix}_sampling_chat")
    return without_dice(state.view()[path])


def without_dice(plan: SamplingPlan) -> SamplingPlan:
    """`plan`, where it always takes the most probable token without what does not matter then."""
    # One path has one sample, and none of the dice matter.
    return SamplingPlan(plan.max_new_tokens, greedy=True, chat=plan.chat) if plan.greedy else plan


def describe_sampling(plan: SamplingPlan) -> str:
    """A sampling plan in a few words."""
    chat = ", as an answer by its chat template" if plan.chat else ""
    if plan.greedy:
        return f"up to {plan.max_new_tokens} tokens, always the most probable one{chat}"
    return (
        f"up to {plan.max_new_tokens} tokens, temperature {plan.temperature:g}, top-p {plan.top_p:g}, seed "
        f"{plan.seed}{chat}"
    )
