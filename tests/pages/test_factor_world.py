"""The synthetic world on the page of claims: sliders, a verdict of their numbers, a curve; without model or study."""

import json
import re
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from detox_engine.lab.factor_model import draw_world, judge_world, recover_over
from detox_engine.plans.lab.factors import FactorPlan
from detox_engine.plans.option import leaves
from pages.claims import factor_figures
from pages.claims.factor_world import (
    GROUPS,
    describe_recovery,
    describe_standing,
    find_curves,
    judge,
    list_angles,
    list_curves,
    list_values,
)
from tests.pages.conftest import texts
from ui.show.colours import DARK, LIGHT

SLIDERS = [name for names in GROUPS.values() for name in names]
OPTIONS = {leaf.path: leaf for leaf in leaves(FactorPlan())}


def draw_alone(**changes: object):
    import streamlit as st

    from detox_engine.plans.lab.factors import FactorPlan
    from pages.claims.factor_picks import FactorPicks
    from pages.claims.factor_world import show_factor_world
    from ui.frame.page import Page
    from ui.session import state
    from ui.session.view import View
    from ui.show.colours import palette

    if "view" not in st.session_state:
        st.session_state.view = View(pages={"claims": FactorPicks(FactorPlan(**changes))})
    show_factor_world(Page(state.view(), None, palette("light"), False), "claims")


def open_world(**changes: object) -> AppTest:
    session = AppTest.from_function(draw_alone, kwargs=changes, default_timeout=60).run()
    assert not session.exception
    return session


def verdict(session: AppTest) -> str:
    return next(text.value for text in session.markdown if "DeTox" in text.value).replace("\\", "").strip("*")


def chart(session: AppTest, key: str) -> dict:
    return json.loads(next(chart.proto.spec for chart in session.get("plotly_chart") if chart.key == key))


def test_every_option_has_a_widget_and_no_model_or_study_is_needed():
    session = open_world()
    assert {slider.key for slider in session.slider} == {f"factor_{name}" for name in SLIDERS}
    assert {*SLIDERS, "seed"} == {*OPTIONS}
    assert session.number_input(key="factor_seed").value == 0
    assert [chart.key for chart in session.get("plotly_chart")] == ["factor_angles", "factor_spectrum"]


def test_the_verdict_says_the_numbers_of_the_world_drawn():
    told = verdict(open_world())
    plan = FactorPlan()
    found = judge_world(draw_world(plan), plan.rank)
    assert told == (
        f"DeTox finds the planted subspace to within {found.detox[-1]:.0f}°, and the mean difference lies "
        f"{found.mean_difference:.0f}° off; without centring its first direction lies {found.first_uncentred:.0f}° "
        "off: it follows the mean."
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("noise", 3.0, "DeTox does not find the planted subspace"),
        ("noise", 0.05, "DeTox finds the planted subspace to within 2°"),
        ("lean", 0.0, "since the mean is not in the way here"),
        ("pairs", 50, "in part, to within"),
        ("factors", 4, "2 of the 4 planted directions"),
        ("rank", 5, "the planted subspace among 5 directions"),
        ("flipped", 0.5, "the mean difference lies 6"),
        ("sink", 50.0, "its first direction lies 90°"),
    ],
)
def test_a_slider_changes_the_numbers_of_the_verdict_and_what_it_says(name, value, said):
    session = open_world()
    before = verdict(session), chart(session, "factor_angles")
    session.slider(key=f"factor_{name}").set_value(value).run()
    assert not session.exception
    after = verdict(session), chart(session, "factor_angles")
    assert getattr(session.session_state["view"]["claims.world"], name) == value
    assert said in after[0] and said not in before[0]
    assert re.findall(r"\d+°", after[0]) != re.findall(r"\d+°", before[0]) and after[1] != before[1]


def test_the_seed_draws_another_world():
    session = open_world()
    before = chart(session, "factor_angles")
    session.number_input(key="factor_seed").set_value(5).run()
    assert session.session_state["view"]["claims.world.seed"] == 5
    assert chart(session, "factor_angles") != before


@pytest.mark.parametrize("name", SLIDERS)
def test_nothing_raises_at_the_ends_of_a_slider(name):
    session = open_world()
    slider = session.slider(key=f"factor_{name}")
    assert (slider.min, slider.max) == (OPTIONS[name].option.low, OPTIONS[name].option.high)
    for end in (slider.min, slider.max):
        session.slider(key=f"factor_{name}").set_value(end).run()
        assert not session.exception and "°" in verdict(session)


@pytest.mark.parametrize("noise", ["low", "high"])
@pytest.mark.parametrize("pairs", ["low", "high"])
@pytest.mark.parametrize("end", ["low", "high"])
def test_nothing_raises_where_all_options_are_at_an_end(end, pairs, noise):
    ends = {name: OPTIONS[name].kind(getattr(OPTIONS[name].option, end)) for name in SLIDERS}
    ends |= {"pairs": getattr(OPTIONS["pairs"].option, pairs), "noise": getattr(OPTIONS["noise"].option, noise)}
    plan = FactorPlan(**ends)
    found = judge(plan)
    assert "°" in describe_recovery(plan, found) and describe_standing(plan, found).endswith(".")
    for colours in (LIGHT, DARK):
        factor_figures.angles_figure(found, colours).to_json()
        factor_figures.spectrum_figure(found, plan.pairs, colours).to_json()
    for along in ("pairs", "noise", "flipped"):
        curves = recover_over(plan, along, (ends[along], getattr(FactorPlan, along)), 1)
        factor_figures.curve_figure(curves, ends[along], DARK).to_json()


@pytest.mark.parametrize("sink", [0.0, 50.0])
def test_where_neither_way_finds_the_subspace_nothing_is_said_to_be_as_good(sink):
    plan = FactorPlan(pairs=50, noise=1.0, lean=0.0, sink=sink)
    found = judge(plan)
    assert min(found.detox[-1], found.uncentred[-1]) >= found.chance.low
    told = describe_recovery(plan, found)
    assert told.startswith("DeTox does not find") and "no nearer than random subspaces" in told
    assert told.endswith(f"without centring it does not either ({found.uncentred[-1]:.0f}°).")


def test_that_the_mean_is_not_in_the_way_is_said_only_where_it_is_not():
    plan = FactorPlan(lean=0.0)
    found = judge(plan)
    assert "since the mean is not in the way" in describe_recovery(plan, found)
    assert "since the mean" not in describe_recovery(plan, replace(found, uncentred_to_mean=2.0))


def test_as_many_directions_as_stand_out_are_counted_beside_the_true_rank():
    plan = FactorPlan(noise=0.1)
    found = judge(plan)
    assert describe_standing(plan, found).startswith("2 directions stand out from noise, as many as were planted")
    assert describe_standing(plan, replace(found, standing=0)).startswith("No direction stands out from noise, and 2")
    assert "1 direction stands out from noise, and 2 were planted. The others" in describe_standing(
        plan, replace(found, standing=1)
    )
    assert describe_standing(plan, replace(found, standing=3)).endswith("and 2 were planted.")
    assert "no noise" in describe_standing(FactorPlan(noise=0.0), judge(FactorPlan(noise=0.0)))


@pytest.mark.parametrize("along", ["pairs", "noise", "flipped"])
def test_a_curve_is_drawn_where_it_is_asked_for(along):
    session = open_world()
    session.segmented_control(key="factor_curve").set_value(along).run()
    assert not session.exception
    names = [trace["name"] for trace in chart(session, "factor_curve_chart")["data"]]
    assert names == ["Random subspaces", *factor_figures.NAMES]
    assert "Each world was drawn 5 times" in texts(session)
    session.segmented_control(key="factor_curve").set_value("none").run()
    assert [chart.key for chart in session.get("plotly_chart")] == ["factor_angles", "factor_spectrum"]


def test_the_slider_that_a_curve_runs_along_draws_no_new_worlds():
    session = open_world(seed=11)
    session.segmented_control(key="factor_curve").set_value("noise").run()
    drawn = find_curves.cache_info().misses
    session.slider(key="factor_noise").set_value(0.8).run()
    assert find_curves.cache_info().misses == drawn
    session.slider(key="factor_pairs").set_value(200).run()
    assert find_curves.cache_info().misses == drawn + 1


def test_what_lies_beyond_the_top_of_the_spectrum_is_an_arrow_that_tells_its_number():
    plan = FactorPlan(sink=100.0, longer=-0.5)
    figure = factor_figures.spectrum_figure(judge(plan), plan.pairs, LIGHT)
    within, beyond = (trace for trace in figure.data if trace.name == "Without centring")
    assert beyond.marker.symbol == "triangle-up" and len(beyond.x) == 1 and len(within.x) == 15
    assert beyond.customdata[0] > 50 > figure.layout.yaxis.range[1] > beyond.y[0]


def test_the_tables_hold_every_number_of_the_charts():
    plan = FactorPlan()
    found = judge(plan)
    heads, rows = list_angles(found)
    assert all(len(row) == len(heads) for row in rows)
    assert [row[2] for row in rows if row[0] == "DeTox"] == [*found.detox]
    assert [row[2] for row in rows if row[0] == "random subspaces, 97.5 %"] == [found.chance.high]
    heads, rows = list_values(found)
    assert len(rows) == 64 and rows[3] == (
        4,
        found.singular_values[3].item(),
        found.uncentred_values[3].item(),
        found.threshold,
    )
    assert len(heads) == 4
    curves = recover_over(plan, "noise", (0.1, 0.2), 3)
    heads, rows = list_curves(curves)
    assert heads[1] == "noise" and len(list(rows)) == 3 * 2 * 3 + 2
