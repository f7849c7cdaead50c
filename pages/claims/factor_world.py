"""The synthetic world of the factor model, to play with: who finds the subspace that was planted?"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from detox_engine.plans.lab.factors import Along, FactorPlan
from detox_engine.plans.option import leaves
from pages.claims import factor_figures as figures
from pages.claims.factor_picks import CURVES
from ui.frame.page import Page
from ui.session import state
from ui.show.chart import draw_chart
from ui.show.downloads import Table
from ui.widgets.option import ask
from ui.words.text import plain

if TYPE_CHECKING:
    from detox_engine.lab.factor_model import Curves, Recovery

GROUPS = {
    "What is drawn": ("pairs", "flipped", "hidden"),
    "What is planted": ("factors", "rank", "contexts"),
    "What is in the way": ("noise", "lean", "longer", "sink"),
}
FORMATS = {"flipped": "percent", "longer": "percent", "lean": "%g", "sink": "%g×"}
"""How sliders write numbers, where that is not Streamlit's way."""
DRAWS = 5
CLOSE, APART = 15.0, 45.0
"""Degrees: a subspace that lies within the first is found; a direction within the second of the mean follows it."""


def show_factor_world(page: Page[Any], path: str) -> None:
    """Sliders of a synthetic world, who finds the planted subspace in it, a verdict, and a curve where it is asked for.

    It needs no model and no study.

    Args:
        path: of the view's part that holds the `FactorPicks`.
    """
    _draw_sliders(path)
    picks = state.view()[path]
    recovery = judge(picks.world)
    _draw_world(picks.world, recovery, page)
    st.markdown(f"**{plain(describe_recovery(picks.world, recovery))}**")
    st.caption(plain(describe_standing(picks.world, recovery)))
    curve = ask(f"{path}.curve", "Angles over many worlds", "factor_curve")
    if curve != "none":
        _draw_curve(picks.world, curve, page)


@lru_cache(128)
def judge(plan: FactorPlan) -> Recovery:
    """Who finds what in the world of a plan; a few hundredths of a second."""
    from detox_engine.lab.factor_model import draw_world, judge_world

    return judge_world(draw_world(plan), plan.rank)


@lru_cache(32)
def find_curves(plan: FactorPlan, along: Along) -> Curves:
    """The curve along an option of a plan."""
    from detox_engine.lab.factor_model import USUAL_VALUES, recover_over

    return recover_over(plan, along, USUAL_VALUES[along], DRAWS)


def _draw_sliders(path: str) -> None:
    """A slider for every option of the plan, in three groups, and the seed as a number."""
    found = {leaf.path: leaf for leaf in leaves(state.view()[f"{path}.world"])}
    for column, (group, names) in zip(st.columns(len(GROUPS), gap="large"), GROUPS.items(), strict=True):
        with column:
            st.caption(group)
            for leaf in map(found.get, names):
                option = leaf.option
                low, high, step = (leaf.kind(bound) for bound in (option.low, option.high, option.step))
                bound = state.bind(f"factor_{leaf.path}", f"{path}.world.{leaf.path}")
                form = FORMATS.get(leaf.path)
                st.slider(leaf.title, low, high, step=step, format=form, help=option.sentence, **bound)
            if group == "What is drawn":
                ask(f"{path}.world.seed", "Seed", "factor_seed")


def _draw_world(plan: FactorPlan, recovery: Recovery, page: Page[Any]) -> None:
    """Left how far each method is from the planted subspace, right what stands out; below one another on a phone."""
    left, right = st.columns(2, gap="large")
    with left:
        st.caption("How far from the planted subspace")
        draw_chart(
            figures.angles_figure(recovery, page.colours),
            "factor_angles",
            "How far from the planted subspace",
            f"Largest principal angle to the planted subspace: DeTox {recovery.detox[-1]:.0f}°, without centring "
            f"{recovery.uncentred[-1]:.0f}°, the mean difference {recovery.mean_difference:.0f}°, random subspaces "
            f"{recovery.chance.mean:.0f}°",
            partial(list_angles, recovery),
            "factor_angles",
        )
    with right:
        st.caption("Which directions stand out")
        draw_chart(
            figures.spectrum_figure(recovery, plan.pairs, page.colours),
            "factor_spectrum",
            "Which directions stand out",
            f"Singular values with and without centring, over the noise band: {recovery.standing} stand out, "
            f"{recovery.planted} were planted",
            partial(list_values, recovery),
            "factor_spectrum",
        )


def describe_recovery(plan: FactorPlan, recovery: Recovery) -> str:
    """Who finds the planted subspace, in one sentence of the numbers of this world."""
    detox, mean, what = recovery.detox[-1], recovery.mean_difference, _name_found(plan, recovery)
    if detox <= CLOSE:
        found = f"DeTox finds {what} to within {detox:.0f}°"
    elif detox < recovery.chance.low:
        found = f"DeTox finds {what} in part, to within {detox:.0f}°"
    else:
        found = f"DeTox does not find {what}: it lies {detox:.0f}° off, no nearer than random subspaces"
    chance = ", no nearer than a random direction" if mean >= recovery.chance_of_one.low else ""
    return f"{found}, and the mean difference lies {mean:.0f}° off{chance}; {_describe_uncentred(recovery)}."


def _name_found(plan: FactorPlan, recovery: Recovery) -> str:
    """What an angle of DeTox's speaks of, by the ranks asked for and planted."""
    asked = len(recovery.detox)
    if asked == recovery.planted:
        # With more directions than planted the angle says whether the planted ones lie among them.
        return "the planted subspace" if plan.rank == asked else f"the planted subspace among {plan.rank} directions"
    return f"{asked} of the {recovery.planted} planted directions"


def _describe_uncentred(recovery: Recovery) -> str:
    first, worst = recovery.first_uncentred, recovery.uncentred[-1]
    if first > recovery.first_detox + CLOSE and recovery.uncentred_to_mean < APART:
        return f"without centring its first direction lies {first:.0f}° off: it follows the mean"
    if recovery.detox[-1] >= recovery.chance.low and worst >= recovery.chance.low:
        return f"without centring it does not either ({worst:.0f}°)"
    if abs(worst - recovery.detox[-1]) < 0.5 and recovery.uncentred_to_mean >= APART:
        return f"without centring it is as good ({worst:.0f}°), since the mean is not in the way here"
    if worst > recovery.detox[-1]:
        return f"without centring it lies {worst:.0f}° off"
    return f"without centring it is no worse ({worst:.0f}°)"


def describe_standing(plan: FactorPlan, recovery: Recovery) -> str:
    """How many directions stand out from noise, beside the true rank, in a sentence."""
    if plan.noise == 0:
        return "This world has no noise, so there is no band that directions could stand out from."
    planted = "1 was planted" if recovery.planted == 1 else f"{recovery.planted} were planted"
    count = recovery.standing
    stand = "No direction stands" if count == 0 else "1 direction stands" if count == 1 else f"{count} directions stand"
    if count == recovery.planted:
        return f"{stand} out from noise, as many as were planted: the true rank can be read off these pairs."
    weak = " The others are too weak for so few pairs or so much noise." if count < recovery.planted else ""
    return f"{stand} out from noise, and {planted}.{weak}"


def _draw_curve(plan: FactorPlan, along: Along, page: Page[Any]) -> None:
    """Angles along one option, all others as they are; the option's own value changes no curve."""
    now = getattr(plan, along)
    # The key of the cache is the same wherever the slider of this option stands.
    with st.spinner("Drawing worlds…"):
        curves = find_curves(replace(plan, **{along: getattr(FactorPlan, along)}), along)
    middle = curves.angles.median(dim=-1).values
    draw_chart(
        figures.curve_figure(curves, now, page.colours),
        "factor_curve_chart",
        f"Who finds the planted subspace: {CURVES[along]}",
        f"Largest principal angle to the planted subspace along {CURVES[along].lower()}, from {curves.values[0]:g} to "
        f"{curves.values[-1]:g}: DeTox from {middle[0, 0]:.0f}° to {middle[0, -1]:.0f}°, without centring from "
        f"{middle[1, 0]:.0f}° to {middle[1, -1]:.0f}°, the mean difference from {middle[2, 0]:.0f}° to "
        f"{middle[2, -1]:.0f}°",
        partial(list_curves, curves),
        f"factor_curve_{along}",
    )
    st.caption(
        f"Each world was drawn {DRAWS} times: a marker is the middle draw, its whisker reaches from the best to the "
        "worst. The grey band holds 95 of 100 random subspaces of the same rank."
    )


def list_angles(recovery: Recovery) -> Table:
    """Every principal angle of every method, and the largest of random subspaces."""
    rows = [
        (name, number, each)
        for name, angles in zip(figures.NAMES, recovery.angles, strict=True)
        for number, each in enumerate(angles, start=1)
    ]
    for name, angle in (("mean", "mean"), ("2.5 %", "low"), ("97.5 %", "high")):
        rows.append((f"random subspaces, {name}", len(recovery.detox), getattr(recovery.chance, angle)))
    return ("method", "number", "principal angle in degrees"), rows


def list_values(recovery: Recovery) -> Table:
    """Every singular value, with and without centring, and the noise threshold of the former."""
    both = zip(recovery.singular_values.tolist(), recovery.uncentred_values.tolist(), strict=True)
    rows = [(number, *pair, recovery.threshold) for number, pair in enumerate(both, start=1)]
    return ("direction", "singular value", "singular value without centring", "noise up to"), rows


def list_curves(curves: Curves) -> Table:
    """The largest principal angle of every method in every draw, and of chance."""
    rows = [
        (name, value, draw, angle)
        for name, of_values in zip(figures.NAMES, curves.angles.tolist(), strict=True)
        for value, angles in zip(curves.values, of_values, strict=True)
        for draw, angle in enumerate(angles, start=1)
    ]
    rows += [
        ("random subspaces, mean", value, None, chance.mean)
        for value, chance in zip(curves.values, curves.chance, strict=True)
    ]
    return ("method", curves.along, "draw", "largest principal angle in degrees"), rows
