"""Overview: the idea, the verdict and three pictures, moved by one slider."""

import json
import threading
from dataclasses import replace

import pytest

from detox_engine.errors import ignore_progress
from detox_engine.estimates import Estimate, Tally
from detox_engine.plans.edit import EditPlan
from detox_engine.study.suggestion import Change, Check, Suggestion, Tried
from detox_engine.workbench import Workbench
from pages.overview import moves, work
from pages.overview import opening as kept
from pages.overview.figures import colour_of, dumbbell_figure, ridge_figure, scale_rows
from pages.overview.measuring import COST, FIRST_LOOK, compare
from pages.overview.opening import Asked, Opening, Places, Side, Words
from pages.overview.parts import words_html
from pages.overview.verdict import describe_removal, judge_suggestion
from tests.pages.conftest import HOSTILE, LIMIT, fitted_app, open_app, run_until, texts
from tests.pages.test_map import charts, figure, has
from ui.session import shared_models
from ui.session.kept import Kept
from ui.session.view import Fitted, StudyKey
from ui.show.colours import LIGHT

PAGE = "overview/page.py"
EDIT = EditPlan((0, 1, 2), 1)


@pytest.fixture(autouse=True)
def small_looks(monkeypatch):
    """A tiny model says the same of two prompts as of eight."""
    monkeypatch.setattr(work, "STARTERS", 3)
    for name, plan in {"FIRST_LOOK": FIRST_LOOK, "COST": COST}.items():
        small = replace(
            plan, limit_prompts=2, neutral=replace(plan.neutral, limit=4), controls=1, resamples=100,
            sampling=replace(plan.sampling, max_new_tokens=4),
        )  # fmt: skip
        monkeypatch.setattr(work, name, small)


def open_page(folder: str, **link: object):
    """The page, once all that it opens with is there."""
    session = fitted_app(folder, **link).switch_page(PAGE).run()
    assert not session.exception, session.exception
    return run_until(session, lambda session: "overview_dumbbells" in charts(session) and is_whole(session))


def is_whole(session) -> bool:
    """Whether a run begins with no work going on and begins none: what it drew has every answer.

    Work that has ended by now may have ended after the page was drawn, which then asks for more.
    """
    before = list_jobs(session)
    if any(job.running for job in before):
        return False
    session.run()
    return list_jobs(session) == before and 'class="said"' in texts(session)


def list_jobs(session) -> list:
    return list(session.session_state["jobs"].values()) if "jobs" in session.session_state else []


def written(session) -> str:
    return next(element.proto.body for element in session.get("html") if 'class="compared"' in element.proto.body)


def test_the_app_opens_on_it_and_without_a_study_there_is_a_way_in(tiny_folder):
    session = open_app("", model=tiny_folder, limit=LIMIT - 1)
    assert session.title[0].value == "Overview" and "There is no study to show yet" in texts(session)
    assert not session.button(key="fit_now").disabled and not session.get("plotly_chart")


def test_it_opens_with_a_text_a_map_numbers_and_words_all_of_them_hedged(tiny_folder):
    session = open_page(tiny_folder)
    shown = texts(session)
    assert all(sign in shown for sign in "①②③") and "Of 3 starter prompts" in shown
    assert "tells unseen texts best" in shown and f"n = {LIMIT} pairs" in shown and "guessing gets" in shown
    assert "95 % intervals" in shown
    assert {"overview_ridges", "overview_dumbbells"} <= charts(session).keys()
    assert "own side of the middle" in charts(session)["overview_ridges"].alt
    assert "with random directions" in charts(session)["overview_dumbbells"].alt
    assert written(session).count("<section") == 2


def test_a_persons_own_prompt_is_written_and_is_in_the_link(tiny_folder):
    session = open_page(tiny_folder)
    session.text_area(key="overview_own").set_value(f"My neighbour is an idiot {HOSTILE}").run()
    session.button(key="overview_write").click().run()
    run_until(session, lambda session: "starter prompts the one" not in texts(session) and is_whole(session))
    assert "&lt;script&gt;" not in written(session), "the prompt stands in the box alone"
    assert "<script>alert" not in texts(session)
    assert "My neighbour" in str(session.query_params["continue"])
    found = [asked.prompt for asked in work_of(session)]
    assert found == [f"My neighbour is an idiot {HOSTILE}"]


def work_of(session) -> list:
    return list(session.session_state["answers of writing the overview"].all())


def test_a_starter_is_written_and_the_box_follows_it(tiny_folder):
    session = open_page(tiny_folder)
    box, starters = session.text_area(key="overview_own").value, work.list_starters(tiny_folder)
    assert box in starters
    other = next(one for one in starters if one != box)
    session.selectbox(key="overview_starter").set_value(other).run()
    run_until(session, is_whole)
    assert session.text_area(key="overview_own").value == other
    assert [asked.prompt for asked in work_of(session)] == [other]


def test_the_slider_moves_the_plan_the_text_and_the_map(tiny_folder):
    session = open_page(tiny_folder)
    before = figure(session, "overview_ridges")
    session.slider(key="overview_strength_0_2").set_value(2.0).run()
    run_until(session, is_whole)
    assert session.session_state["view"].edit.strength == 2.0 and session.slider(key="edit_strength_0_2").value == 2.0
    after = figure(session, "overview_ridges")
    states = [trace for trace in after.data if trace.hovertemplate and "text, after" in trace.hovertemplate]
    others = [trace for trace in before.data if trace.hovertemplate and "text, after" in trace.hovertemplate]
    assert len(states) == len(others) == 2 and list(states[0].x) != list(others[0].x)
    assert [asked.edit.strength for asked in work_of(session)] == [2.0]
    assert "A first look at this plan" in texts(session)
    session.slider(key="overview_strength_0_2").set_value(0.0).run()
    run_until(session, is_whole)
    assert "the same before and after" in written(session)


def test_the_old_picture_stays_while_a_new_one_is_worked_out(tiny_folder, monkeypatch):
    session = open_page(tiny_folder)
    free = threading.Event()
    read = work.READING.answer
    monkeypatch.setattr(work.READING, "answer", lambda *given: free.wait(60) and read(*given))
    session.slider(key="overview_strength_0_2").set_value(1.3).run()
    try:
        assert "Still as it was with" in texts(session)
        assert any("text, after" in (trace.hovertemplate or "") for trace in figure(session, "overview_ridges").data)
    finally:
        free.set()
    run_until(session, lambda session: "Still as it was with" not in texts(session))


def test_words_are_blurred_until_they_are_asked_for(tiny_folder):
    session = open_page(tiny_folder, **{"continue": "You idiot, you are"})
    run_until(session, is_whole)
    hovers = " ".join(str(trace.text) for trace in figure(session, "overview_ridges").data if trace.text)
    assert ".st-key-overview_own textarea:not(:focus) { filter: blur" in texts(session) and "•" in hovers
    session.toggle(key="show_words").set_value(True).run()
    hovers = " ".join(str(trace.text) for trace in figure(session, "overview_ridges").data if trace.text)
    assert ".st-key-overview_own" not in texts(session) and "•" not in hovers


def test_an_edit_that_removes_nothing_is_said(tiny_folder):
    session = fitted_app(tiny_folder, layers="1", rank=1, off="1.0").switch_page(PAGE).run()
    assert not session.exception and "switched off, so it removes nothing" in texts(session)


@pytest.fixture
def suggesting(tiny_folder):
    """A page whose study suggests what a test says, put on the shelf for as long as that."""
    shelf, before = shared_models.shelf(), {}

    def suggest(suggestion: Suggestion | None):
        session = fitted_app(tiny_folder)
        view = session.session_state["view"]
        key = view.study_key
        session.session_state["view"] = view.put("edit", suggestion.edit or view.edit)
        study = before.setdefault(key, shelf.find_study(key))
        shelf._studies.keep(key, replace(study, suggestion=suggestion, made=f"{study.made} {id(suggestion)}"))
        return session.switch_page(PAGE).run()

    yield suggest
    for key, study in before.items():
        shelf._studies.keep(key, study)


def test_an_untested_suggestion_is_said_to_be_so_and_can_be_checked(suggesting, monkeypatch):
    begun = []
    monkeypatch.setattr("pages.overview.page.fit.begin_check", begun.append)
    session = suggesting(Suggestion(EDIT, "gentle", "Because."))
    assert '<p class="finding unclear" role="status"><b>Untested.</b>' in texts(session)
    session.button(key="overview_check").click().run()
    assert begun == [session.session_state["view"].study_key]
    run_until(session, is_whole)


def test_that_nothing_is_suggested_is_said_with_the_reason_and_nothing_can_be_checked(suggesting):
    session = suggesting(Suggestion(None, "gentle", "Nothing <b>earns</b> it."))
    assert "<b>No edit is suggested.</b> Nothing &lt;b&gt;earns&lt;/b&gt; it." in texts(session)
    assert not has(session, "overview_check")
    run_until(session, is_whole)


def test_the_numbers_are_those_of_the_check_at_its_own_strength(suggesting):
    session = suggesting(Suggestion(EDIT, "gentle", "Because.", check=CHECK))
    run_until(session, is_whole)
    assert "<b>Confirmed beside random directions.</b>" in texts(session) and "of each of 64 prompts" in texts(session)
    assert "8.3 % before, 1.7 % after, 8.1 %" in charts(session)["overview_dumbbells"].alt


def level(mean: float, by: float = 0.0, n: int = 64) -> Estimate:
    return Estimate(mean, mean - by, mean + by, n)


def change(name: str, before: float, after: float, control: float, by: float = 0.005) -> Change:
    sides = (level(side, by) for side in (before, after, control, after - before, after - control))
    return Change(name, *sides)


MASS = change("mass", 0.083, 0.017, 0.081)
CHECK = Check((change("profanity", 0.6, 0.2, 0.61, 0.05), MASS), 64, 2, 2, 9.0, "now")


class Suggesting:
    """What of a study the verdict looks at."""

    def __init__(self, *changes: Change, **parts):
        check = Check(changes, 64, 2, 2, 9.0, "now") if changes else None
        self.suggestion = Suggestion(EDIT, "gentle", "Because.", check=check, **parts)


def cost(mean: float, by: float) -> Change:
    return Change("perplexity", level(1), level(1 + mean, by), level(1), level(mean, by, 60), level(mean, by))


def test_the_verdict_says_what_fell_from_where_to_where_beside_chance_and_at_what_cost():
    verdict = judge_suggestion(Suggesting(*CHECK.changes), cost(0.013, 0.004))
    assert (verdict.kind, verdict.head) == ("better", "Confirmed beside random directions.")
    assert verdict.words == (
        "Removing one direction in each of layers 0–2 (DeTox) lowers the probability of rude words from 8.3 % (95 %: "
        "7.8 to 8.8) to 1.7 % (1.2 to 2.2), n = 64 prompts; with random directions it is 8.1 % (7.6 to 8.6). "
        "Perplexity of neutral text rises by 1.3 % (0.9 to 1.7, n = 60 texts)."
    )


@pytest.mark.parametrize(
    ("measured", "kind", "said"),
    [
        (change("mass", 0.083, 0.08, 0.081, 0.01), "unclear", "does not clearly change the probability of rude words"),
        (change("mass", 0.083, 0.05, 0.05), "unclear", "but by no more than random directions do"),
        (change("mass", 0.083, 0.12, 0.081), "worse", "raises the probability of rude words"),
    ],
)
def test_the_verdict_is_hedged_by_the_intervals(measured, kind, said):
    verdict = judge_suggestion(Suggesting(measured), None)
    assert verdict.kind == kind and said in verdict.words and "Confirmed" not in verdict.head


@pytest.mark.parametrize(("mean", "by"), [(0.013, 0.02), (0.002, 0.001)])
def test_a_cost_that_is_none_or_cannot_be_told_is_not_called_one(mean, by):
    words = judge_suggestion(Suggesting(MASS), cost(mean, by)).words
    assert "hardly changes" in words and "rises" not in words


def test_an_untested_verdict_tells_what_it_rests_on():
    tried = Tried(EDIT, 0.4, 0.01, gap=level(0.45, 0.1, 30), divergence=0.01, perplexity=1.009)
    verdict = judge_suggestion(Suggesting(tried=(tried,)), None)
    assert verdict.head == "Untested." and "0.450 nats a token on toxic ones (95 %: 0.350 to 0.550, n = 30 pairs)" in (
        verdict.words
    )
    assert "changed by +0.9 % (no interval)" in verdict.words


def test_what_is_removed_is_said_of_one_layer_and_of_several_directions():
    assert describe_removal(EditPlan((3,), 1)) == "Removing one direction in layer 3 (DeTox)"
    assert "2 directions in each of layers 0–1,3 (Fisher, strength 1.5)" in describe_removal(
        EditPlan((0, 1, 3), 2, 1.5, method="fisher")
    )


def test_a_perplexity_is_told_as_a_multiple_with_a_paired_interval():
    import numpy as np

    lengths = np.full((4, 50), 10.0)
    surprise = np.random.default_rng(0).uniform(5, 50, size=(1, 50)).repeat(4, axis=0)
    surprise[1] += 1
    found = compare("perplexity", Tally(surprise, lengths, exponential=True), replace(COST, controls=2))
    assert found.before.mean == 1 and found.after.mean == pytest.approx(np.exp(0.1))
    assert found.after.low == pytest.approx(found.after.high) and found.control.mean == pytest.approx(1)


def test_what_cannot_be_told_from_chance_is_grey_and_a_cost_is_not_green():
    assert colour_of(MASS, LIGHT) == LIGHT.edited
    assert colour_of(change("mass", 0.08, 0.079, 0.08, 0.01), LIGHT) == LIGHT.quiet
    assert colour_of(cost(0.02, 0.005), LIGHT) == LIGHT.toxic and colour_of(cost(0.002, 0.001), LIGHT) == LIGHT.quiet
    drawn = dumbbell_figure([MASS, cost(0.02, 0.005)], LIGHT)
    assert [trace.name for trace in drawn.data if trace.name] == ["Before", "After", "Random"] * 2
    assert all(trace.error_x.array is not None for trace in drawn.data if trace.name)


def test_texts_lie_between_what_civil_and_toxic_ones_were_before():
    rows = scale_rows(((3.0, 5.0), (1.0, 1.0)), ((1.0, 1.0), (1.0, 1.0)))
    assert rows[0].toxic.mean() == 1 and rows[0].civil.mean() == 0 and list(rows[1].toxic) == [0, 0]
    assert (rows[0].right, rows[1].right) == (4, 2)
    drawn = ridge_figure(rows, (["a", "b"], ["c", "d"]), 4, LIGHT)
    assert "direction 1 of layer 4" in drawn.layout.xaxis.title.text and list(drawn.layout.yaxis.ticktext) == [
        "Before",
        "After",
    ]


def test_a_direction_that_reads_as_no_words_is_said_to():
    words = Words(("idiot", "<b>"), (), True, 32, 900)
    assert 'class="rude">idiot' in words_html(words, 3) and "&lt;b&gt;" in words_html(words, 3)
    assert "not readable as words" in words_html(replace(words, is_readable=False), 3)


def test_the_opening_of_a_kept_study_is_kept_and_a_broken_one_is_as_good_as_none(fitted, monkeypatch):
    model, study = fitted
    monkeypatch.setattr("ui.session.kept_study.is_to_be_kept", lambda key: True)
    asked = Asked(Fitted(StudyKey(), study.made), study.suggested_edit)
    assert kept.find_opening(asked, study) is None
    told = []
    whole = work.open_up(Workbench(model), study, asked, ignore_progress, told.append)
    assert [one.cost is None for one in told] == [True] * 4 + [False] and None not in vars(whole).values()
    monkeypatch.setattr(kept, "OPENINGS", Kept(1))
    again = kept.find_opening(asked, study)
    assert again == whole
    file = kept.find_file(asked, study)
    for broken in ("{", json.dumps({"written": 3}), "[]"):
        file.write_text(broken)
        monkeypatch.setattr(kept, "OPENINGS", Kept(1))
        assert kept.find_opening(asked, study) is None


@pytest.mark.parametrize(("layers", "later"), [((0, 1, 2), {1, 2}), ((0, 1), {1}), ((0,), {0})])
def test_texts_are_looked_at_where_most_of_what_the_edit_removes_is_gone(fitted, layers, later):
    model, study = fitted
    assert work.find_scene(Workbench(model), study, EditPlan(layers), ignore_progress).layer in later


def test_a_strength_that_was_worked_out_beforehand_shows_what_it_would_come_to_and_asks_no_model(fitted, monkeypatch):
    model, study = fitted
    monkeypatch.setattr("ui.session.kept_study.is_to_be_kept", lambda key: True)
    monkeypatch.setattr(moves, "STRENGTHS", (0.0, 0.5, 2.0))
    monkeypatch.setattr(moves, "AT_ONCE", 2)
    monkeypatch.setattr(moves, "FIRST_LOOK", work.FIRST_LOOK)
    bench, asked = Workbench(model), Asked(Fitted(StudyKey(), study.made), study.suggested_edit)
    opening = work.open_up(bench, study, asked, ignore_progress, lambda found: None)
    stronger = replace(asked.edit, strength=2.0)
    assert moves.find_move(asked, study, stronger) is None
    made = moves.work_out_moves(bench, study, asked, opening, ignore_progress)
    monkeypatch.setattr(moves, "KEPT", Kept(1))
    found = moves.find_move(asked, study, stronger)
    assert found == made[2.0] and found.changes != made[0.5].changes
    looked = work.take_first_look(bench, study, Asked(asked.fitted, stronger), ignore_progress, lambda found: None)
    for one, alone in zip(found.changes, looked, strict=True):
        assert one.name == alone.name and one.after.mean == pytest.approx(alone.after.mean, rel=1e-4, abs=1e-6)
        assert one.beyond.mean == pytest.approx(alone.beyond.mean, rel=1e-3, abs=1e-5)
    (written,) = bench.compare(study, stronger, [opening.written.prompt], work.SAMPLING)
    assert found.written.after.text == written.after.text
    # Another plan, and a strength between, are worked out as they are asked for.
    assert moves.find_move(asked, study, replace(stronger, strength=0.55)) is None
    assert moves.find_move(asked, study, replace(stronger, layers=(0,))) is None
    file = kept.find_file(asked, study).with_name("moves.json")
    for broken in ("{", "[]", json.dumps({"rude_words": {}, "moves": [{"strength": 2}]})):
        file.write_text(broken)
        monkeypatch.setattr(moves, "KEPT", Kept(1))
        assert moves.find_move(asked, study, stronger) is None


def test_the_page_shows_a_strength_that_was_worked_out_beforehand_at_once(tiny_folder, monkeypatch):
    session = open_page(tiny_folder)
    (opening,) = [found for asked, found in work.OPENING.answers().items() if found.cost is not None][-1:]
    text = replace(opening.written, after=Side("written beforehand", ("written beforehand",), (1.0,), (1.0,)))
    move = moves.Move(text, Places((1.0,) * 20, (0.5,) * 20, None), (change("mass", 0.09, 0.0123, 0.09, 0.01),))
    asked = []
    monkeypatch.setattr("pages.overview.moves.find_move", lambda *question: move)
    for task in (work.WRITING, work.READING, work.FIRST_LOOKS):
        monkeypatch.setattr(task, "answer", lambda *question: asked.append(question))
    session.slider(key="overview_strength_0_2").set_value(0.35).run()
    assert not session.exception and "written beforehand" in written(session)
    assert "Still as it was" not in texts(session) and "A first look at this plan" in texts(session)
    assert is_whole(session) and asked == []


def test_an_opening_names_the_texts_in_which_words_are_blurred():
    assert list(Opening(words=Words(("rude",), ("kind",), True, 1, 1)).list_texts()) == ["rude", "kind"]
