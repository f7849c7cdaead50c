"""Map: texts in two dimensions before and after the edit, probes beside them, and the pairs that are picked."""

import base64
import json
import threading

import numpy as np
import plotly.graph_objects as go
import pytest

from detox_engine.estimates import Estimate
from detox_engine.reading.probe import Separability, SideHistogram, find_parting_layer, measure_parting, probe_layer
from pages.map import work
from pages.map.figures import Panel, map_figure, play_figure
from pages.map.separability import histogram_figure, list_counts, list_probes, probe_figure
from pages.map.verdict import count_right
from tests.pages.conftest import LIMIT, click, fitted_app, open_app, run_until, settings, texts
from ui.session import shared_models
from ui.session.kept import Kept
from ui.session.view import Fitted
from ui.show.colours import LIGHT
from ui.words.verdicts import tell_probe
from ui.work.tasks import Task

PAGE = "map/page.py"


def open_page(folder: str, **link: object):
    session = fitted_app(folder, **link).switch_page(PAGE).run()
    assert not session.exception, session.exception
    return session


def after_run(session):
    session.button(key="map_run").click().run()
    return run_until(session, lambda session: len(dots(figure(session))) == 4 and "map_probe_auc" in charts(session))


def has(session, key: str) -> bool:
    return any(widget.key == key for widget in [*session.button, *session.toggle])


def charts(session) -> dict:
    return {chart.key: chart.proto for chart in session.get("plotly_chart")}


def figure(session, key: str = "map_chart") -> go.Figure:
    """The chart as the browser gets it, its numbers decoded."""
    return go.Figure(unpack(json.loads(charts(session)[key].spec)), skip_invalid=True)


def unpack(part):
    if isinstance(part, dict) and "bdata" in part:
        return np.frombuffer(base64.b64decode(part["bdata"]), part["dtype"])
    if isinstance(part, dict):
        return {name: unpack(value) for name, value in part.items()}
    return [unpack(value) for value in part] if isinstance(part, list) else part


def dots(drawn: go.Figure) -> list[go.Scatter]:
    return [trace for trace in drawn.data if trace.mode == "markers"]


def test_without_a_study_the_page_offers_to_fit_one(tiny_folder):
    session = open_app(model=tiny_folder, limit=LIMIT - 1).switch_page(PAGE).run()
    assert "There is no study to show yet" in texts(session)
    assert not session.button(key="fit_now").disabled
    assert not session.get("plotly_chart")


def test_before_any_run_the_map_shows_the_study_and_offers_the_edited_model(tiny_folder):
    # An edit of its own: what another session ran is there for this one too.
    session = open_page(tiny_folder, layers="0-2", rank=1, strength=0.45)
    assert [len(trace.x) for trace in dots(figure(session))] == [LIMIT, LIMIT]
    assert has(session, "map_run") and "has not read the texts yet" in texts(session)
    run_until(session, lambda session: "map_probe_auc" in charts(session))
    assert [trace.name for trace in figure(session, "map_probe_accuracy").data] == ["Before"]


def test_after_the_run_the_edited_texts_stand_beside_the_others_with_probes_of_every_layer(tiny_folder):
    session = after_run(open_page(tiny_folder, layers="0-2", rank=2))
    drawn = figure(session)
    assert len(dots(drawn)) == 4
    assert not np.allclose(dots(drawn)[0].x, dots(drawn)[2].x), "the edit moved nothing"
    accuracy = figure(session, "map_probe_accuracy")
    assert [trace.name for trace in accuracy.data] == ["Before", "After, by the edited model"]
    assert [len(trace.y) for trace in accuracy.data] == [3, 3]


def test_the_projection_on_paper_needs_no_run_and_is_told_from_what_was_run(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1)
    session.pills(key="map_states").set_value(["before", "on paper"]).run()
    drawn = figure(session)
    assert [note.text for note in drawn.layout.annotations][:2] == ["Before", "After, computed alone"]
    assert "with no model" in texts(session)


def test_another_edit_asks_for_another_run_and_the_first_is_kept(tiny_folder):
    session = after_run(open_page(tiny_folder, layers="0-2", rank=3))
    session.slider(key="edit_layers_3").set_value((0, 1)).run()
    assert has(session, "map_run")
    session.slider(key="edit_layers_3").set_value((0, 2)).run()
    assert not has(session, "map_run") and len(dots(figure(session))) == 4


def test_picks_outlast_a_page_change(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1)
    session.slider(key="map_layer").set_value(1).run()
    session.switch_page("spectrum/page.py").run()
    session.switch_page(PAGE).run()
    assert session.slider(key="map_layer").value == 1
    assert "at layer 1" in charts(session)["map_chart"].alt


def test_selected_pairs_are_listed_blurred_and_let_go(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1)
    view = session.session_state["view"]
    study = shared_models.shelf().find_study(view.study_key)
    session.session_state["map_picked"] = {Fitted(view.study_key, study.made): [2, 5]}
    session.run()
    shown = texts(session)
    assert "2 selected pairs" in shown and "pair 3</span>" in shown and "pair 6</span>" in shown
    assert "pair 4</span>" not in shown
    assert list(dots(figure(session))[0].selectedpoints) == [2, 5]
    session.button(key="map_clear").click().run()
    assert "selected pair" not in texts(session)


def test_hovers_are_masked_until_words_are_shown(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1)
    hidden = " ".join(dots(figure(session))[1].text)
    assert "•" in hidden
    session.toggle(key="show_words").set_value(True).run()
    assert "•" not in " ".join(dots(figure(session))[1].text)


def test_play_has_a_frame_for_every_layer(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1)
    session.toggle(key="map_play").set_value(True).run()
    assert not session.exception
    spec = json.loads(charts(session)["map_player"].spec)
    assert [frame["name"] for frame in spec["frames"]] == ["0", "1", "2"]
    assert [step["label"] for step in spec["layout"]["sliders"][0]["steps"]] == ["0", "1", "2"]


def pick_umap(session):
    return session.segmented_control(key="map_method").set_value("umap").run()


def lay_out_by_luck(self, fitted, others, plan, progress, step):
    return [np.random.default_rng(0).normal(size=(len(texts), 2)) for texts in (fitted, *others)]


def test_umap_is_laid_out_once_it_is_picked_and_kept(tiny_folder, monkeypatch):
    # A journey in the browser lays out with UMAP itself, whose process takes seconds to start.
    monkeypatch.setattr("detox_engine.reading.umap_process.UmapProcess.lay_out", lay_out_by_luck)
    session = pick_umap(open_page(tiny_folder, layers="0-2", rank=1))
    run_until(session, lambda session: "map_chart" in charts(session))
    assert "UMAP, first axis" in charts(session)["map_chart"].spec
    monkeypatch.setattr(Task, "begin", lambda *_: pytest.fail("laid out again"))
    session.segmented_control(key="map_method").set_value("pca").run()
    pick_umap(session)
    assert not session.exception and "map_chart" in charts(session)


def test_a_layout_that_was_stopped_waits_to_be_asked_for_again(tiny_folder, monkeypatch):
    held = threading.Event()

    def lay_out(self, fitted, others, plan, progress, step):
        while not held.wait(0.01):
            progress(*step)
        return lay_out_by_luck(self, fitted, others, plan, progress, step)

    monkeypatch.setattr("detox_engine.reading.umap_process.UmapProcess.lay_out", lay_out)
    session = open_page(tiny_folder, layers="0-2", rank=1)
    session.slider(key="map_layer").set_value(0).run()
    session.segmented_control(key="map_method").set_value("umap").run()
    assert "map_chart" not in charts(session) and "map_histogram" in charts(session)
    session.button(key="stop_map layout").click().run()
    run_until(session, lambda session: has(session, "map_again"))
    assert "The layout was stopped" in texts(session) and "map_chart" not in charts(session)
    held.set()
    session.button(key="map_again").click().run()
    run_until(session, lambda session: "map_chart" in charts(session))


def test_settings_of_umap_are_those_of_the_link(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1, map="umap", neighbours=5, spread=0.5, map_seed=7, layer=1)
    assert session.number_input(key="map_neighbours").value == 5
    code = "\n".join(block.value for block in session.code)
    assert "--layer 1 --method umap --neighbours 5 --spread 0.5 --seed 7" in code
    session.number_input(key="map_seed").set_value(8).run()
    assert session.query_params["map_seed"] in ("8", ["8"])


def test_pairs_are_selected_by_their_words_too(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1)
    view = session.session_state["view"]
    study = shared_models.shelf().find_study(view.study_key)
    word = max(study.pairs[3].prompt.split(), key=len).casefold().strip(".,")
    wanted = [
        index for index, pair in enumerate(study.pairs)
        if word in f"{pair.prompt} {pair.toxic} {pair.civil}".casefold()
    ]  # fmt: skip
    session.text_input(key="map_words").set_value(word).run()
    assert 3 in wanted and list(dots(figure(session))[0].selectedpoints) == wanted
    session.text_input(key="map_words").set_value("no such words <b>").run()
    assert "No pair holds these words" in texts(session) and dots(figure(session))[0].selectedpoints is None


def test_files_of_the_map_have_every_text_and_words_in_full(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1)
    view = session.session_state["view"]
    study = shared_models.shelf().find_study(view.study_key)
    states = {"before": study.embeddings}
    heads, rows = work.list_points(study, work.lay_along_directions(study, states, [1]), ("before",))
    rows = [dict(zip(heads, row, strict=True)) for row in rows]
    assert len(rows) == 2 * LIMIT and {row["layer"] for row in rows} == {1}
    assert rows[1]["side"] == "civil" and rows[1]["text"] == study.pairs[0].civil_text
    expected = study.embeddings.civil[1, 0] @ study.subspaces[1].basis[:2].T
    assert (rows[1]["x"], rows[1]["y"]) == pytest.approx(expected.tolist(), abs=1e-4)


def test_along_the_toxic_directions_the_edit_on_paper_leaves_nothing(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=2)
    session.segmented_control(key="map_method").set_value("directions").run()
    session.pills(key="map_states").set_value(["before", "on paper"]).run()
    assert not session.exception
    before, _, paper, _ = dots(figure(session))
    assert np.abs(before.x).max() > 0.1
    np.testing.assert_allclose(paper.x, 0, atol=1e-4)
    np.testing.assert_allclose(paper.y, 0, atol=1e-4)
    assert "from these very pairs" in texts(session)


def test_an_edit_that_removes_nothing_is_said_in_a_sentence(tiny_folder):
    session = open_page(tiny_folder, layers="1", rank=1, off="1.0")
    assert not session.exception
    assert "switched off" in texts(session)
    assert len(dots(figure(session))) == 2


def test_the_command_names_layer_and_edit(tiny_folder):
    session = open_page(tiny_folder, layers="0-1", rank=2)
    session.slider(key="map_layer").set_value(1).run()
    code = "\n".join(block.value for block in session.code)
    assert "detox map my-study --device cpu --layer 1 --edit-layers 0-1 --edit-rank 2" in code


def test_the_latest_results_stay_and_the_oldest_go():
    kept = Kept(2)
    kept.keep("a", 1)
    kept.keep("b", 2)
    kept.find("a")
    kept.keep("c", 3)
    assert (kept.find("a"), kept.find("b"), kept.find("c")) == (1, None, 3)


@pytest.fixture
def panels():
    generator = np.random.default_rng(0)
    return [Panel(title, generator.normal(size=(2, 5, 2))) for title in ("Before", "After")]


LABELS = [["t"] * 5, ["c"] * 5]


def test_lines_join_the_two_ends_of_each_pair(panels):
    drawn = map_figure(panels[:1], LABELS, ("x", "y"), LIGHT, "pairs")
    line = next(trace for trace in drawn.data if trace.mode == "lines")
    assert len(line.x) == 15 and np.isnan(line.x[2::3]).all()
    np.testing.assert_allclose(line.x[0::3], panels[0].points[0, :, 0], atol=1e-3)
    np.testing.assert_allclose(line.x[1::3], panels[0].points[1, :, 0], atol=1e-3)


def test_moves_join_a_text_before_with_itself_after(panels):
    drawn = map_figure(panels, LABELS, ("x", "y"), LIGHT, "moves", together=True)
    line = next(trace for trace in drawn.data if trace.mode == "lines")
    np.testing.assert_allclose(line.y[0::3], panels[0].points.reshape(-1, 2)[:, 1], atol=1e-3)
    np.testing.assert_allclose(line.y[1::3], panels[1].points.reshape(-1, 2)[:, 1], atol=1e-3)


def test_panels_share_one_frame(panels):
    drawn = map_figure(panels, LABELS, ("x", "y"), LIGHT)
    assert drawn.layout.xaxis2.matches == "x" and drawn.layout.yaxis2.matches == "y"
    assert {trace.xaxis for trace in drawn.data} == {"x", "x2"}


def test_every_frame_has_the_traces_of_the_figure_and_none_leaves_it(panels):
    far = [Panel(panel.title, 3 * panel.points) for panel in panels]
    drawn = play_figure([(0, panels), (1, far)], LABELS, LIGHT, "pairs", start=1)
    assert all(len(frame.data) == len(drawn.data) for frame in drawn.frames)
    reach = max(np.abs(panel.points).max() for panel in far)
    assert drawn.layout.xaxis.range[1] > reach
    assert drawn.layout.sliders[0].active == 1


def test_the_probe_chart_has_the_intervals_and_the_line_of_chance():
    probes = [Separability(layer, Estimate(0.8, 0.7, 0.85, 9), Estimate(0.9, 0.8, 0.95, 9)) for layer in range(3)]
    drawn = probe_figure({"Before": probes}, "accuracy", 1, LIGHT)
    np.testing.assert_allclose(drawn.data[0].error_y.array, 0.05)
    np.testing.assert_allclose(drawn.data[0].error_y.arrayminus, 0.1)
    assert any(shape.y0 == 0.5 == shape.y1 for shape in drawn.layout.shapes)


def test_files_of_probes_and_histograms_have_their_numbers():
    probe = Separability(2, Estimate(0.8, 0.7, 0.85, 9), Estimate(0.9, 0.8, 0.95, 9))
    assert list_probes({"before": [probe]}, "auc") == (
        ("state", "layer", "auc", "low", "high", "pairs"), [("before", 2, 0.9, 0.8, 0.95, 9)]
    )  # fmt: skip
    _, rows = list_counts({"Before": SideHistogram((0.0, 1.0, 2.0), (3, 1), (0, 4))})
    assert rows == [("Before", 0.0, 1.0, 3, 0), ("Before", 1.0, 2.0, 1, 4)]


def test_histograms_of_all_states_have_the_same_bins():
    counts = SideHistogram((0.0, 1.0, 2.0), (3, 1), (0, 4))
    drawn = histogram_figure({"Before": counts, "After": counts}, 2, LIGHT)
    assert [trace.name for trace in drawn.data] == ["Toxic", "Civil"] * 2
    assert {tuple(trace.x) for trace in drawn.data} == {(0.5, 1.5)}


def test_no_crowd_of_civil_dots_hides_a_toxic_one(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1)
    assert [(trace.name, trace.legendrank) for trace in dots(figure(session))] == [("Civil", 2), ("Toxic", 1)]


def test_the_map_opens_on_the_toxic_directions_of_the_layer_that_parts_best(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1)
    study = shared_models.shelf().find_study(session.session_state["view"].study_key)
    first = [subspace.basis[0] for subspace in study.subspaces]
    layer = find_parting_layer(study.embeddings, first)
    assert session.slider(key="map_layer").value == layer
    assert f"Direction 1 of layer {layer}" in charts(session)["map_chart"].spec
    apart = [
        measure_parting(study.embeddings.toxic[place], study.embeddings.civil[place], first[place])
        for place in range(study.layers)
    ]
    assert max(apart) == apart[layer] > min(apart)


def test_the_page_opens_on_its_picture_and_its_verdict_before_anything_is_set(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1, layer=1)
    assert session.get("plotly_chart")[0].key == "map_chart"
    assert settings(session) == "Settings: toxic directions, before"
    run_until(session, lambda session: "being measured" not in texts(session))
    study = shared_models.shelf().find_study(session.session_state["view"].study_key)
    probe = probe_layer(1, study.embeddings.toxic[1], study.embeddings.civil[1]).accuracy
    assert f"{probe.mean:.1%} of unseen texts (95 %: {probe.low:.1%} to {probe.high:.1%}, n = {LIMIT}" in texts(session)
    right = count_right(study, 1, study.embeddings)
    assert f"alone {right} of {2 * LIMIT} texts lie on their side" in texts(session) and right > LIMIT


def test_the_clicked_pair_is_read_beside_the_map_and_on_the_token_lens(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1)
    rings = [trace for trace in figure(session).data if trace.name == "The pair that is read"]
    assert len(rings) == 1 and "Pair 1, token by token" in texts(session)
    click(session, "map_chart", point_index=6)
    run_until(session, lambda session: texts(session).count('<p class="lit') == 4)
    study = shared_models.shelf().find_study(session.session_state["view"].study_key)
    assert "Pair 7, token by token" in texts(session) and "selected pair" not in texts(session)
    (ring,) = (trace for trace in figure(session).data if trace.name == "The pair that is read")
    layer = session.slider(key="map_layer").value
    along = [
        float(side[layer, 6] @ study.subspaces[layer].basis[0])
        for side in (study.embeddings.toxic, study.embeddings.civil)
    ]
    assert list(ring.x) == pytest.approx(along, abs=1e-3)
    session.switch_page("token_lens/page.py").run()
    assert session.number_input(key="lens_pair").value == 7


def test_what_is_said_of_a_layer_is_that_the_edit_leaves_toxicity_readable_or_not():
    sure, chance = Estimate(0.9, 0.85, 0.95, 40), Estimate(0.52, 0.45, 0.6, 40)
    assert "toxicity can still be read there" in tell_probe(3, sure, Estimate(0.8, 0.7, 0.9, 40))
    assert "after the edit 52.0% (45.0% to 60.0%), no more than chance" in tell_probe(3, sure, chance)
    assert "no better than chance" in tell_probe(3, chance, None) and "before the edit" in tell_probe(3, sure, None)
