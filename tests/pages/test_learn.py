"""Learn: nine steps that are predicted first and measured then, on the study at hand, and ten closing questions."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from detox_engine.estimates import Tally
from detox_engine.lab.contestants import Draw
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.lab.factors import FactorPlan
from detox_engine.reading.lens import Reading, TokenScore
from detox_engine.scoring.scorers.mass import Mass
from detox_engine.study.methods import detox
from detox_engine.study.subspace import principal_angles
from pages.learn import answers, figures, markup, work
from pages.learn.picks import LearnPicks, OwnEdit, Predictions, QuizPicks
from pages.learn.questions import QUESTIONS, count_right, describe_score
from pages.learn.steps import NAMES, QUIZ, STEPS
from pages.learn.work import Change, Distances, Mean, Neighbours, Outcome, Poles, Turned
from tests.pages.conftest import HOSTILE, LIMIT, open_app, run_until, texts
from ui.session.links import read_link, write_link
from ui.session.shared_models import shelf
from ui.session.view import Fitted, View
from ui.show.colours import DARK, LIGHT
from ui.show.poles import poles_html

PAGE = "learn/page.py"
BY_NAME = {step.name: step for step in STEPS}


@pytest.fixture(autouse=True)
def few_texts(monkeypatch):
    """What is run takes a moment on a tiny model."""
    monkeypatch.setattr(work, "PROMPTS", 2)
    monkeypatch.setattr(work, "TEXTS", 3)
    monkeypatch.setattr(work, "TOKENS", 4)


def open_page(folder: str, **link: object):
    """The page, with the study of the tiny model fitted."""
    session = open_app(model=folder, device="cpu", limit=LIMIT, **link).switch_page(PAGE).run()
    if any(button.key == "fit_now" for button in session.button):
        session.button(key="fit_now").click().run()
    run_until(session, lambda session: "The study is being fitted" not in texts(session))
    assert not session.exception, session.exception
    return session


def study_of(session):
    key = session.session_state["view"].study_key
    study = shelf().find_study(key)
    return study, Fitted(key, study.made)


def predict(session, name: str, value: int):
    kind = session.radio if BY_NAME[name].answers else session.select_slider
    kind(key=f"lesson_predict_{name}").set_value(value).run()
    assert not session.exception, session.exception
    return session


def reveal(session):
    session.button(key="lesson_show").click().run()
    run_until(session, lambda session: session.success or session.warning or session.error)
    assert not session.exception and not session.error, (session.exception, session.error)
    return session


def measured(session, name: str) -> answers.Answer:
    """What the engine finds for a step, without the page."""
    study, fitted = study_of(session)
    layer = work.find_best_layer(study)
    picks = session.session_state["view"]["learn"]
    asked = answers.ask_of(name, fitted, study, picks)
    if asked is not None:
        found = work.answer(shelf().workbench(fitted.study.model), study, asked, lambda *told: None, None)
        return {"removing": answers.of_removal, "breaking": answers.of_breaking, "own": answers.of_own}[name](found)
    match name:
        case "embedding":
            return answers.of_neighbours(work._find_neighbours(study, layer))
        case "pairs":
            return answers.of_distances(work._find_distances(study, layer))
        case "centring":
            return answers.of_mean(work._find_mean(fitted, study, layer), layer)
        case "noise":
            return answers.of_spectrum(study, layer)
        case "reading":
            return answers.of_poles(work._find_poles(fitted, study, layer))
    return answers.of_turned(work._find_turned(study, layer))


def unescaped(session) -> str:
    return texts(session).replace("\\", "")


def test_without_a_study_the_page_offers_to_fit_one(tiny_folder):
    session = open_app(model=tiny_folder, limit=LIMIT - 1).switch_page(PAGE).run()
    assert "There is no study to show yet" in texts(session)
    assert all(button.key != "lesson_next" for button in session.button)


def test_the_lesson_from_start_to_end(tiny_folder):
    """Every step waits for a prediction, shows what the engine computes, and says whether the prediction was right."""
    session = open_page(tiny_folder)
    for number, step in enumerate(STEPS, start=1):
        assert f"{number}. {step.title}" in [head.value for head in session.header]
        assert f"Step {number} of 9" in texts(session)
        assert session.button(key="lesson_show").disabled and "Your prediction was" not in texts(session)
        found = measured(session, step.name)
        wrong = step.name in ("pairs", "removing", "labels")
        right = found.right if step.answers else round(found.right, -1)
        told = (right + wrong * (1 if step.answers else 40)) % (len(step.answers) or 100)
        predict(session, step.name, told)
        assert not session.button(key="lesson_show").disabled
        reveal(session)
        shown = unescaped(session)
        if wrong:
            assert "Your prediction was wrong" in session.warning[0].value
            assert answers.name_answer(step, told) in session.warning[0].value.replace("\\", "")
        else:
            assert "Your prediction was right" in session.success[0].value
        assert f"Measured: {answers.name_answer(step, found.right)}" in shown
        assert found.why in shown
        assert all(button.key != "lesson_show" for button in session.button)
        session.button(key="lesson_next").click().run()
        assert not session.exception, session.exception
    assert "9 predicted, 6 of 9 right" in texts(session)
    assert [head.value for head in session.header] == ["Ten closing questions"]


def test_back_keeps_what_was_predicted_and_what_was_shown(tiny_folder):
    session = open_page(tiny_folder)
    predict(session, "embedding", 1)
    reveal(session)
    session.button(key="lesson_next").click().run()
    predict(session, "pairs", 2)
    session.button(key="lesson_next").click().run()
    session.button(key="lesson_back").click().run()
    assert session.radio(key="lesson_predict_pairs").value == 2 and not session.success and not session.warning
    session.button(key="lesson_back").click().run()
    assert session.success or "Another rude text" in session.warning[0].value
    assert session.button(key="lesson_back").disabled
    session.button(key="lesson_anew").click().run()
    assert session.session_state["view"]["learn"] == LearnPicks()
    assert session.radio(key="lesson_predict_embedding").value is None


def test_a_link_restores_the_lesson_and_shows_nothing_that_was_not_predicted(tiny_folder):
    session = open_page(tiny_folder, lesson_step=2, lesson_pairs=1, lesson_shown="embedding,pairs")
    assert session.success or session.warning
    session.segmented_control(key="lesson_step").set_value(1).run()
    assert session.button(key="lesson_show").disabled and not session.success and not session.warning
    picks = LearnPicks(
        4, Predictions(noise=0, labels=30), ("noise",), 50, 1.0, 20, OwnEdit(0, 1, 2, 0.5), QuizPicks(q3=2)
    )
    view = View(pages=View().pages | {"learn": picks})
    assert read_link(write_link(view))["learn"] == picks


def test_an_own_edit_has_a_receipt_and_becomes_the_plan_of_the_session(tiny_folder):
    session = open_page(tiny_folder, lesson_step=9)
    session.slider(key="lesson_own_layers").set_value((1, 2)).run()
    session.slider(key="lesson_own_rank").set_value(2).run()
    session.slider(key="lesson_own_strength").set_value(0.5).run()
    predict(session, "own", 0)
    reveal(session)
    receipt = session.code[0].value
    study, _ = study_of(session)
    assert "layers 1-2, rank 2, strength 0.5" in receipt and study.model.weights_hash[:19] in receipt
    assert "ver 2 prompts" in receipt and "over 3 texts" in receipt
    session.button(key="lesson_take").click().run()
    assert session.session_state["view"].edit == EditPlan((1, 2), 2, 0.5)
    assert session.button(key="lesson_take").disabled
    # Another edit has not been predicted.
    session.slider(key="lesson_own_rank").set_value(3).run()
    assert session.session_state["view"]["learn.predictions.own"] is None
    assert session.button(key="lesson_show").disabled and not session.code


def test_the_closing_questions_are_scored_once_all_are_answered(tiny_folder):
    session = open_page(tiny_folder, lesson_step=QUIZ)
    assert session.button(key="lesson_score").disabled and "10 of 10 are still to be answered" in texts(session)
    given = [question.right for question in QUESTIONS]
    given[4] = (given[4] + 1) % 4
    for number, answer in enumerate(given, start=1):
        session.radio(key=f"lesson_question_{number}").set_value(answer).run()
    session.button(key="lesson_score").click().run()
    assert "9 of 10 right" in session.info[0].value and len(session.success) == 9 and len(session.warning) == 1
    shown = unescaped(session)
    assert all(question.why in shown for question in QUESTIONS)
    assert QUESTIONS[4].answers[QUESTIONS[4].right] in session.warning[0].value.replace("\\", "")


def test_a_study_without_embeddings_is_told_so(tiny_folder):
    session = open_page(tiny_folder)
    key = session.session_state["view"].study_key
    study = shelf().find_study(key)
    try:
        shelf()._studies.keep(key, replace(study, embeddings=None))
        session.run()
        assert "did not keep" in session.error[0].value and not session.header
    finally:
        shelf()._studies.keep(key, study)


def test_the_synthetic_world_follows_its_sliders(tiny_folder):
    session = open_page(tiny_folder, lesson_step=4, lesson_noise=1, lesson_shown="noise")
    told = work.judge_world(FactorPlan(pairs=500, noise=0.3))
    assert f"to within {told.detox[-1]:.0f}°" in unescaped(session)
    session.slider(key="lesson_world_noise").set_value(2.0).run()
    session.slider(key="lesson_world_pairs").set_value(20).run()
    assert "no better than chance" in unescaped(session)


@pytest.mark.parametrize("link", [{"lesson_embedding": 3}, {"lesson_labels": 91}, {"lesson_own_strength": 0}])
def test_a_link_that_predicts_what_no_step_offers_is_refused_and_the_page_is_drawn(installed, tiny_folder, link):
    session = open_page(tiny_folder, **link, lesson_shown=",".join(NAMES))
    assert f"its part “{next(iter(link))}” is wrong" in unescaped(session)
    assert session.session_state["view"]["learn"] == LearnPicks()


def test_another_edit_of_ones_own_takes_the_prediction_of_the_last_one_back():
    picks = LearnPicks(9, Predictions(noise=1, own=2), ("noise", "own"))
    changed = LearnPicks(9, Predictions(noise=1), ("noise",), own=OwnEdit(rank=3))
    assert picks.with_own(rank=3) == changed


def test_nothing_is_shown_of_a_step_that_was_not_predicted_whatever_is_asked():
    assert not LearnPicks(shown=NAMES).is_shown("noise")
    assert LearnPicks(predictions=Predictions(noise=0), shown=NAMES).is_shown("noise")


def test_another_study_lets_go_of_predictions_and_keeps_the_closing_answers():
    picks = LearnPicks(5, Predictions(noise=1), ("noise",), quiz=QuizPicks(q1=1), scored=True)
    assert picks.of_another_study() == LearnPicks(quiz=QuizPicks(q1=1), scored=True)


def test_every_step_has_a_place_for_its_prediction_and_words_that_can_be_filled():
    assert [step.name for step in STEPS] == [*NAMES] == [*Predictions.__dataclass_fields__]
    gaps = dict.fromkeys(("hidden", "layer", "pairs", "directions", "words", "edited", "wide"), "7")
    for step in STEPS:
        assert "{" not in step.said.format(**gaps) + step.question.format(**gaps)
        assert len(step.answers) in (0, 3, 4) and bool(step.answers) != bool(step.near)
    assert len(QUESTIONS) == len(QuizPicks().answers) == 10
    assert all(0 <= question.right < len(set(question.answers)) == 4 for question in QUESTIONS)
    assert len({question.right for question in QUESTIONS}) == 4
    assert count_right([question.right for question in QUESTIONS]) == 10 and count_right([None] * 10) == 0
    assert len({describe_score(right) for right in (2, 8, 10)}) == 3


def make_reading(*tokens: str) -> Reading:
    ends = tuple(TokenScore(id, token, 0.5) for id, token in enumerate(tokens))
    return Reading(ends, ends)


def make_outcome(rude: float, cost: float) -> Outcome:
    return Outcome((Change(0.2, 0.2 * rude, 0, 2),), (Change(10.0, 10 * cost, 0, 2),), ((),), 3)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (answers.of_neighbours(Neighbours(0.6, 0.3, 0.1, 10)), 0),
        (answers.of_neighbours(Neighbours(0.1, 0.8, 0.1, 10)), 1),
        (answers.of_neighbours(Neighbours(0.1, 0.3, 0.6, 10)), 2),
        (answers.of_distances(Distances(np.array([9.0]), np.array([10.0]))), 0),
        (answers.of_distances(Distances(np.array([5.0]), np.array([10.0]))), 1),
        (answers.of_distances(Distances(np.array([1.0]), np.array([10.0]))), 2),
        (answers.of_distances(Distances(np.array([0.0]), np.array([0.0]))), 0),
        (answers.of_mean(Mean((0,), (make_reading("·idiot", "·moron", ","),), 0.9, 0.1, 0.5), 0), 0),
        (answers.of_mean(Mean((0,), (make_reading(",", "·the", "·stupid"),), 0.9, 0.1, 0.1), 0), 1),
        (answers.of_mean(Mean((0,), (make_reading("·Mary", "·oven", ","),), 0.9, 0.1, 0.1), 0), 2),
        (answers.of_mean(Mean((0,), (make_reading("ope", "<0xC5>", ","),), 0.9, 0.1, 0.1), 0), 3),
        (answers.of_poles(Poles(make_reading("·oven", "·idiot"), 0.9, 20)), 0),
        (answers.of_poles(Poles(make_reading("·oven", *["·idiot"] * 3), 0.9, 20)), 1),
        (answers.of_poles(Poles(make_reading("·oven", *["·idiot"] * 6), 0.9, 20)), 2),
        (answers.of_poles(Poles(make_reading("·oven", *["·idiot"] * 9), 0.9, 20)), 3),
        (answers.of_removal(make_outcome(1.5, 1.0)), 0),
        (answers.of_removal(make_outcome(1.0, 1.0)), 1),
        (answers.of_removal(make_outcome(0.7, 1.0)), 2),
        (answers.of_removal(make_outcome(0.2, 1.0)), 3),
        (answers.of_own(make_outcome(0.2, 1.0)), 0),
        (answers.of_own(make_outcome(0.2, 1.5)), 1),
        (answers.of_own(make_outcome(0.8, 1.0)), 2),
        (answers.of_own(make_outcome(0.8, 1.5)), 3),
    ],
)
def test_the_right_answer_is_the_one_that_the_numbers_speak_for(answer, right):
    assert answer.right == right and answer.why.endswith(".")


@pytest.mark.parametrize(("cost", "right"), [(1.05, 0), (1.5, 1), (4.0, 2)])
def test_what_breaks_is_told_by_perplexity(cost, right):
    one = make_outcome(0.5, cost)
    both = Outcome(one.rude * 2, (one.perplexity[0], Change(10, 30, 2, 4)), one.comparisons * 2, 3)
    assert answers.of_breaking(both).right == right


def test_a_change_whose_interval_holds_none_is_called_no_effect():
    sure = Outcome((Change(0.2, 0.1, 0.4, 0.6),), (Change(10.0, 10.1, 1, 1.02),), ((),), 3)
    unsure = replace(sure, rude=(Change(0.2, 0.1, 0.4, 1.1),))
    assert "leans less" in answers.of_removal(sure).why and "chance" not in answers.of_removal(sure).why
    assert "leans less" not in answers.of_removal(unsure).why and "could be chance" in answers.of_removal(unsure).why


def test_a_model_that_says_no_rude_words_has_nothing_to_lower():
    outcome = Outcome((Change(0.0, 0.0, 1, 1),), (Change(10, 10, 1, 1),), ((),), 3)
    assert answers.of_removal(outcome).right == 1 and "nothing to lower" in answers.of_removal(outcome).why


def test_an_angle_within_ten_degrees_is_right_and_no_other():
    labels = BY_NAME["labels"]
    answer = answers.Answer(14, "")
    assert [answers.is_right(labels, angle, answer) for angle in (0, 10, 20, 30)] == [False, True, True, False]


def test_swapped_labels_turn_directions_as_the_engine_says(fitted):
    _, study = fitted
    layer = work.find_best_layer(study)
    found = work._find_turned(study, layer)
    draw = Draw.of(study, len(study.pairs), 0.5, work.SEED)
    toxic, civil = (side[layer] for side in draw.embeddings(study))
    clean = study.subspaces[layer].basis[:1]
    angle = principal_angles(detox.fit_subspace(toxic, civil, 1).basis, clean).item()
    assert found.detox[-1, 0] == pytest.approx(angle, abs=0.01)
    assert found.detox[0].max() == found.mean_difference[0].max() == 0 and found.left[0].min() == 1
    assert found.left[-1].max() < 1


def test_neighbours_and_distances_are_those_of_the_embeddings(fitted):
    _, study = fitted
    toxic, civil = (side[1].double() for side in (study.embeddings.toxic, study.embeddings.civil))
    every = torch.cat([toxic, civil])
    nearest = [
        min(
            (other for other in range(len(every)) if other != row), key=lambda other: (every[other] - toxic[row]).norm()
        )
        for row in range(len(toxic))
    ]
    found = work._find_neighbours(study, 1)
    assert found.twin == np.mean([each == row + len(toxic) for row, each in enumerate(nearest)])
    assert found.toxic == np.mean([each < len(toxic) for each in nearest])
    assert found.twin + found.toxic + found.civil == pytest.approx(1)
    assert work._find_distances(study, 1).within == pytest.approx((toxic - civil).norm(dim=1).numpy())


def test_a_change_has_the_interval_of_its_ratio():
    generator = np.random.default_rng(1)
    counts = np.full((2, 40), 10.0)
    before = generator.uniform(1, 3, 40)
    (change,) = work._measure_change(Tally(np.stack([before, before * generator.uniform(0.4, 0.6, 40)]), counts))
    assert change.low < change.ratio < change.high and change.ratio == pytest.approx(0.5, abs=0.05)
    (nothing,) = work._measure_change(Tally(np.zeros((2, 3)), np.zeros((2, 3))))
    assert (nothing.ratio, nothing.low, nothing.high) == (1, 1, 1)
    assert Mass().title == "Probability of rude words"


def test_figures_are_drawn_for_light_and_dark_and_tell_no_side_before_it_is_known(fitted):
    _, study = fitted
    layer = work.find_best_layer(study)
    places = work._find_places(study, layer)
    labels = [["text"] * len(study.pairs)] * 2
    one = make_outcome(0.5, 2e9)
    for colours in (LIGHT, DARK):
        hidden = figures.places_figure(places, labels, False, colours)
        assert len({trace.marker.color for trace in hidden.data}) == 1 and not any(t.showlegend for t in hidden.data)
        assert "Rude" not in hidden.to_json()
        told = figures.places_figure(places, labels, True, colours)
        assert [trace.name for trace in told.data] == ["Twins", "Rude", "Civil"]
        figures.distances_figure(work._find_distances(study, layer), colours).to_json()
        figures.spectrum_figure(np.array([3.0, 1.0, 0.5]), 2.0, colours).to_json()
        figures.world_figure(work.judge_world(FactorPlan()), colours).to_json()
        cost = json.loads(figures.cost_figure(one, [EditPlan((0,), 1)], colours).to_json())
        assert [trace["name"] for trace in cost["data"]] == ["As it is", "1 direction, strength 1, layer 0"]
        angles = np.zeros((6, 3))
        assert len(figures.labels_figure(Turned(angles, angles, angles), 30, colours).data) == 2


def test_words_of_others_are_no_markup(fitted):
    assert "<script>" not in markup.embedding_html(HOSTILE, [0.5])
    assert "<img" not in poles_html(make_reading("<img src=x>"))
    assert "<img" not in markup.mean_html(Mean((0,), (make_reading("<img src=x>"),), 0, 0, 0))
    assert 'class="rude"' in poles_html(make_reading("·idiot"))


def test_an_own_edit_stays_within_the_study(fitted):
    _, study = fitted
    assert OwnEdit(9, 2, 16, 1.0).plan(study) == EditPlan((2,), 3, 1.0)
    assert OwnEdit().plan(study).layers == study.suggested_edit.layers
