"""Spectrum: singular values by layer, and the rank they suggest."""

import base64
import json
import shlex

import numpy as np
import pytest
from typer.testing import CliRunner

from detox_engine.cli.main import app as command_line
from detox_engine.plans.commands import STUDY
from tests.pages.conftest import LIMIT, fitted_app, open_app, run_until, texts
from ui.session import shared_models
from ui.words.verdicts import tell_suggestion


def test_without_a_study_the_page_offers_to_fit_one(tiny_folder):
    session = open_app(model=tiny_folder, limit=LIMIT - 1).switch_page("spectrum/page.py").run()
    assert "There is no study to show yet" in texts(session)
    assert not session.button(key="fit_now").disabled
    assert not session.get("plotly_chart")


def test_the_page_draws_all_layers_and_the_picked_one(tiny_folder):
    session = fitted_app(tiny_folder).switch_page("spectrum/page.py").run()
    assert not session.exception
    # How settled the subspace is may be known already: what a session computed is there for all of them.
    assert [chart.key for chart in session.get("plotly_chart")][:2] == ["spectrum_map", "spectrum_layer_chart"]
    session.slider(key="spectrum_layer").set_value(0).run()
    assert "layer 0" in texts(session)


def test_what_stands_out_is_told_beside_the_one_edit_that_is_suggested(tiny_folder):
    session = fitted_app(tiny_folder).switch_page("spectrum/page.py").run()
    told = texts(session).replace("\\", "")
    study = shared_models.shelf().find_study(session.session_state["view"].study_key)
    assert "stands out" in told or "stand out" in told
    assert "no rank to remove" in told and tell_suggestion(study) in told


def test_an_edit_by_another_method_removes_none_of_these_directions(tiny_folder):
    session = fitted_app(tiny_folder, method="fisher", layers="0-1").switch_page("spectrum/page.py").run()
    told = texts(session).replace("\\", "")
    assert "removes directions of another method, Fisher" in told and "green frame" not in told
    assert "Removed by the edit" not in layer_chart(session)


def test_the_edit_plan_and_the_picked_layer_outlast_a_page_change(tiny_folder):
    session = fitted_app(tiny_folder).switch_page("spectrum/page.py").run()
    session.slider(key="spectrum_layer").set_value(1).run()
    session.slider(key="edit_layers_3").set_value((0, 1)).run()
    session.switch_page("model_and_pairs/page.py").run()
    session.switch_page("spectrum/page.py").run()
    assert session.slider(key="spectrum_layer").value == 1
    assert session.slider(key="edit_layers_3").value == (0, 1)
    assert session.session_state["view"].edit.layers == (0, 1)


def layer_chart(session) -> str:
    return next(chart.proto.spec for chart in session.get("plotly_chart") if chart.key == "spectrum_layer_chart")


def test_the_spectrum_shows_the_noise_band_and_one_number_and_what_chance_gives_where_it_is_asked_for(tiny_folder):
    session = fitted_app(tiny_folder, keep=9).switch_page("spectrum/page.py").run()
    assert "Noise band" in layer_chart(session) and "What chance gives" not in layer_chart(session)
    assert "stand out above" in texts(session) or "stands out above" in texts(session)
    assert "than chance allows" not in texts(session) and "--parallel-analysis" not in session.code[0].value
    session.button(key="parallel_analysis").click().run()
    run_until(session, lambda session: "What chance gives" in layer_chart(session))
    assert "stronger than chance allows" in texts(session) and "--parallel-analysis" in session.code[0].value
    # Another layer needs no other run.
    session.slider(key="spectrum_layer").set_value(0).run()
    assert "What chance gives" in layer_chart(session) and "At layer 0, " in texts(session)


def test_the_parallel_analysis_that_a_fit_was_asked_for_is_shown_at_once(tiny_folder):
    session = fitted_app(tiny_folder, parallel_analysis=1).switch_page("spectrum/page.py").run()
    assert "What chance gives" in layer_chart(session)
    assert "parallel_analysis" not in {button.key for button in session.button}


def test_the_spectrum_shows_how_settled_the_subspace_is(tiny_folder):
    session = fitted_app(tiny_folder, rank=2).switch_page("spectrum/page.py").run()
    assert "Would other pairs give the same directions?" in texts(session)
    session.button(key="resample").click().run()
    run_until(session, lambda session: len(session.get("plotly_chart")) == 3)
    assert "drawn anew 20 times" in texts(session)
    # Another rank asks another question.
    session.sidebar.slider(key=next(s.key for s in session.sidebar.slider if s.label == "Rank")).set_value(1).run()
    assert len(session.get("plotly_chart")) == 2 and not session.button(key="resample").disabled


def test_page_and_command_line_agree_on_every_singular_value(tiny_folder, tmp_path):
    session = fitted_app(tiny_folder, scale="values").switch_page("spectrum/page.py").run()
    lines = next(code.value for code in session.code if "detox fit" in code.value).splitlines()
    runner = CliRunner()
    for line in lines:
        command = [str(tmp_path / "study") if part == STUDY else part for part in shlex.split(line)][1:]
        outcome = runner.invoke(command_line, command)
        assert outcome.exit_code == 0, outcome.output
    entries = json.loads(outcome.stdout)
    told = np.array([entry["singular_value"] for entry in entries]).reshape(entries[-1]["layer"] + 1, -1)
    heatmap = json.loads(session.get("plotly_chart")[0].proto.spec)["data"][0]["z"]
    drawn = np.frombuffer(base64.b64decode(heatmap["bdata"]), heatmap["dtype"])
    drawn = drawn.reshape(len(told), -1)
    assert told.shape[1] > drawn.shape[1] > 3 and drawn == pytest.approx(told[:, : drawn.shape[1]])


def test_a_picked_layer_is_in_the_link_and_a_link_picks_it(tiny_folder):
    session = fitted_app(tiny_folder, layer=0, scale="values").switch_page("spectrum/page.py").run()
    assert session.slider(key="spectrum_layer").value == 0
    assert session.segmented_control(key="spectrum_scale").value == "values"
    session.slider(key="spectrum_layer").set_value(1).run()
    assert (session.query_params["layer"], session.query_params["scale"]) == ("1", "values")
