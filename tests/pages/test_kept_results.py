"""What was found with a study stays on disk: found again after a restart and in other sessions, named, held beside
one another, taken away."""

import json
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from detox_engine.disk import write_json
from detox_engine.errors import Cancelled, InputError
from detox_engine.forward.compare import Comparison
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan, SweepPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import TextSpec
from detox_engine.scoring.evaluation import Evaluation, compare_evaluations, evaluate
from detox_engine.scoring.records import record_evaluation, record_sweep
from detox_engine.scoring.sweep import Sweep, run_sweep
from detox_engine.workbench import Workbench
from pages.compare import work as compare
from pages.evaluate.parts import beside_html, pair_scores
from tests.pages.conftest import LIMIT, fitted_app, forget_results, open_app, run_until, texts
from ui.session import kept_results, places, shared_models
from ui.session.kept import Kept
from ui.session.kept_results import Shape, delete_result, keep_result, list_results, name_result
from ui.session.view import Fitted, StudyKey
from ui.words import rude_words
from ui.work import evaluation as evaluation_work
from ui.work import sweep as sweep_work
from ui.work.tasks import Task

NEUTRAL = TextSpec(limit=4)
PLAN = EvaluationPlan(
    ("profanity", "perplexity"), limit_prompts=4, sampling=SamplingPlan(max_new_tokens=4), neutral=NEUTRAL,
    controls=1, resamples=100,
)  # fmt: skip
EDIT = EditPlan((0, 1), 1, switched_off=frozenset([(1, 0)]))


@dataclass(frozen=True)
class Asked:
    fitted: Fitted
    number: int


NUMBERS = Shape("numbers", Asked, lambda: float)


@pytest.fixture(scope="module")
def opened(fitted):
    model, study = fitted
    return model, study, Fitted(StudyKey(), study.made)


@pytest.fixture(scope="module")
def two(opened) -> tuple[Evaluation, Evaluation]:
    model, study, _ = opened
    return tuple(evaluate(model, study, EditPlan((0, 1, 2), rank), PLAN) for rank in (1, 3))


def test_an_evaluation_comes_back_as_it_was(opened, two):
    _, study, fitted = opened
    asked = evaluation_work.Asked(fitted, EDIT, PLAN)
    shape = evaluation_work.EVALUATION.shape
    assert not list_results(shape, study, fitted)
    keep_result(shape, study, asked, two[0], True)
    (result,) = list_results(shape, study, fitted)
    assert result.asked == asked and result.whole
    assert write_json(record_evaluation(result.found)) == write_json(record_evaluation(two[0]))
    for name, items in two[0].items.items():
        np.testing.assert_array_equal(result.found.items[name], items)
    assert result.found.prompts[0].comparisons == two[0].prompts[0].comparisons


def test_a_sweep_and_what_was_written_come_back_as_they_were(opened):
    model, study, fitted = opened
    plan = SweepPlan((1, 2), (0,), evaluation=PLAN)
    found = run_sweep(model, study, plan)
    keep_result(sweep_work.SWEEP.shape, study, sweep_work.Asked(fitted, plan), found, True)
    (result,) = list_results(sweep_work.SWEEP.shape, study, fitted)
    assert isinstance(result.found, Sweep) and result.asked.plan == plan
    assert write_json(record_sweep(result.found)) == write_json(record_sweep(found))
    assert [scorer.title for scorer in result.found.scorers] == [scorer.title for scorer in found.scorers]
    sampling = SamplingPlan(max_new_tokens=4, samples=2)
    written = Workbench(model).compare(study, EDIT, ["Hello", "You there"], sampling)
    asked = compare.Asked(fitted, EDIT, ("Hello", "You there"), sampling)
    keep_result(compare.WRITING.shape, study, asked, written, True)
    (result,) = list_results(compare.WRITING.shape, study, fitted)
    assert result.asked == asked and isinstance(result.found[0], Comparison)
    # As texts, since an empty continuation's toxicity is no number, and so equals nothing.
    assert repr(result.found) == repr(written)


def test_what_is_told_a_few_prompts_at_a_time_is_what_is_written_in_one_go(opened, monkeypatch):
    model, study, fitted = opened
    bench, prompts = Workbench(model), tuple(f"Hello {number}" for number in range(5))
    asked = compare.Asked(fitted, EditPlan((0, 1), 1), prompts, SamplingPlan(max_new_tokens=4, samples=2))
    monkeypatch.setattr(compare, "AT_ONCE", 4)
    told, steps = [], []
    found = compare.answer(bench, study, asked, lambda *step: steps.append(step), told.append)
    assert [len(part) for part in told] == [4, 8] and {total for _, _, total in steps} == {5}
    whole = bench.compare(study, asked.edit, prompts, asked.sampling)
    assert [one.texts for one in found] == [one.texts for one in whole]


def test_results_belong_to_their_study_and_the_latest_comes_last(opened):
    _, study, fitted = opened
    for number in (3, 1, 2):
        keep_result(NUMBERS, study, Asked(fitted, number), number / 3, True)
    keep_result(NUMBERS, study, Asked(fitted, 3), 9.0, True)
    found = list_results(NUMBERS, study, fitted)
    assert [(each.asked.number, each.found) for each in found] == [(1, 1 / 3), (2, 2 / 3), (3, 9.0)]
    assert not list_results(NUMBERS, replace(study, pairs_hash="sha256:of others"), fitted)
    later = Fitted(fitted.study, "later")
    assert {each.asked.fitted for each in list_results(NUMBERS, study, later)} == {later}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: "{",
        lambda record: "[]",
        lambda record: json.dumps(record | {"format": 99}),
        lambda record: json.dumps(record | {"asked": {"fitted": None}}),
        lambda record: json.dumps(record | {"asked": record["asked"] | {"more": 1}}),
        lambda record: json.dumps(record | {"found": "many"}),
        lambda record: json.dumps(record | {"rude_words": 3}),
        lambda record: json.dumps({key: value for key, value in record.items() if key != "made"}),
    ],
)
def test_what_is_no_result_is_left_out_and_left_alone(opened, spoil):
    _, study, fitted = opened
    kept = keep_result(NUMBERS, study, Asked(fitted, 1), 1.0, True)
    keep_result(NUMBERS, study, Asked(fitted, 2), 2.0, True)
    spoilt = spoil(json.loads(kept.file.read_text()))
    kept.file.write_text(spoilt)
    assert [each.asked.number for each in list_results(NUMBERS, study, fitted)] == [2]
    assert kept.file.read_text() == spoilt


def test_a_part_gives_way_to_the_whole_and_never_takes_its_place(opened):
    _, study, fitted = opened
    asked = Asked(fitted, 1)
    assert not keep_result(NUMBERS, study, asked, 0.5, False).whole
    assert keep_result(NUMBERS, study, asked, 1.0, True).whole
    assert keep_result(NUMBERS, study, asked, 0.7, False) is None
    (result,) = list_results(NUMBERS, study, fitted)
    assert (result.found, result.whole) == (1.0, True)


def test_a_name_stays_when_the_result_is_found_anew_and_goes_with_it(opened):
    _, study, fitted = opened
    kept = keep_result(NUMBERS, study, Asked(fitted, 1), 1.0, True)
    name_result(kept, "  the   one <b> ")
    keep_result(NUMBERS, study, Asked(fitted, 1), 2.0, True)
    (result,) = list_results(NUMBERS, study, fitted)
    assert (result.name, result.found) == ("the one <b>", 2.0)
    delete_result(result)
    assert not list_results(NUMBERS, study, fitted)
    with pytest.raises(InputError, match="gone"):
        name_result(result, "another")


def test_rude_words_of_a_kept_text_are_known_without_the_scorer(opened, monkeypatch):
    _, study, fitted = opened
    keep_result(NUMBERS, study, Asked(fitted, 1), 1.0, True, ["What an idiot", "a lamp"])
    monkeypatch.setattr(rude_words, "_known", {})
    kept_results._READ = Kept(64)
    list_results(NUMBERS, study, fitted)
    assert rude_words._known["idiot"] and not rude_words._known["lamp"]


def test_a_disk_that_takes_nothing_costs_only_the_next_start(opened, monkeypatch):
    _, study, fitted = opened

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_results, "write_whole", full)
    assert keep_result(NUMBERS, study, Asked(fitted, 1), 1.0, True) is None


def test_work_that_is_stopped_leaves_what_it_told(opened, monkeypatch):
    _, study, fitted = opened

    class Shelf:
        def fit(self, key, progress):
            return study

    told, go_on = threading.Event(), threading.Event()

    def answer(model, study, asked, progress, tell):
        tell(0.25)
        told.set()
        go_on.wait(20)
        raise Cancelled

    monkeypatch.setattr(shared_models, "shelf", Shelf)
    task, asked = Task("numbering", answer, keep=2, needs_model=False, shape=NUMBERS), Asked(fitted, 1)
    job = task.begin(asked)
    assert told.wait(20)
    (running,) = task.results(study, fitted)
    assert (running.found, running.whole, running.file) == (0.25, False, None)
    go_on.set()
    while job.running:
        pass
    again = Task("numbering", answer, keep=2, needs_model=False, shape=NUMBERS)
    (result,) = again.results(study, fitted)
    assert (result.found, result.whole) == (0.25, False)


@pytest.mark.parametrize(("keeps", "error"), [(True, Cancelled), (False, Cancelled), (True, InputError("no"))])
def test_what_was_found_whole_outlasts_a_run_that_was_stopped_or_failed(opened, monkeypatch, keeps, error):
    _, study, fitted = opened

    class Shelf:
        def fit(self, key, progress):
            return study

    runs = iter((None, error))

    def answer(model, study, asked, progress, tell):
        ends = next(runs)
        if ends is None:
            return 1.0
        tell(0.25)
        raise ends

    monkeypatch.setattr(shared_models, "shelf", Shelf)
    monkeypatch.setattr("ui.work.tasks.keeps_results", lambda: keeps)
    task, asked = Task("numbering again", answer, keep=2, needs_model=False, shape=NUMBERS), Asked(fitted, 1)
    for state in ("done", "stopped" if error is Cancelled else "failed"):
        job = task.begin(asked)
        while job.running:
            pass
        assert job.snapshot.state == state
        (result,) = task.results(study, fitted)
        assert (result.found, result.whole) == (1.0, True)


def test_on_a_server_for_others_nothing_is_kept_of_them(opened, monkeypatch):
    _, study, fitted = opened
    assert places.keeps_results()
    monkeypatch.setattr(places.st, "get_option", lambda name: "0.0.0.0")
    assert not places.keeps_results()
    monkeypatch.setenv(places.KEEP, "on")
    assert places.keeps_results()


def test_two_evaluations_are_held_together_item_by_item(two):
    first, second = two
    found = compare_evaluations(first, second)
    assert found.keys() >= {"profanity", "perplexity"}
    for name, difference in found.items():
        by = second[name].effect.after.mean - first[name].effect.after.mean
        assert difference.mean == pytest.approx(by) and difference.low <= difference.mean <= difference.high
    back = compare_evaluations(second, first)
    assert back["perplexity"].mean == pytest.approx(-found["perplexity"].mean)
    itself = compare_evaluations(first, first)["perplexity"]
    assert (itself.mean, itself.low, itself.high) == (0, 0, 0)


def test_evaluations_by_other_plans_are_not_paired(two, opened):
    other = replace(two[1], plan=replace(PLAN, seed=1))
    assert compare_evaluations(two[0], other) == {}
    told = beside_html(pair_scores(two[0], other), {}, ["one <b>", "other"])
    assert "cannot" not in told and "no difference can be paired" in told and "one &lt;b&gt;" in told


PAGE = "evaluate/page.py"


def evaluate_now(session, rank: int):
    next(slider for slider in session.sidebar.slider if slider.label == "Rank").set_value(rank).run()
    session.button(key="evaluate").click().run()
    run_until(session, lambda session: "evaluation" not in session.session_state["jobs"] or session.error, 120)
    assert not session.exception and not session.error, (session.exception, texts(session))


def test_after_a_restart_an_evaluation_is_there_and_two_are_held_side_by_side(tiny_folder):
    link = {
        "layers": "0-2", "rank": 8, "evaluate_scorers": "profanity,perplexity", "evaluate_limit_prompts": 4,
        "evaluate_tokens": 4, "evaluate_controls": 1, "evaluate_resamples": 100, "evaluate_limit_neutral": 4,
    }  # fmt: skip
    session = fitted_app(tiny_folder, **link).switch_page(PAGE).run()
    assert "Nothing is measured yet" in texts(session)
    evaluate_now(session, 2)
    evaluate_now(session, 3)
    forget_results()
    again = open_app("evaluate", model=tiny_folder, device="cpu", limit=LIMIT, **link)
    assert not again.exception
    kept = again.selectbox(key="evaluation_shown")
    assert len(kept.options) == 2 and "rank 3" in kept.options[0]
    assert "The two side by side" not in texts(again)
    beside = again.selectbox(key="evaluation_beside")
    beside.set_value(beside.options[1]).run()
    assert not again.exception, again.exception
    assert "The two side by side" in texts(again) and "paired (95 %)" in texts(again)
    again.button(key="evaluation_delete").click().run()
    assert len(again.selectbox(key="evaluation_shown").options) == 1
    assert len(list(Path(kept_results.find_folder(current(again))).glob("*/*.json"))) == 1


def current(session):
    return shared_models.shelf().find_study(session.session_state["view"].study_key)
