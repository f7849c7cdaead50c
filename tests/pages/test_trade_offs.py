"""Trade-offs: a grid of edits, its frontier, its control, and the setting that becomes the edit plan."""

import csv
import io
import json
import shlex
import threading

import pytest
import typer
from typer.testing import CliRunner

from detox_engine.cli.main import app as command_line
from detox_engine.estimates import Control, Effect, Estimate
from detox_engine.plans.commands import STUDY, sweep_command
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan, SweepPlan
from detox_engine.plans.sources import TextSpec
from detox_engine.scoring.records import record_sweep
from detox_engine.scoring.results import SweepPoint
from pages.trade_offs.figures import grid_figure
from tests.pages.conftest import LIMIT, find_results, fitted_app, open_app, run_until, texts, unfold
from tests.plans.test_commands import read
from tests.rounding import ROUNDING, assert_alike
from ui.session.links import write_link
from ui.session.view import StudyKey
from ui.show.colours import DARK, LIGHT
from ui.show.frontier import Axis, count_beyond, find_end, make_relative, trade_off_figure
from ui.work.jobs import Stage
from ui.work.sweep import SWEEP, describe_seconds, estimate_remaining, find_results_file

PAGE = "trade_offs/page.py"
PERPLEXITY = Axis("perplexity", "Perplexity of neutral text", "perplexity", True)
TOXICITY = Axis("profanity", "Toxicity", "toxicity, 0 to 1", True)
SMALL = {"sweep_limit": 4, "sweep_neutral_limit": 4, "sweep_sampling_max_new_tokens": 5, "sweep_resamples": 100}


def open_page(folder: str, ranks: tuple[int, ...] = (1, 4), **link: object):
    """The page on a study of the tiny model, with a small grid and little to measure."""
    session = fitted_app(folder, **({"layers": "0-2", "rank": 4} | link)).switch_page(PAGE).run()
    session.toggle(key="sweep_details").set_value(True).run()
    for key, value in SMALL.items():
        session.number_input(key=key).set_value(value)
    pick_ranks(session, *ranks)
    assert not session.exception, session.exception
    return session


def pick_ranks(session, *ranks: int) -> None:
    next(each for each in session.multiselect if each.label == "Ranks").set_value(list(ranks)).run()


def sweep(session):
    session.button(key="sweep").click().run()
    run_until(session, lambda session: "sweep" not in session.session_state["jobs"] or session.error, 120)
    assert not session.exception, session.exception
    return session


def tried(session):
    """The latest grid of this session, as far as it is measured."""
    return find_results(SWEEP, session)[-1][1]


@pytest.fixture(scope="module")
def measured(tiny_folder, tmp_path_factory):
    """A session that has tried its grid; tests only read it, or change its edit plan."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return sweep(open_page(tiny_folder))


def make_point(rank: int, start: int, perplexity: float, toxicity: float, strength: float = 1.0) -> SweepPoint:
    """A setting whose unedited model has perplexity 10 and toxicity 0.5, and whose control stays there."""

    def effect(before: float, after: float) -> Effect:
        sides = [Estimate(value, value - 0.1, value + 0.1, 9) for value in (before, after)]
        change = Estimate(after - before, after - before - 0.1, after - before + 0.1, 9)
        control = Control("plain", sides[0], change, (before - 0.01, before + 0.01))
        return Effect(*sides, change, (control,))

    effects = {"perplexity": effect(10, perplexity), "profanity": effect(0.5, toxicity)}
    return SweepPoint(tuple(range(start, 3)), rank, strength, effects)


POINTS = (
    make_point(1, 0, 10.1, 0.4),
    make_point(1, 1, 10.4, 0.45),
    make_point(4, 0, 11.0, 0.1),
    make_point(4, 1, 12.0, 0.2),
)


def test_without_a_study_the_page_offers_to_fit_one(tiny_folder):
    session = open_app(model=tiny_folder, limit=LIMIT - 1).switch_page(PAGE).run()
    assert "There is no study to show yet" in texts(session)
    assert all(button.key != "sweep" for button in session.button)


def test_before_anything_is_tried_the_page_says_what_to_do_and_how_many(tiny_folder):
    session = open_page(tiny_folder)
    assert "Nothing is measured yet" in texts(session) and not session.get("plotly_chart")
    assert session.button(key="sweep").label == "Try 6 settings"
    assert any("detox sweep" in block.value for block in session.code)


def test_the_edit_plan_is_always_among_what_is_measured(tiny_folder):
    session = open_page(tiny_folder, (1,), layers="0,2", rank=2, strength=1.5)
    assert session.button(key="sweep").label == "Try 4 settings", "its layers are in no grid"
    assert any("--also 0,2:2:1.5" in block.value for block in session.code)
    sweep(session)
    assert tried(session).points[-1].edit == session.session_state["view"].edit
    assert "not among these settings" not in texts(session) and "has changed since" not in texts(session)
    assert not session.dataframe, "the table is made once it is opened"
    unfold(session, "sweep_table").button(key="take_setting").click().run()
    assert session.button(key="sweep").label == "Try 3 settings", "a setting of the grid is no further one"
    assert "has changed since" not in texts(session)


def test_every_setting_is_drawn_and_listed_beside_its_control(measured):
    assert len(tried(measured).points) == 6 and tried(measured).whole
    assert len(measured.get("plotly_chart")) == 2
    table = unfold(measured, "sweep_table").dataframe[-1].value
    assert len(table) == 6 and "Toxicity, random" in table and "Perplexity of neutral text, random" in table
    assert "Unedited" in texts(measured)


def test_a_picked_setting_becomes_the_edit_plan_of_every_page(measured):
    unfold(measured, "sweep_table").selectbox(key="sweep_setting_6").set_value(4).run()
    before = measured.session_state["view"].edit
    measured.button(key="take_setting").click().run()
    edit, point = measured.session_state["view"].edit, tried(measured).points[4]
    assert edit == point.edit != before
    said = measured.success[0].value.replace("\\", "")
    assert f"The edit plan is now layers 1-2, rank {edit.rank}, strength 1; it was layers" in said
    measured.switch_page("spectrum/page.py").run()
    assert [slider.value for slider in measured.sidebar.slider if slider.label == "Rank"] == [edit.rank]
    measured.switch_page(PAGE).run()
    assert len(measured.get("plotly_chart")) == 2


def test_switched_off_directions_are_told_when_a_setting_puts_them_back(tiny_folder):
    session = sweep(open_page(tiny_folder, layers="0-2", rank=4, off="1.0"))
    unfold(session, "sweep_table").button(key="take_setting").click().run()
    assert "switched off are removed again" in session.success[0].value
    assert session.session_state["view"].edit.switched_off == frozenset()


def test_a_recommendation_names_its_reason_or_why_there_is_none(measured):
    shown = texts(measured)
    assert "within the limit" in shown or "No setting lowers" in shown


def test_a_stopped_grid_keeps_what_is_done_and_goes_on_with_the_rest(tiny_folder, monkeypatch):
    from detox_engine.scoring import sweep as engine

    reached, go_on, measure = threading.Event(), threading.Event(), engine.measure_settings
    batches = []

    def slow(bench, study, settings, *others):
        batches.append(len(settings))
        if len(batches) == 2:
            reached.set()
            go_on.wait(30)
        return measure(bench, study, settings, *others)

    monkeypatch.setattr(engine, "measure_settings", slow)
    monkeypatch.setattr(engine, "SETTINGS_AT_ONCE", 4)
    session = open_page(tiny_folder)
    session.button(key="sweep").click().run()
    assert reached.wait(60)
    session.run()
    # What is measured is there while the rest is still to come.
    assert len(tried(session).points) == 4 and len(session.get("plotly_chart")) == 2
    assert "settings so far" in texts(session) or "No setting lowers" in texts(session)
    session.button(key="stop_sweep").click().run()
    go_on.set()
    run_until(session, lambda session: "still to be measured" in texts(session))
    assert "before its first settings" not in texts(session)
    assert len(tried(session).points) == 4 and not tried(session).whole
    assert "2 of 6 settings are still to be measured" in texts(session)
    assert session.button(key="sweep").label == "Go on with the rest"
    sweep(session)
    assert tried(session).whole and tried(session).computed == 2 and batches == [4, 2, 2]
    assert find_results_file(_hash(session)).is_file()


def _hash(session) -> str:
    from ui.session import shared_models

    return shared_models.shelf().find_study(session.session_state["view"].study_key).model.weights_hash


def test_a_wider_grid_computes_only_what_is_missing(tiny_folder):
    session = sweep(open_page(tiny_folder, (1,), rank=1))
    assert tried(session).computed == 3
    pick_ranks(session, 1, 2)
    assert "has changed since" in texts(session)
    sweep(session)
    assert tried(session).computed == 3 and len(tried(session).points) == 6


def test_page_and_command_line_agree_to_the_digit(measured, tmp_path):
    study = tmp_path / "study"
    lines = next(code.value for code in measured.get("code") if "detox sweep" in code.value).splitlines()
    for line in lines:
        command = [str(study) if part == STUDY else part for part in shlex.split(line)][1:]
        outcome = CliRunner().invoke(command_line, [*command, "--json"])
        assert outcome.exit_code == 0, outcome.output
    told = json.loads(json.dumps(record_sweep(tried(measured))))
    # A change of perplexity is what two numbers of about 100 differ by, and rounds as they do.
    assert_alike(json.loads(outcome.stdout), told, within=100 * ROUNDING)


@pytest.mark.parametrize(
    "plan",
    [
        SweepPlan(),
        SweepPlan(also="0,2-3:4:-0.25"),
        SweepPlan((1,), layers=(0, 2, 3), strengths=(0.5,)),
        SweepPlan((1, 3), (0, 2), (2, 3), (0.5, 1.0), EvaluationPlan(("drift",), neutral=TextSpec("/x/y.txt"))),
    ],
)
def test_the_command_reads_back_as_the_plan(plan):
    command = sweep_command(StudyKey(), plan, 1.25)
    context = typer.main.get_command(command_line).commands["sweep"].make_context("sweep", command[2:])
    assert read(context, SweepPlan()) == plan
    assert context.params["perplexity_limit"] == 1.25


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda session: pick_ranks(session), "at least one rank"),
        (lambda session: session.multiselect(key="sweep_strengths").set_value([]).run(), "one strength"),
        (lambda session: session.multiselect(key="sweep_ends_2").set_value([]).run(), "one last layer"),
    ],
)
def test_a_grid_without_settings_gives_one_sentence_and_no_button(tiny_folder, change, said):
    session = open_page(tiny_folder)
    change(session)
    assert len(session.error) == 1 and said in session.error[0].value.replace("\\", "")
    assert session.button(key="sweep").disabled


def test_the_sampling_of_the_settings_is_in_the_link_and_a_link_opens_it(tiny_folder):
    session = open_page(tiny_folder)
    session.number_input(key="sweep_sampling_seed").set_value(4).run()
    view = session.session_state["view"]
    assert view["trade_offs.measures.plan.sampling.seed"] == 4
    other = open_app(**write_link(view)).switch_page(PAGE).run()
    assert other.number_input(key="sweep_sampling_seed").value == 4


def test_time_left_comes_from_the_settings_measured_so_far():
    stages = (
        Stage("Loading the model", 1, 1, 0.0, 5.0),
        Stage("Trying settings", 8, 32, 5.0, 1.0),
        Stage("continuations", 40, 40, 6.0, 9.0),
        Stage("Trying settings", 12, 32, 25.0, 0.1),
        Stage("continuations", 3, 40, 26.0),
    )
    assert estimate_remaining(stages[:3], 20.0) is None
    # 4 settings in 20 s: 20 more take 100 s, of which 10 have gone.
    assert estimate_remaining(stages, 35.0) == pytest.approx(90)
    assert describe_seconds(4) == "a few seconds left" and describe_seconds(300) == "about 5 min left"


def trace(figure, name: str):
    return next(each for each in figure.data if each.name == name)


def test_the_trade_off_has_every_setting_the_frontier_the_control_and_the_unedited_model():
    figure = trade_off_figure(POINTS, PERPLEXITY, TOXICITY, "rank", LIGHT, limit=11.0, recommended=2, current=1)
    assert list(trace(figure, "Settings of the edit").x) == [10.1, 10.4, 11.0, 12]
    assert [row[0] for row in trace(figure, "Settings of the edit").customdata] == [0, 1, 2, 3]
    frontier = trace(figure, "Frontier: no setting beats these in both")
    assert list(frontier.x) == [10.1, 11.0] and list(frontier.y) == [0.4, 0.1]
    assert len(trace(figure, "Random subspaces").x) == 8
    assert list(trace(figure, "Unedited model").y) == [0.5]
    assert list(trace(figure, "Recommended").x) == [11.0] and list(trace(figure, "The edit plan now").x) == [10.4]
    assert figure.layout.shapes[0].x0 == 11.0 and "lower is better" in figure.layout.xaxis.title.text
    assert "random 0.500" in trace(figure, "Settings of the edit").text[0]


def test_the_frontier_turns_with_which_way_is_better():
    upward = Axis("profanity", "Accuracy", "share", False)
    figure = trade_off_figure(POINTS, PERPLEXITY, upward, "first layer", DARK)
    assert list(trace(figure, "Frontier: no setting beats these in both").y) == [0.4, 0.45]


def test_one_setting_that_breaks_the_model_squeezes_no_other():
    usual = trade_off_figure(POINTS, PERPLEXITY, TOXICITY, "first layer", LIGHT, limit=11.0)
    points = [*POINTS, make_point(8, 0, 1_300_000, 0.0)]
    broken = trade_off_figure(points, PERPLEXITY, TOXICITY, "first layer", LIGHT, limit=11.0, current=4)
    assert usual.layout.xaxis.range is None
    end = broken.layout.xaxis.range[1]
    assert 12 < end < 20, "the axis ends where the other settings do"
    settings = trace(broken, "Settings of the edit")
    assert settings.x[4] < end and list(settings.x[:4]) == [10.1, 10.4, 11.0, 12]
    assert settings.marker.symbol == ("circle",) * 4 + ("triangle-right",) and "1.3e6" in settings.text[4]
    assert trace(broken, "The edit plan now").x[0] == settings.x[4], "the plan is seen even there"
    assert list(trace(broken, "Frontier: no setting beats these in both").x) == [10.1, 11.0]
    assert trade_off_figure(points, PERPLEXITY, TOXICITY, "rank", LIGHT).layout.xaxis.range[1] < 20
    assert find_end([10.2, 11.4, 25], POINTS[0].effects["perplexity"], 11.0) == pytest.approx(11.65), "near the limit"
    assert count_beyond(points, PERPLEXITY) == (1, 1_300_000) and count_beyond(POINTS, PERPLEXITY)[0] == 0


def test_changes_in_percent_let_runs_on_other_prompts_be_compared():
    point = make_relative(POINTS)[2].effects["perplexity"]
    assert (point.before.mean, point.after.mean) == (0, pytest.approx(10))
    assert (point.difference.low, point.control.level.mean) == (pytest.approx(9), pytest.approx(10))
    assert point.control.draws == (pytest.approx(-0.1), pytest.approx(0.1))
    figure = trade_off_figure(make_relative(POINTS), PERPLEXITY, TOXICITY, "rank", LIGHT, limit=10)
    assert list(trace(figure, "Unedited model").x) == [0] and figure.layout.xaxis.rangemode is None


def test_a_run_held_beside_is_drawn_with_marks_of_its_own():
    figure = trade_off_figure(POINTS, PERPLEXITY, TOXICITY, "first layer", LIGHT, others=[make_point(3, 1, 12, 0.3)])
    rings = trace(figure, "The other run")
    assert (list(rings.x), list(rings.y), rings.marker.color) == ([12], [0.3], LIGHT.civil)


def test_the_grid_shows_edit_and_control_on_one_scale():
    figure = grid_figure(POINTS, range(4), TOXICITY, LIGHT, current=2)
    edit, control, cells = figure.data
    assert edit.z.tolist() == [[0.4, 0.45], [0.1, 0.2]] and control.z.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert edit.coloraxis == control.coloraxis == "coloraxis"
    assert [row[0] for row in cells.customdata] == [0, 1, 2, 3]
    # The frame lies around rank 4 (second from below), first layer 0.
    frame = figure.layout.shapes[0]
    assert (frame.x0, frame.x1, frame.y0, frame.y1) == (-0.5, 0.5, 0.5, 1.5)
    # A grid that was stopped has holes.
    holes = grid_figure(POINTS, (0, 3), TOXICITY, LIGHT).data[0].text
    assert [list(row) for row in holes] == [["0.400", ""], ["", "0.200"]]


def test_csv_and_json_hold_every_setting(measured):
    from detox_engine.scoring.records import tabulate_sweep

    columns, rows = tabulate_sweep(tried(measured))
    assert len(rows) == 6 and {"layers", "rank", "strength", "profanity_control_mean"} <= set(columns)
    assert EditPlan((2,), 1) in [point.edit for point in tried(measured).points]
    assert next(csv.reader(io.StringIO(",".join(columns)))) == columns
