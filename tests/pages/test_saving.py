"""What a chart and a page save: pictures, tables, documents."""

import csv
import io
import json
import math

import pytest
from streamlit.testing.v1 import AppTest

from detox_engine.disk import write_json
from detox_engine.estimates import Control, Effect, Estimate
from detox_engine.scoring.evaluation import Score
from detox_engine.scoring.scorers import scorers
from pages.evaluate.parts import PLAIN, count_fates, describe_texts, hold_texts
from ui.show.downloads import write_csv
from ui.words.verdicts import list_effects

HOSTILE = '"><script>alert(1)</script>'


def draw_one(title: str):
    import plotly.graph_objects as go

    from ui.show.chart import draw_chart

    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4]))
    draw_chart(figure, "one", title, "Two dots, rising", lambda: (("x", "y"), [(1, 3), (2, 4)]), "two_dots")


@pytest.fixture
def page() -> AppTest:
    return AppTest.from_function(draw_one, args=(HOSTILE,), default_timeout=60).run()


def test_a_chart_comes_with_words_and_three_files(page):
    assert page.get("plotly_chart")[0].proto.alt == "Two dots, rising"
    buttons = page.get("html")[0].proto.body
    assert [kind in buttons for kind in ('data-picture="svg"', 'data-picture="png"')] == [True, True]
    assert buttons.count('data-filename="two_dots"') == 2
    assert [button.key for button in page.get("download_button")] == ["csv_one"]


def test_a_title_with_markup_stays_text(page):
    assert "<script" not in page.get("html")[0].proto.body
    assert "&lt;script&gt;" in page.get("html")[0].proto.body


def test_a_table_is_read_back_whatever_stands_in_it():
    rows = [("a, b", 'says "c"', None), ("line\nbreak", "<b>", 0.25)]
    read = list(csv.reader(io.StringIO(write_csv(("one", "two", "three"), rows))))
    assert read == [["one", "two", "three"], ["a, b", 'says "c"', ""], ["line\nbreak", "<b>", "0.25"]]


def test_a_document_has_null_for_what_is_no_number():
    assert json.loads(write_json({"a": [math.nan, 1.5], "é": math.inf})) == {"a": [None, 1.5], "é": None}


def make_score(name: str, before: float, after: float, control: float) -> Score:
    def estimate(mean: float) -> Estimate:
        return Estimate(mean, mean - 0.1, mean + 0.1, 9)

    sides = (estimate(value) for value in (before, after, after - before))
    beside = Control("plain", estimate(control), estimate(control - before), (control, control + 1))
    effect = Effect(*sides, (beside,))
    drift = scorers()["drift"]
    described = {part: getattr(drift, part) for part in ("unit", "items", "lower_is_better", "range", "is_change")}
    return Score(kind=drift, name=name, title=name.capitalize(), sentence="", **described, effect=effect)


def test_the_table_of_a_score_has_every_side_its_interval_and_every_draw():
    heads, rows = list_effects([make_score("drift", 0.0, 2.0, 0.5)])
    table = {row[1]: dict(zip(heads, row, strict=True)) for row in rows}
    assert table["after the edit"]["mean"] == 2.0 and table["after the edit"]["high"] == pytest.approx(2.1)
    assert table["change by random subspaces"]["mean"] == 0.5 and table["before"]["n"] == 9
    assert [table[f"random subspace {draw}"]["mean"] for draw in (1, 2)] == [0.5, 1.5]


def test_kinds_of_text_hold_what_was_measured_and_say_it_in_words():
    board = hold_texts([make_score("drift", 0.0, 2.0, 0.5), make_score("groups_drift", 0.0, 3.0, 0.25)])
    assert list(board) == [PLAIN, "Groups of people in passing"] and list(board[PLAIN]) == ["drift"]
    assert "Groups of people in passing: drift changes by +3.000, with random subspaces by +0.250" in describe_texts(
        board
    )


def test_fates_are_counted_under_the_edit_and_on_average_over_the_draws():
    import numpy as np

    items = np.array([[0.9, 0.9, 0.1], [0.1, 0.9, 0.9], [0.9, 0.9, 0.1], [0.1, 0.9, 0.1]])
    assert count_fates(items, {"plain": slice(2, 4)}, 0.5) == {
        "better": (1, {"plain": 0.5}),
        "worse": (1, {"plain": 0.0}),
        "stayed bad": (1, {"plain": 1.5}),
        "stayed fine": (0, {"plain": 1.0}),
    }
    both = count_fates(items, {"plain": slice(2, 3), "matched": slice(3, 4)}, 0.5)
    assert both["better"] == (1, {"plain": 0.0, "matched": 1.0})
