"""How continuations are written: asked in one way on every page, and told in a few words."""

from __future__ import annotations

import streamlit as st

from detox_engine.plans.measure import SamplingPlan
from detox_engine.plans.option import sentence
from ui.session import state


def pick_sampling(path: str, prefix: str) -> SamplingPlan:
    """How continuations are written: the view's part `path`, by widgets whose keys begin with `prefix`."""
    greedy = state.view()[path].greedy

    def ask(column, label: str, name: str, low, high, step, disabled=greedy):
        bound = state.bind(f"{prefix}_sampling_{name}", f"{path}.{name}")
        help = sentence(SamplingPlan, name)
        return column.number_input(label, low, high, step=step, help=help, disabled=disabled, **bound)

    first, second = st.columns(2)
    tokens = ask(first, "Length in tokens", "max_new_tokens", 1, 1024, 5, disabled=False)
    samples = ask(second, "Samples for each prompt", "samples", 1, 100, 1)
    temperature = ask(first, "Temperature", "temperature", 0.05, 5.0, 0.1)
    top_p = ask(second, "Top-p", "top_p", 0.05, 1.0, 0.05)
    seed = ask(first, "Seed of the draws", "seed", 0, None, 1)
    st.toggle(
        "Always the most probable token",
        help=sentence(SamplingPlan, "greedy"),
        **state.bind(f"{prefix}_sampling_greedy", f"{path}.greedy"),
    )
    if greedy:
        # One path has one sample, and none of the dice matter.
        return SamplingPlan(tokens, greedy=True)
    return SamplingPlan(tokens, samples, False, temperature, top_p, seed)


def describe_sampling(plan: SamplingPlan) -> str:
    """A sampling plan in a few words."""
    if plan.greedy:
        return f"up to {plan.max_new_tokens} tokens, always the most probable one"
    return (
        f"up to {plan.max_new_tokens} tokens, temperature {plan.temperature:g}, top-p {plan.top_p:g}, seed {plan.seed}"
    )
