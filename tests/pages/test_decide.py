"""Decide: a run from the model to a verdict, which is there again for whoever asks the same."""

import io
import shlex
import zipfile
from dataclasses import replace

import pytest

from detox_engine.auto import run as running
from detox_engine.auto import sets
from detox_engine.auto.run import STEPS, Outcome
from detox_engine.auto.verdict import Criterion, Verdict
from detox_engine.errors import Cancelled
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import TextSpec
from detox_engine.scoring.records import read_evaluation
from detox_engine.scoring.sweep import make_grid
from detox_engine.study.suggestion import search
from pages.decide import work
from pages.decide.figures import list_points, list_scores
from pages.decide.page import estimate
from tests.pages.conftest import find_results, fitted_app, run_until, texts
from ui.show.colours import DARK, LIGHT
from ui.show.effects import ROWS, changes_figure
from ui.work.sweep import SWEEP

PAGE = "decide/page.py"


@pytest.fixture(autouse=True)
def few_texts(monkeypatch):
    monkeypatch.setattr(search, "SLOPE_TEXTS", 6)
    monkeypatch.setattr(search, "MEASURED_TEXTS", 6)
    monkeypatch.setattr(running, "write_report", lambda study, told, out, progress: out.write_text("<html></html>"))
    work.KEPT._results.clear()


def open_page(folder: str, **link: object):
    session = fitted_app(folder, **link).switch_page(PAGE).run()
    assert not session.exception, session.exception
    return session


def test_before_a_run_the_page_says_what_it_will_do_and_how_long_it_takes(tiny_folder):
    session = open_page(tiny_folder)
    shown = texts(session)
    assert "measures it on prompts that neither has seen" in shown and "About 1 min" in shown
    assert session.button(key="decide").label == "Find out"


def test_a_run_ends_in_a_verdict_that_is_there_again_in_another_session(tiny_folder):
    """A tiny model of random weights has nothing to remove, and that is a verdict too."""
    session = open_page(tiny_folder)
    session.button(key="decide").click().run()
    run_until(session, lambda session: "decide" not in session.session_state["jobs"] or session.error)
    assert not session.exception, session.exception
    shown = texts(session)
    assert "Do not ship" in shown and "pairs to fit on" in shown
    report = next(each for each in session.get("download_button") if each.proto.id.endswith("download_decided_report"))
    assert report is not None
    work.RUN._shared._results.clear()
    work.KEPT._results.clear()
    again = open_page(tiny_folder)
    assert "Do not ship" in texts(again) and not [each for each in again.button if each.key == "decide"]


def test_what_was_stopped_goes_on(tiny_folder, monkeypatch):
    def stop(*given, **more):
        raise Cancelled

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_screen", stop)
        session = open_page(tiny_folder, decide_limit=1.2)
        session.button(key="decide").click().run()
        run_until(session, lambda session: not session.session_state["jobs"]["decide"].running)
        session.run()
        assert "the steps that are done are kept" in texts(session)
        assert session.button(key="decide").label == "Go on with the run"
    session.button(key="decide").click().run()
    run_until(session, lambda session: "decide" not in session.session_state["jobs"] or session.error)
    assert "Do not ship" in texts(session)


def test_too_few_prompts_are_one_sentence(tiny_folder, monkeypatch):
    monkeypatch.setattr(sets, "LEAST_REPORTED", 10_000)
    session = open_page(tiny_folder, decide_limit=1.3)
    session.button(key="decide").click().run()
    run_until(session, lambda session: session.error)
    assert "left to report on" in session.error[0].value and len(session.error) == 1


def test_the_picture_has_a_row_for_each_score_and_a_mark_for_each_side(record):
    evaluation = read_evaluation(record)
    for colours in (LIGHT, DARK):
        figure = changes_figure(evaluation.scores, evaluation.plan.kinds, colours)
        rows = [name for name in ROWS if evaluation.find(name) is not None]
        assert [len(trace.x) for trace in figure.data] == [len(rows)] * 3
        assert {trace.marker.symbol for trace in figure.data} == {"diamond", "square-open", "triangle-up-open"}
        edit = figure.data[0]
        effect = evaluation.find("perplexity").effect
        place = rows.index("perplexity")
        assert edit.x[place] == pytest.approx(100 * effect.difference.mean / effect.before.mean)
    (point,) = list_points([evaluation])
    by = point.effects["perplexity"].after.mean
    assert by == pytest.approx(edit.x[place]), "runs on other prompts compare in % of what it was"
    heads, cells = list_scores(evaluation)
    assert len(heads) == len(cells[0]) and len(cells) == len(evaluation.scores)


def test_the_command_is_the_run_of_the_page(tiny_folder):
    session = open_page(tiny_folder, decide_cost="strong", decide_minutes=30)
    command = shlex.split(session.code[0].value)
    assert command[:2] == ["detox", "auto"] and command[command.index("--cost") + 1] == "strong"
    assert command[command.index("--budget") + 1] == "30"
    assert "--strengths" in command[command.index("sweep") :], "the sweep that the page offers"


def test_a_finished_run_can_be_taken_away(tiny_folder, fitted, record, tmp_path, monkeypatch):
    session = open_page(tiny_folder, decide_limit=1.4)
    folder = tmp_path / work.NAME
    folder.mkdir()
    (folder / "report.html").write_text("<html></html>")
    (folder / "README.md").write_text("A card")
    evaluation = read_evaluation(record)
    _, study = fitted
    verdict = Verdict("ship", "It is *good*.", (Criterion("Is it good?", "yes", "It is."),))
    counts = {"pairs": 1, "prompts": 2, "texts": 3}
    place, sizes = folder.with_name(f"{work.NAME}.run"), dict.fromkeys(("fit", "choose", "report"), counts)
    outcome = Outcome(
        place, dict.fromkeys(STEPS, 1.0), sizes,
        study=study, evaluation=evaluation, verdict=verdict, export=object(),
    )  # fmt: skip
    monkeypatch.setattr(work, "find_done", lambda asked, study: outcome)
    session.run()
    assert not session.exception, session.exception
    shown = texts(session)
    assert "Ship" in shown and "It is *good*" in shown and 'class="finding better"' in shown
    # The frontier, and what the edit changes.
    assert len(session.get("plotly_chart")) == 2
    from ui.show.downloads import zip_folder

    with zipfile.ZipFile(io.BytesIO(zip_folder(folder, work.NAME))) as archive:
        assert archive.namelist() == [f"{work.NAME}/README.md", f"{work.NAME}/report.html"]


def test_a_run_is_kept_by_what_it_rests_on_and_not_by_how_long_it_may_take(tiny_folder):
    from detox_engine.plans.auto import AutoPlan
    from ui.session.view import Fitted, StudyKey

    asked = work.Asked(Fitted(StudyKey(), "now"), AutoPlan())
    folder = work.find_folder(asked, "sha256:a")
    assert folder == work.find_folder(replace(asked, plan=AutoPlan(minutes=5)), "sha256:a")
    assert folder != work.find_folder(replace(asked, plan=AutoPlan(cost="strong")), "sha256:a")
    assert folder != work.find_folder(asked, "sha256:b")
    assert estimate(type("Study", (), {"seconds": {}})()) == ""


def test_strengths_around_the_edit_plan_are_swept_here_and_shown_with_what_was_swept_before(tiny_folder, monkeypatch):
    few = EvaluationPlan(
        ("profanity", "perplexity"), limit_prompts=2, sampling=SamplingPlan(max_new_tokens=3),
        neutral=TextSpec(limit=3), control="plain", controls=1, resamples=100,
    )  # fmt: skip
    usual = work.plan_strengths
    monkeypatch.setattr(work, "plan_strengths", lambda edit: replace(usual(edit), evaluation=few))
    session = open_page(tiny_folder, layers="1-2", rank=2, strength=0.9)
    assert "at strengths 0.25 to 1.5" in texts(session).replace("\\", "") and not session.get("plotly_chart")

    def sweep() -> str:
        """Sweep, and say what the picture then shows."""
        session.button(key="sweep_strengths").click().run()
        run_until(session, lambda session: "sweep" not in session.session_state["jobs"] or session.error, 120)
        assert not session.exception and not session.error
        return session.get("plotly_chart")[0].alt

    assert sweep().startswith("7 settings and 0 evaluations")
    ((_, first),) = find_results(SWEEP, session)
    assert [point.strength for point in first.points] == [0.25, 0.5, 0.75, 0.9, 1, 1.25, 1.5]
    assert {(point.layers, point.rank) for point in first.points} == {((1, 2), 2)}
    assert "not among what was measured" not in texts(session)
    next(slider for slider in session.sidebar.slider if slider.label == "Rank").set_value(1).run()
    assert "not among what was measured" in texts(session)
    assert sweep().startswith("14 settings and 0 evaluations")


def test_the_strengths_are_of_the_plans_own_layers_neighbours_or_not():
    for layers in ((0, 2), (0, 1, 2)):
        grid = make_grid(work.plan_strengths(EditPlan(layers, 1, 0.9)), 3)
        assert {setting.layers for setting in grid} == {layers} and len(grid) == len(work.STRENGTHS) + 1
