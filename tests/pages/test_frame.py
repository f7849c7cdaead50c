"""What is the same on every page: the content note, the link to share, and what a link cannot restore."""

import html
import threading
from dataclasses import replace
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from detox_engine.plans.edit import EditPlan
from tests.pages.conftest import LIMIT, fitted_app, open_app, run_until, texts
from ui.session import shared_models, state
from ui.session.view import View
from ui.words import rude_words
from ui.work import jobs
from ui.work.jobs import Job, Snapshot, Stage, describe_time

NOTE = "Before you go on"


def shown_link(session) -> str:
    """The link in the sidebar, as the page sent it."""
    return next(element.proto.body for element in session.sidebar.get("html") if "data-copy" in element.proto.body)


def test_the_content_note_stays_until_a_person_goes_on(tiny_folder):
    session = open_app(model=tiny_folder, limit=LIMIT - 1, layer=2)
    assert NOTE in texts(session)
    session.switch_page("spectrum/page.py").run()
    assert NOTE in texts(session) and "There is no study to show yet" in texts(session)
    session.button(key="go_on").click().run()
    assert NOTE not in texts(session)
    session.switch_page("directions/page.py").run()
    assert NOTE not in texts(session)
    assert session.session_state["view"].layer == 2


@pytest.mark.parametrize(("value", "there"), [("off", False), ("OFF ", False), ("0", False), ("", True), ("on", True)])
def test_a_teacher_turns_the_content_note_off(tiny_folder, monkeypatch, value, there):
    monkeypatch.setenv("DETOX_CONTENT_NOTE", value)
    assert (NOTE in texts(open_app(model=tiny_folder, limit=LIMIT - 1))) is there


def test_the_link_to_share_holds_the_view_and_is_blurred_where_it_holds_rude_words(tiny_folder):
    session = open_app(model=tiny_folder, limit=LIMIT - 1, own="A calm line\nMy friend is <b>", tokens=9)
    link = shown_link(session)
    assert "own=A+calm+line%0AMy+friend+is+%3Cb%3E&amp;tokens=9" in link and 'class="rude"' not in link
    session = open_app(model=tiny_folder, limit=LIMIT - 1, own="first\nidiot")
    link = shown_link(session)
    assert 'class="rude"' in link and "<b>" not in html.unescape(link)


def test_a_text_too_long_for_a_link_is_said(tiny_folder):
    session = fitted_app(tiny_folder)
    assert "too long for a link" not in texts(session)
    session.session_state["view"] = session.session_state["view"].put("compare.own", "word " * 400)
    session.run()
    assert "too long for a link" in texts(session)
    assert "own" not in session.query_params


def test_a_part_of_a_link_that_cannot_be_is_one_sentence_until_it_is_read(tiny_folder):
    session = open_app(model=tiny_folder, limit=LIMIT - 1, temperature="hot")
    for _ in range(2):
        assert len(session.error) == 1 and "temperature" in session.error[0].value
        session.run()
    session.button(key="link_error_read").click().run()
    assert not session.error


def test_a_link_that_asks_for_more_than_the_study_has_says_which_parts(tiny_folder):
    session = fitted_app(tiny_folder, layer=99, direction=2, pins="0.1,7.0", layers="1-2", rank=2)
    view = session.session_state["view"]
    assert (view.layer, view.direction, view["directions.pins"], view.edit.rank) == (2, 1, ((0, 1),), 2)
    assert len(session.error) == 1
    said = session.error[0].value
    assert "layer" in said and "pins" in said and "rank" not in said and "direction" not in said


def test_the_sidebar_says_where_an_edit_meets_what_attention_sinks_hold(tiny_folder, monkeypatch):
    session = fitted_app(tiny_folder, layers="1-2")
    assert not any("attention sinks" in caption.value for caption in session.sidebar.caption)
    key, shelf = session.session_state["view"].study_key, shared_models.shelf()
    study = shelf.find_study(key)
    shelf._studies.keep(key, replace(study, sinks=replace(study.sinks, writers=(0, 2)), made="with sinks"))
    try:
        session.run()
        assert any("written or cancelled at 2 of these" in caption.value for caption in session.sidebar.caption)
    finally:
        shelf._studies.keep(key, study)


def test_long_work_is_in_the_sidebar_of_every_page_and_is_stopped_there(tiny_folder, monkeypatch):
    session = fitted_app(tiny_folder)
    told, go_on = threading.Event(), threading.Event()

    def work(progress):
        progress("Reading <b>", 1, 4)
        told.set()
        go_on.wait(30)
        progress("Reading <b>", 2, 4)

    job = Job("map run", None, work, "Reading texts for the map")
    job.start()
    assert told.wait(30)
    session.session_state["jobs"] = {job.kind: job}
    session.switch_page("spectrum/page.py").run()
    assert "stop_here_map run" not in [button.key for button in session.sidebar.button]
    monkeypatch.setattr(jobs, "LONG", 0.0)
    session.run()
    assert "Reading texts for the map" in texts(session)
    session.sidebar.button(key="stop_here_map run").click().run()
    go_on.set()
    while job.running:
        pass
    assert job.snapshot.state == "stopped"


def test_how_long_work_takes_is_told_once_it_is_long():
    stages = (Stage("one", 4, 4, 0.0, 50.0), Stage("two", 1, 4, 50.0))
    snapshot = Snapshot(stages=stages)
    assert describe_time(snapshot, 80.0) == ["80 s so far", "about 2 min left of this step"]
    assert describe_time(Snapshot(stages=stages[1:]), 51.0) == []
    assert describe_time(Snapshot(stages=(Stage("two", 0, 0, 0.0),)), 700.0) == ["12 min so far"]


def test_words_that_a_person_adds_are_blurred_whole_and_stay(tiny_folder):
    assert not rude_words.is_rude_token("lamp")
    session = open_app(model=tiny_folder, limit=LIMIT - 1)
    session.sidebar.text_area(key="words_to_blur").set_value("Lamp, <b>").run()
    assert not session.exception and rude_words.mask("A LAMP, lamplight", shown=False) == "A L•••, lamplight"
    assert rude_words.is_rude_token("lamp")
    rude_words.add_words("")
    assert not rude_words.is_rude_token("lamp")
    again = open_app(model=tiny_folder, limit=LIMIT - 1)
    assert again.sidebar.text_area(key="words_to_blur").value == "Lamp, <b>" and rude_words.is_rude_token("lamp")
    again.sidebar.text_area(key="words_to_blur").set_value("").run()
    assert not rude_words.is_rude_token("lamp")


def test_on_a_server_for_others_no_words_are_added(tiny_folder, monkeypatch):
    monkeypatch.setattr("ui.frame.sidebar.keeps_results", lambda: False)
    session = open_app(model=tiny_folder, limit=LIMIT - 1)
    assert not session.sidebar.text_area


def test_the_content_note_is_remembered_on_ones_own_machine_alone(tiny_folder, monkeypatch):
    open_app(model=tiny_folder, limit=LIMIT - 1).button(key="go_on").click().run()
    assert NOTE not in texts(open_app(model=tiny_folder, limit=LIMIT - 1))
    monkeypatch.setattr("ui.frame.frame.keeps_results", lambda: False)
    assert NOTE in texts(open_app(model=tiny_folder, limit=LIMIT - 1))


class Session(dict):
    """Streamlit's state of a session, without Streamlit."""

    __getattr__, __setattr__ = dict.__getitem__, dict.__setitem__


def test_what_a_widget_held_before_the_view_changed_it_is_no_change_of_a_person(monkeypatch):
    session = Session(view=View(edit=EditPlan((0,), 1)))
    monkeypatch.setattr(st, "session_state", session)
    (first, second) = (state.bind(key, "edit.strength") for key in ("beside", "own"))

    def take(bound: dict, value: float) -> float:
        """A browser says that a widget holds `value`; the strength of the edit plan after it."""
        session[bound["key"]] = value
        bound["on_change"]()
        return session.view.edit.strength

    assert take(first, 0.8) == 0.8
    second = state.bind("own", "edit.strength")
    assert session["own"] == 0.8
    # Asked for another page, a browser may send what the second widget held until a moment ago.
    assert take(second, 1.0) == 0.8
    second = state.bind("own", "edit.strength")
    assert session["own"] == 0.8 and take(second, 0.5) == 0.5
    monkeypatch.setattr(state, "ECHO_SECONDS", 0.0)
    assert take(second, 1.0) == 1.0, "whoever moves it back later is obeyed"


def test_a_value_that_the_view_gave_in_a_run_that_was_cut_short_is_given_once_more():
    """What such a run drew may never have been sent: the browser would show the least value of a slider."""

    def draw() -> None:
        import streamlit as st

        from detox_engine.plans.edit import EditPlan
        from ui.session import state
        from ui.session.view import View

        st.session_state.setdefault("view", View(edit=EditPlan((1,), 2, 1.5)))
        st.slider("Strength", 0.0, 2.0, step=0.05, **state.bind("edit_strength", "edit.strength"))
        st.session_state.runs = st.session_state.get("runs", 0) + 1
        if st.session_state.runs == 1:
            st.stop()
        state.end_run()

    session = AppTest.from_function(draw).run().run()
    assert session.slider[0].proto.set_value and session.slider[0].proto.value == [1.5]
    assert not session.run().slider[0].proto.set_value, "a slider in motion never jumps"
    assert session.slider[0].proto.default == [1.5], "a browser that makes it only now begins with the view's value"
    moved = AppTest.from_function(draw).run()
    moved.slider[0].set_value(2.0).run()
    assert moved.session_state["view"].edit.strength == 2.0
    assert not moved.slider[0].proto.set_value, "who moves it before then sees it already"


@pytest.mark.parametrize("page", ["map", "compare", "trade_offs"])
def test_every_widget_that_mirrors_the_view_begins_with_what_it_is_given(page, installed):
    """A value that is given to a widget alone is lost on a browser that gets the next run before it draws this one."""
    session = run_until(open_app(page), lambda session: any("edit_strength" in one.key for one in session.slider))
    given = [
        widget
        for kind in ("slider", "number_input", "text_input", "toggle", "selectbox", "multiselect", "button_group")
        for widget in session.get(kind)
        if widget.proto.set_value
    ]
    assert len(given) > 8
    for widget in given:
        begins, shown = beginning(widget.proto)
        assert begins == shown, widget.key


def beginning(proto: Any) -> tuple[Any, Any]:
    """What a widget begins with, and what it is given."""
    if not getattr(proto, "options", ()):
        return proto.default, proto.value
    words = [getattr(option, "content", option) for option in proto.options]
    if hasattr(proto, "raw_value"):
        return words[proto.default], proto.raw_value
    return [words[number] for number in proto.default], list(proto.raw_values)
