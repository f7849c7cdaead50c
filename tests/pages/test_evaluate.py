"""Evaluate: every score before the edit, after it, and under random subspaces; worst prompts; the edit's proof."""

import json
import math
import shlex
import threading

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from detox_engine.cli.flags import read_said
from detox_engine.cli.main import app as command_line
from detox_engine.disk import write_json
from detox_engine.estimates import Control, Effect, Estimate
from detox_engine.plans.choice import Choice
from detox_engine.plans.commands import STUDY, evaluate_command
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import TextSpec
from detox_engine.scoring.evaluation import Score
from detox_engine.scoring.records import record_evaluation
from detox_engine.scoring.scorers import scorers
from detox_engine.scoring.scorers.capability import CapabilityOptions
from detox_engine.scoring.scorers.classifier import ClassifierOptions
from pages.evaluate.figures import find_fates, prompt_figure, suppression_figure
from pages.evaluate.parts import list_prompts
from tests.pages.conftest import LIMIT, find_results, fitted_app, open_app, run_until, texts
from tests.plans.test_commands import read
from tests.rounding import assert_alike
from ui.session.view import StudyKey
from ui.show.colours import DARK, LIGHT
from ui.show.effects import effect_figure
from ui.words.numbers import interval, number, signed
from ui.words.verdicts import judge, summarise_score
from ui.work.evaluation import EVALUATION

PAGE = "evaluate/page.py"
FIELDS = ("selectbox", "text_input", "multiselect", "number_input")
SMALL = {
    "evaluate_limit": 6,
    "evaluate_neutral_limit": 5,
    "evaluate_sampling_max_new_tokens": 6,
    "evaluate_controls": 2,
    "evaluate_resamples": 100,
}


def open_page(folder: str, **link: object):
    """The page on a study of the tiny model, with an edit that does something and little to measure."""
    session = fitted_app(folder, **({"layers": "1-2", "rank": 8} | link)).switch_page(PAGE).run()
    for key, value in SMALL.items():
        session.number_input(key=key).set_value(value)
    session.run()
    assert not session.exception, session.exception
    return session


def evaluate(session, button: str = "evaluate"):
    session.button(key=button).click().run()
    run_until(session, lambda session: "evaluation" not in session.session_state["jobs"] or session.error, 120)
    assert not session.exception, session.exception
    return session


def pick_rank(session, rank: int) -> None:
    """Change the edit plan in the sidebar."""
    next(slider for slider in session.sidebar.slider if slider.label == "Rank").set_value(rank).run()


def plain_texts(session) -> str:
    """What the page says, without the escapes of Markdown."""
    return texts(session).replace("\\", "")


def upload(session, what: str, name: str, content: bytes):
    session.button_group(key=f"evaluate_{what}_kind").set_value("file").run()
    session.file_uploader(key=f"evaluate_{what}_upload").set_value((name, content, "text/plain")).run()
    return session


def results(session):
    """The evaluations of the session's study, the latest last."""
    return [found for _, found in find_results(EVALUATION, session)]


@pytest.fixture(scope="module")
def measured(tiny_folder, tmp_path_factory):
    """A session that has evaluated its edit; tests only read it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return evaluate(open_page(tiny_folder))


def make_score(
    name="profanity", before=0.5, after=0.3, control=0.49, half=0.05, lower_is_better=True, matched=None
) -> Score:
    def estimate(mean: float) -> Estimate:
        return Estimate(mean, mean - half, mean + half, 9)

    sides = estimate(before), estimate(after), estimate(after - before)
    controls = (("plain", control), *((("matched", matched),) if matched is not None else ()))
    effect = Effect(
        *sides,
        tuple(
            Control(kind, estimate(level), estimate(level - before), (level - 0.01, level + 0.01))
            for kind, level in controls
        ),
    )
    return Score(
        kind=scorers()["profanity"],
        name=name,
        title="Toxicity",
        sentence="How toxic.",
        unit="toxicity, 0 to 1",
        items="prompts",
        lower_is_better=lower_is_better,
        range=(0, 1),
        is_change=name == "drift",
        effect=effect,
    )


def test_without_a_study_the_page_offers_to_fit_one(tiny_folder):
    session = open_app(model=tiny_folder, limit=LIMIT - 1).switch_page(PAGE).run()
    assert "There is no study to show yet" in texts(session)
    assert all(button.key != "evaluate" for button in session.button)


def test_before_anything_is_measured_the_page_says_what_to_do(tiny_folder):
    session = open_page(tiny_folder)
    assert "Nothing is measured yet" in texts(session) and not session.get("plotly_chart")
    assert not session.button(key="evaluate").disabled
    assert any("detox evaluate" in block.value for block in session.code)


def test_a_limit_that_is_not_set_shows_no_number_and_takes_everything(tiny_folder):
    session = fitted_app(tiny_folder).switch_page(PAGE).run()
    for key in ("evaluate_limit", "evaluate_neutral_limit"):
        field = session.number_input(key=key)
        assert field.value is None and field.placeholder == "all"
    session.number_input(key="evaluate_limit").set_value(6).run()
    assert session.session_state["view"]["evaluate.measures.plan.limit_prompts"] == 6
    session.number_input(key="evaluate_limit").set_value(None).run()
    assert session.number_input(key="evaluate_limit").value is None
    assert session.session_state["view"]["evaluate.measures.plan.limit_prompts"] is None


def test_a_chosen_scorer_asks_for_its_own_options_and_no_other_does(tiny_folder):
    session = fitted_app(tiny_folder).switch_page(PAGE).run()
    own = {"Classifier", "Its label for toxic text", "Tasks", "At most this many questions of each"}

    def asked() -> dict:
        return {each.label: each for kind in FIELDS for each in getattr(session, kind) if each.label in own}

    assert asked() == {}
    session.button_group(key="evaluate_scorers").set_value(["classifier", "capability"]).run()
    assert asked().keys() == own and asked()["Its label for toxic text"].placeholder == "found by itself"
    assert asked()["Classifier"].value == "unitary/toxic-bert" and len(asked()["Tasks"].value) == 7
    asked()["At most this many questions of each"].set_value(5).run()
    session.button_group(key="evaluate_scorers").set_value(["classifier"]).run()
    assert asked().keys() == {"Classifier", "Its label for toxic text"}
    session.button_group(key="evaluate_scorers").set_value(["capability"]).run()
    assert asked()["At most this many questions of each"].value == 5
    assert any("--scorers capability --limit-tasks 5" in block.value for block in session.code)


def test_every_score_stands_beside_its_control(measured):
    found = results(measured)[0]
    shown = texts(measured)
    cards = [score for score in found.scores if not score.name.startswith(("harmless", "groups"))]
    assert shown.count('class="score"') == len(cards) == 8
    assert shown.count("<dt>Random</dt>") == shown.count("<dt>Matched</dt>") == len(cards)
    assert "Matched in KL" in plain_texts(measured) and len(found.matches) == found.plan.controls
    # A chart for all changes, one for each, one for harmless texts, one for the prompts.
    assert len(measured.get("plotly_chart")) == len(cards) + 3
    assert "with random subspaces removed instead it is" in shown
    assert "with random subspaces matched in KL removed instead it is" in shown
    assert shown.count("random: ") == shown.count("matched: ") == 4
    assert "the same, bit for bit" in shown and "NOT" not in shown


def test_every_fate_of_the_prompts_can_be_read(measured):
    found = results(measured)[0]
    for fate in ("better", "worse", "stayed bad", "stayed fine"):
        measured.button_group(key="fate").set_value(fate).run()
        count = sum(outcome.fate == fate for outcome in found.prompts)
        shown = texts(measured)
        assert count or "None of the prompts" in shown
        assert shown.count("<article>") == min(count, 5)
    assert len(found.prompts) == 6


def test_page_and_command_line_agree_to_the_digit(measured, tmp_path):
    study, report = tmp_path / "study", tmp_path / "report.json"
    lines = next(code.value for code in measured.get("code") if "detox fit" in code.value).splitlines()
    assert len(lines) == 2
    for line in lines:
        command = [str(study) if part == STUDY else part for part in shlex.split(line)][1:]
        command += ["--report", str(report)] if command[0] == "evaluate" else ["--device", "cpu"]
        outcome = CliRunner().invoke(command_line, command)
        assert outcome.exit_code == 0, outcome.output
    told = json.loads(report.read_text())
    shown = json.loads(write_json(record_evaluation(results(measured)[0])))
    for part in ("edit", "plan", "sources", "scorers", "prompts", "proof"):
        assert_alike(told[part], shown[part], part)


@pytest.mark.parametrize(
    "plan",
    [
        EvaluationPlan(),
        EvaluationPlan(("perplexity",), limit_prompts=3, sampling=SamplingPlan(5, greedy=True), seed=3),
        EvaluationPlan(
            (
                Choice("classifier", ClassifierOptions("/a/classifier", "rude")),
                Choice("capability", CapabilityOptions(("boolq", "rte"), 5)),
            ),
            prompts="/a folder/prompts.txt",
            sampling=SamplingPlan(7, 4, temperature=0.7, top_p=0.9, seed=2),
            neutral=TextSpec("owner/name", "raw", "train", "body", "text", 64, 32, 9),
            controls=5,
            resamples=300,
        ),
    ],
)
def test_the_command_reads_back_as_the_plan(plan):
    command = evaluate_command(StudyKey(), EditPlan((1, 2, 5), 3, 0.5), plan)
    context = get_command(command_line).commands["evaluate"].make_context("evaluate", command[2:])
    assert read(context, EvaluationPlan()) == plan
    assert read_said(context, EditPlan()).over(EditPlan()) == EditPlan((1, 2, 5), 3, 0.5)


def test_tables_to_save_hold_every_prompt_in_full(measured):
    found = results(measured)[0]
    heads, rows = list_prompts(found)
    draws = ("random subspace 1", "random subspace 2")
    assert heads == ("prompt", "fate", "before", "after", *draws, *(f"{draw} matched in KL" for draw in draws))
    assert [row[0] for row in rows] == [outcome.prompt for outcome in found.prompts]
    assert [row[2:4] for row in rows] == [(outcome.before, outcome.after) for outcome in found.prompts]
    saved = {button.key for button in measured.get("download_button")}
    assert {"csv_effect_profanity", "csv_suppression", "csv_prompt_scatter", "download_evaluation"} <= saved
    assert all(chart.proto.alt for chart in measured.get("plotly_chart"))


def test_results_outlast_a_page_change(measured):
    measured.switch_page("spectrum/page.py").run()
    measured.switch_page(PAGE).run()
    assert "Proof of the edit" in texts(measured) and measured.number_input(key="evaluate_limit").value == 6


def test_results_stay_while_a_file_is_still_to_be_chosen(tiny_folder):
    session = evaluate(open_page(tiny_folder))
    session.button_group(key="evaluate_prompts_kind").set_value("file").run()
    assert session.button(key="evaluate").disabled
    assert "Proof of the edit" in texts(session) and "Nothing is measured yet" not in texts(session)


def test_a_changed_edit_plan_is_told_and_offered_again(tiny_folder):
    session = evaluate(open_page(tiny_folder))
    assert "changed since" not in texts(session)
    pick_rank(session, 4)
    shown = plain_texts(session)
    assert "The edit plan has changed since" in shown and "Measured: layers 1-2, rank 8, strength 1, on" in shown
    evaluate(session, "evaluate_now")
    assert "changed since" not in texts(session) and results(session)[-1].edit.rank == 4
    pick_rank(session, 8)
    # Back at the first plan its numbers are there at once.
    assert "changed since" not in texts(session) and "Measured: layers 1-2, rank 8" in plain_texts(session)
    session.number_input(key="evaluate_limit").set_value(5).run()
    assert "What to measure with has changed since" in texts(session)


def test_an_evaluation_can_be_stopped(tiny_folder, monkeypatch):
    from detox_engine.scoring import evaluation
    from detox_engine.scoring import evaluation as engine

    reached, go_on = threading.Event(), threading.Event()
    prove = engine.prove_edit

    def slow(*arguments):
        reached.set()
        go_on.wait(30)
        return prove(*arguments)

    monkeypatch.setattr(evaluation, "prove_edit", slow)
    session = open_page(tiny_folder)
    session.button(key="evaluate").click().run()
    assert reached.wait(30)
    session.run()
    session.button(key="stop_evaluation").click().run()
    go_on.set()
    run_until(session, lambda session: "The evaluation was stopped" in texts(session))
    assert not results(session)


def test_a_stopped_evaluation_goes_on_where_it_was(tiny_folder, monkeypatch):
    from detox_engine.scoring import trial

    reached, go_on, generate, written = threading.Event(), threading.Event(), trial.generate, []

    def slow(model, prompts, *more):
        if len(written) == 2 and not go_on.is_set():
            reached.set()
            go_on.wait(30)
        done = generate(model, prompts, *more)
        written.extend(prompts)
        return done

    monkeypatch.setattr(trial, "generate", slow)
    monkeypatch.setattr(trial, "ROWS_AT_ONCE", 1)
    session = open_page(tiny_folder)
    session.button(key="evaluate").click().run()
    assert reached.wait(60)
    session.run()
    session.button(key="stop_evaluation").click().run()
    go_on.set()
    run_until(session, lambda session: "goes on from there" in texts(session))
    evaluate(session)
    (found,) = results(session)
    assert len(found.prompts) == 6 and not found.missing
    assert len(written) == len(set(written)) == 6, "what was written is not written again"
    assert "Proof of the edit" in texts(session)


def test_prompts_of_others_are_escaped_and_their_rude_words_blurred(tiny_folder):
    session = open_page(tiny_folder)
    upload(session, "prompts", "mine.txt", b"<b>You idiot</b> and\nThe train is\n")
    evaluate(session)
    session.button_group(key="fate").set_value("stayed fine").run()
    shown = texts(session)
    assert results(session)[0].plan.prompts.endswith("mine.txt") and len(results(session)[0].prompts) == 2
    for fate in ("better", "worse", "stayed bad", "stayed fine"):
        session.button_group(key="fate").set_value(fate).run()
        shown += texts(session)
    assert "&lt;b&gt;You" in shown and "<b>You" not in shown
    assert '<span class="rude">idiot</span>' in shown


@pytest.mark.parametrize(
    ("what", "name", "content", "said"),
    [
        ("prompts", "empty.txt", b"\n\n", "empty.txt"),
        ("neutral", "latin.txt", b"caf\xe9 au lait\n", "line 1"),
    ],
)
def test_a_file_that_cannot_be_used_gives_one_sentence(tiny_folder, what, name, content, said):
    session = evaluate(upload(open_page(tiny_folder), what, name, content))
    assert len(session.error) == 1 and "Nothing is measured yet" not in session.error[0].value
    plain = session.error[0].value.replace("\\", "")
    assert said in plain and name in plain and "uploads" not in plain and "Traceback" not in plain


def test_an_edit_that_changes_nothing_gives_one_sentence(tiny_folder):
    session = evaluate(open_page(tiny_folder, strength=0))
    assert len(session.error) == 1 and "changes nothing" in session.error[0].value


def test_no_scorer_gives_one_sentence_and_no_button(tiny_folder):
    session = open_page(tiny_folder)
    session.button_group(key="evaluate_scorers").set_value([]).run()
    assert len(session.error) == 1 and "needs a scorer" in session.error[0].value.replace("\\", "")
    assert session.button(key="evaluate").disabled


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({}, "better", "Better, more than under any of the 2 random subspaces"),
        ({"control": 0.25}, "unclear", "Better, but no more than under random subspaces"),
        (
            {"matched": 0.4},
            "better",
            "Better, more than under any of the 2 random subspaces and any of the 2 random subspaces matched in KL",
        ),
        ({"matched": 0.25}, "unclear", "Better, but no more than under random subspaces matched in KL"),
        ({"after": 0.7}, "worse", "Worse, more than under any"),
        ({"after": 0.7, "lower_is_better": False}, "better", "Better, more"),
        ({"after": 0.52}, "unclear", "No clear change"),
        ({"after": 0.5, "half": 0}, "unclear", "No change"),
        ({"after": 0.4976, "half": 1e-5}, "unclear", "A negligible change"),
        ({"after": 0.4974, "half": 1e-5, "control": 0.51}, "better", "Better"),
        ({"after": math.nan}, "unclear", "Nothing could be counted"),
    ],
)
def test_a_verdict_needs_more_than_chance_and_more_than_the_control(changes, kind, words):
    score = make_score(**changes)
    verdict = judge(score.effect, score.lower_is_better)
    assert verdict.kind == kind and verdict.words.startswith(words)


def test_a_summary_names_before_after_interval_and_control():
    words = summarise_score(make_score())
    assert words == (
        "Toxicity falls, from 0.500 to 0.300 (change −0.200, 95 % interval −0.250 to −0.150); with random subspaces "
        "removed instead it is 0.490."
    )
    assert "stays about the same" in summarise_score(make_score(after=0.52))
    both = summarise_score(make_score(matched=0.4))
    assert both.endswith("it is 0.490, with random subspaces matched in KL removed instead it is 0.400.")


@pytest.mark.parametrize(
    ("value", "plain", "with_sign"),
    [(0, "0.000", "0.000"), (0.1234, "0.123", "+0.123"), (-12.345, "−12.35", "−12.35"), (6172.4, "6,172", "+6,172"),
     (0.00123, "0.00123", "+0.00123"), (-3e-7, "−3e-7", "−3e-7"), (math.nan, "–", "–")],
)  # fmt: skip
def test_numbers_have_the_digits_that_tell_something(value, plain, with_sign):
    assert (number(value), signed(value)) == (plain, with_sign)


def test_a_score_is_drawn_with_before_after_control_and_both_changes():
    figure = effect_figure(make_score(), LIGHT)
    drawn = [trace.x[0] for trace in figure.data if trace.error_x.array]
    assert drawn == pytest.approx([0.5, 0.3, 0.49, -0.2, -0.01])
    assert figure.layout.xaxis.title.text == "toxicity, 0 to 1"
    assert [note.text for note in figure.layout.annotations] == ["◂ better", "worse ▸"]
    turned = effect_figure(make_score(lower_is_better=False), DARK)
    assert [note.text for note in turned.layout.annotations] == ["◂ worse", "better ▸"]


def test_noise_is_not_stretched_over_the_whole_axis():
    figure = effect_figure(make_score(after=0.5001, control=0.5, half=0.0001), LIGHT)
    low, high = figure.layout.xaxis.range
    assert high - low >= 0.02


def test_drift_is_a_change_by_itself_and_drawn_once():
    figure = effect_figure(make_score("drift", 0.0, 0.02, 0.001, half=0.0005), LIGHT)
    assert [trace.x[0] for trace in figure.data if trace.error_x.array] == [0.0, 0.02, 0.001]


def test_a_matched_control_is_drawn_below_the_plain_one():
    figure = effect_figure(make_score(matched=0.45), LIGHT)
    drawn = [trace.x[0] for trace in figure.data if trace.error_x.array]
    assert drawn == pytest.approx([0.5, 0.3, 0.49, 0.45, -0.2, -0.01, -0.05])
    assert list(figure.layout.yaxis.ticktext) == ["Before", "After", "Random", "Matched"]
    drift = make_score("drift", 0.0, 0.02, 0.001, half=0.0005, matched=0.02)
    texts = suppression_figure({"Plain text": {"drift": drift}}, LIGHT)
    assert [trace.x[0] for trace in texts.data] == [0.02, 0.001, 0.02]
    assert [trace.name for trace in texts.data][1:] == ["Random subspaces", "Random subspaces matched in KL"]


def test_an_interval_has_one_number_of_decimals():
    assert interval(Estimate(0.031, -0.0059, 0.106, 9), signed) == "+0.031 (−0.006 to +0.106)"
    assert interval(Estimate(0.0016, 0.0009, 0.002, 9)) == "0.00160 (0.00090 to 0.00200)"


def test_harmless_texts_are_held_against_plain_text_in_percent_of_before():
    def pair(rise: float) -> dict[str, Score]:
        return {
            "perplexity": make_score("perplexity", 200.0, 200 * (1 + rise), 202.0, half=2.0),
            "drift": make_score("drift", 0.0, rise, 0.01, half=0.001),
        }

    figure = suppression_figure({"Plain text": pair(0.02), "Words that only look rude": pair(0.3)}, LIGHT)
    means = [list(trace.x) for trace in figure.data]
    assert means[0] == pytest.approx([2, 30]) and means[1] == pytest.approx([1, 1])
    assert means[2] == pytest.approx([0.02, 0.3]) and figure.data[0].error_x.array[0] == pytest.approx(1)


def test_every_prompt_is_one_dot_in_each_panel():
    before, after = np.array([0.9, 0.9, 0.1, 0.1, 0.5]), np.array([0.1, 0.9, 0.9, 0.1, 0.4])
    assert list(find_fates(before, after, 0.5)) == ["better", "stayed bad", "worse", "stayed fine", "better"]
    sides = {"The edit": (before, after), "Random": (before, before)}
    figure = prompt_figure(sides, [f"prompt {index}" for index in range(5)], 0.5, LIGHT)
    own, control = figure.data[:4], figure.data[4:]
    assert sorted(row[0] for trace in own for row in trace.customdata) == [0, 1, 2, 3, 4]
    assert [len(trace.x) for trace in control] == [0, 0, 3, 2]
