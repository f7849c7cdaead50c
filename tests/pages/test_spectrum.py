"""Spectrum: singular values by layer, and the rank they suggest."""

import base64
import json
import re
import shlex

import numpy as np
import pytest
from typer.testing import CliRunner

from detox_engine.cli.main import app as command_line
from detox_engine.estimates import Estimate
from detox_engine.plans.commands import STUDY
from detox_engine.plans.edit import EditPlan
from detox_engine.reading.probe import probe_layers
from detox_engine.study.suggestion import Tried
from pages.spectrum.layers import Layers, layers_figure, tell_effects, tell_layers, tell_picked
from tests.pages.conftest import LIMIT, click, fitted_app, open_app, run_until, settings, texts
from ui.session import shared_models
from ui.show.colours import LIGHT, see_through
from ui.work.parting import BEFORE_EDIT, PROBING


def test_without_a_study_the_page_offers_to_fit_one(tiny_folder):
    session = open_app(model=tiny_folder, limit=LIMIT - 1).switch_page("spectrum/page.py").run()
    assert "There is no study to show yet" in texts(session)
    assert not session.button(key="fit_now").disabled
    assert not session.get("plotly_chart")


def open_page(folder: str, **link: object):
    session = fitted_app(folder, **link).switch_page("spectrum/page.py").run()
    assert not session.exception, session.exception
    return run_until(session, lambda session: "being measured" not in texts(session))


def verdict(session) -> str:
    return re.search(r'<p class="finding[^>]*>(.*?)</p>', texts(session))[1]


def study_of(session):
    return shared_models.shelf().find_study(session.session_state["view"].study_key)


def test_the_page_opens_on_its_picture_with_the_picked_layer_beside_it_before_anything_is_set(tiny_folder):
    session = open_page(tiny_folder)
    assert [chart.key for chart in session.get("plotly_chart")][:3] == ["where", "spectrum_layer_chart", "spectrum_map"]
    assert settings(session) == "Settings: share of variance"
    session.slider(key="spectrum_layer").set_value(0).run()
    assert "At layer 0, " in texts(session).replace("\\", "")


def test_the_verdict_names_the_layer_that_parts_best_with_its_interval(tiny_folder):
    session = open_page(tiny_folder)
    probes = [one.accuracy for one in probe_layers(study_of(session).embeddings)]
    best = max(probes, key=lambda one: one.mean)
    if best.low > 0.5:
        assert f"The sides part best at layer {probes.index(best)}: a linear probe tells {best.mean:.1%}" in verdict(
            session
        )
    else:
        assert "In no layer does a linear probe tell the sides beyond chance" in verdict(session)
    assert f"(95 %: {best.low:.1%} to {best.high:.1%}, n = {LIMIT} pairs)" in verdict(session)


def test_the_page_says_why_it_opens_on_its_layer_until_somebody_picks_one(tiny_folder):
    session = open_page(tiny_folder)
    layer = session.slider(key="spectrum_layer").value
    why = f"Layer {layer} is picked at first, since its first direction alone sets the sides farthest apart; the probe"
    assert why in texts(session).replace("\\", "")
    session.slider(key="spectrum_layer").set_value((layer + 1) % 3).run()
    assert "is picked at first" not in texts(session)
    assert tell_picked("Layer 2 is", 2, 1).endswith("tells them best at layer 1.")
    assert tell_picked("Layer 2 is", 2, 2).endswith("tells them best there, too.")
    assert (tell_picked("Layer 2 is", 2, None), tell_picked("", 2, 1)) == ("Layer 2 is.", "")


def test_a_clicked_layer_is_picked_on_all_pages(tiny_folder):
    session = open_page(tiny_folder, layer=2)
    click(session, "where", x=0.05, y=1.0)
    assert session.slider(key="spectrum_layer").value == 0
    for page, key in (("directions", "directions_layer"), ("map", "map_layer"), ("token_lens", "lens_layer")):
        assert session.switch_page(f"{page}/page.py").run().slider(key=key).value == 0, page
    session.switch_page("spectrum/page.py").run()
    click(session, "spectrum_map", x=1, y=1)
    assert session.slider(key="spectrum_layer").value == 1


def test_probes_that_were_measured_are_found_again_in_another_session(tiny_folder, monkeypatch):
    forget_probes()
    told = verdict(open_page(tiny_folder))
    forget_probes()
    monkeypatch.setattr("detox_engine.reading.probe.probe_layers", lambda *_, **__: pytest.fail("probed again"))
    assert verdict(open_page(tiny_folder)) == told


def forget_probes() -> None:
    """As a restart forgets what is in memory."""
    for kept in (BEFORE_EDIT, PROBING._shared):
        for asked in kept.all():
            kept.drop(asked)


def test_how_the_sides_part_after_the_edit_stands_beside_it_once_the_edited_model_has_run(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=2, strength=0.65)
    assert "after the edit" not in where(session).lower()
    session.button(key="spectrum_run").click().run()
    run_until(session, lambda session: "after the edit" in where(session))
    assert "spectrum_run" not in {button.key for button in session.button}


def where(session) -> str:
    return next(chart.proto.spec for chart in session.get("plotly_chart") if chart.key == "where")


def test_the_spectra_of_all_layers_can_be_laid_over_one_another(tiny_folder):
    session = open_page(tiny_folder)
    session.segmented_control(key="spectrum_all").set_value("curves").run()
    charts = {chart.key: json.loads(chart.proto.spec) for chart in session.get("plotly_chart")}
    assert "spectrum_map" not in charts and len(charts["spectrum_curves"]["data"]) == 3
    assert session.query_params["spectra"] in ("curves", ["curves"])


def estimates(*means: float, half: float = 0.05) -> tuple[Estimate, ...]:
    return tuple(Estimate(mean, mean - half, mean + half, 40) for mean in means)


def made_up(**parts: object) -> Layers:
    known = {"strengths": (0.5, 2.0, 3.0), "before": estimates(0.6, 0.9, 0.88), "after": None, "gaps": None}
    return Layers(**{**known, "tried": (), **parts})


def test_the_sentence_names_layers_that_cannot_be_told_from_the_best_and_what_is_left_after_the_edit():
    told = tell_layers(made_up(after=estimates(0.5, 0.52, 0.8)), EditPlan((1,), 1), False)
    assert "best at layer 1: a linear probe tells 90.0% of unseen texts (95 %: 85.0% to 95.0%, n = 40 pairs)" in told
    assert (
        "Layer 2 parts them about as well" in told and "After the edit it tells 52.0% (47.0% to 57.0%), no more" in told
    )
    other = tell_layers(made_up(after=estimates(0.5, 0.8, 0.8)), EditPlan((0,), 1), False)
    assert "toxicity can still be read there" in other and "from layer 0, and leaves layer 1 as it is" in other


def test_where_no_probe_is_known_the_strongest_layer_is_told():
    told = tell_layers(made_up(before=None), EditPlan((1,), 1), False)
    assert "layer 2" in told and "3.0 times" in told


def test_an_effect_that_its_interval_does_not_tell_from_nothing_is_not_told_as_one():
    sure = tell_effects(made_up(gaps=estimates(0.2, 0.1, 0.0)))
    assert "does most at layer 0: civil text gains 0.20 nats a token on toxic (0.15 to 0.25, n = 40" in sure
    assert "In no layer alone" in tell_effects(made_up(gaps=estimates(0.04, 0.02, 0.0)))
    assert tell_effects(made_up()) == ""


def test_the_picture_has_a_row_for_what_is_known_a_band_for_the_plan_and_hollow_dots_for_noise():
    plan = EditPlan((1, 2), 1)
    drawn = layers_figure(made_up(), plan.layers, None, 1, LIGHT)
    assert len(made_up().rows) == 2 and drawn.layout.xaxis2.title.text == "Layer"
    bands = [(shape.x0, shape.x1) for shape in drawn.layout.shapes if shape.fillcolor == LIGHT.edited]
    assert set(bands) == {(0.5, 2.5)}
    paper = see_through(LIGHT.background, 1)
    assert list(drawn.data[0].marker.color) == [paper, LIGHT.edited, LIGHT.edited]
    tried = Tried(plan, 0.1, 0.01, estimates(0.3)[0], 0.01, 1.0)
    whole = layers_figure(made_up(gaps=estimates(0.2, 0.1, 0.0), tried=(tried,)), plan.layers, plan, 1, LIGHT)
    (line,) = [trace for trace in whole.data if trace.line.width == 4]
    assert (list(line.x), set(line.y)) == ([0.6, 1, 2, 2.4], {0.3})
    assert [note.text for note in whole.layout.annotations].count("suggested edit, whole") == 1
    assert all(-0.5 <= x <= 2.5 for trace in whole.data for x in trace.x)
    assert tuple(whole.layout.xaxis.range) == (-0.5, 2.5)


def test_the_line_of_an_edit_is_broken_where_it_leaves_layers_out():
    apart = EditPlan((0, 2), 1)
    tried = Tried(apart, 0.1, 0.01, estimates(0.3)[0], 0.01, 1.0)
    drawn = layers_figure(made_up(gaps=estimates(0.2, 0.1, 0.0), tried=(tried,)), apart.layers, apart, 1, LIGHT)
    (line,) = [trace for trace in drawn.data if trace.line.width == 4]
    assert list(line.x) == [-0.4, 0, 0.4, None, 1.6, 2, 2.4] and list(line.y) == [0.3] * 3 + [None] + [0.3] * 3


def test_no_column_of_the_heatmap_is_pale_in_every_layer(tiny_folder):
    session = open_page(tiny_folder)
    cells = next(json.loads(chart.proto.spec) for chart in session.get("plotly_chart") if chart.key == "spectrum_map")
    columns = int(cells["data"][0]["z"]["shape"].split(",")[1])
    assert columns == max(4, min(16, max(study_of(session).dominant_ranks) + 2))


def test_what_stands_out_is_no_rank_to_remove(tiny_folder):
    told = texts(open_page(tiny_folder)).replace("\\", "")
    assert ("stands out" in told or "stand out" in told) and "no rank to remove" in told


def test_an_edit_by_another_method_removes_none_of_these_directions(tiny_folder):
    session = fitted_app(tiny_folder, method="fisher", layers="0-1").switch_page("spectrum/page.py").run()
    told = texts(session).replace("\\", "")
    assert "the plan removes those of another method, Fisher" in told and "green frame" not in told
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
    run_until(session, lambda session: "stability_chart" in {chart.key for chart in session.get("plotly_chart")})
    assert "drawn anew 20 times" in texts(session)
    # Another rank asks another question.
    session.sidebar.slider(key=next(s.key for s in session.sidebar.slider if s.label == "Rank")).set_value(1).run()
    assert len(session.get("plotly_chart")) == 3 and not session.button(key="resample").disabled


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
    chart = next(chart for chart in session.get("plotly_chart") if chart.key == "spectrum_map")
    heatmap = json.loads(chart.proto.spec)["data"][0]["z"]
    drawn = np.frombuffer(base64.b64decode(heatmap["bdata"]), heatmap["dtype"])
    drawn = drawn.reshape(len(told), -1)
    assert told.shape[1] > drawn.shape[1] > 3 and drawn == pytest.approx(told[:, : drawn.shape[1]])


def test_a_picked_layer_is_in_the_link_and_a_link_picks_it(tiny_folder):
    session = fitted_app(tiny_folder, layer=0, scale="values").switch_page("spectrum/page.py").run()
    assert session.slider(key="spectrum_layer").value == 0
    assert session.segmented_control(key="spectrum_scale").value == "values"
    session.slider(key="spectrum_layer").set_value(1).run()
    assert (session.query_params["layer"], session.query_params["scale"]) == ("1", "values")
