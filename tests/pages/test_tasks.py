"""Tasks: a question goes to a worker, its answer is kept under it."""

import threading
import time
from dataclasses import dataclass

import pytest
import streamlit as st

from ui.session import shared_models
from ui.session.view import Fitted, StudyKey
from ui.words import rude_words
from ui.work.tasks import Task

FITTED = Fitted(StudyKey(), "today")


@dataclass(frozen=True)
class Asked:
    fitted: Fitted
    number: int


class FakeShelf:
    """Studies and models are their keys."""

    def fit(self, key, progress):
        return key

    def workbench(self, spec, progress):
        return spec


@pytest.fixture(autouse=True)
def session(monkeypatch):
    """One session's state."""
    monkeypatch.setattr(st, "session_state", {})
    monkeypatch.setattr(shared_models, "shelf", FakeShelf)


def double(model, study, asked, progress, tell):
    return f"{2 * asked.number}"


def finish(task: Task, asked: Asked) -> None:
    job = task.job(asked)
    end = time.monotonic() + 20
    while job is not None and job.running:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_answer_is_kept_under_its_question_and_its_job_is_let_go():
    task = Task("doubling", double, keep=2)
    asked = Asked(FITTED, 3)
    task.begin(asked)
    finish(task, asked)
    assert task.find(asked) == "6" and task.job(asked) is None
    assert task.find(Asked(Fitted(StudyKey(), "yesterday"), 3)) is None


def test_the_answer_is_given_the_study_and_the_model_where_one_is_needed():
    seen = []
    for needs_model in (True, False):
        task = Task("seeing", lambda *given: seen.append(given[:2]), keep=1, needs_model=needs_model)
        task.begin(Asked(FITTED, 1))
        finish(task, Asked(FITTED, 1))
    assert seen == [(FITTED.study.model, FITTED.study), (None, FITTED.study)]


def test_as_many_answers_stay_as_are_kept():
    task = Task("doubling", double, keep=2)
    for number in (1, 2, 3):
        task.begin(Asked(FITTED, number))
        finish(task, Asked(FITTED, number))
    assert [asked.number for asked in task.answers()] == [2, 3]


@pytest.mark.parametrize("private", [True, False])
def test_another_session_finds_an_answer_unless_it_is_private(monkeypatch, private):
    task, asked = Task("doubling", double, keep=2, private=private), Asked(FITTED, 3)
    task.begin(asked)
    finish(task, asked)
    monkeypatch.setattr(st, "session_state", {})
    assert (task.find(asked) is None) == private


def test_words_of_an_answer_are_looked_for_before_anyone_sees_it(monkeypatch):
    looked = []
    monkeypatch.setattr(rude_words, "find_rude_words", lambda words: looked.extend(words))
    task, asked = Task("doubling", double, keep=2, words=lambda found: [found]), Asked(FITTED, 3)
    task.begin(asked)
    finish(task, asked)
    assert looked == ["6"]


def test_asking_begins_the_work_once_and_waits_for_what_is_short():
    calls = []

    def answer(*given):
        calls.append(given)
        return "here"

    task, asked = Task("asking", answer, keep=2, patience=20), Asked(FITTED, 1)
    assert task.ask(asked) == task.ask(asked) == "here" and len(calls) == 1


def test_a_part_is_there_while_the_rest_is_still_to_come_and_is_no_answer_where_the_work_is_stopped():
    told, go_on = threading.Event(), threading.Event()

    def answer(model, study, asked, progress, tell):
        tell("half")
        told.set()
        go_on.wait(20)
        progress("The other half", 1, 2)
        return "whole"

    task, asked = Task("telling", answer, keep=2, patience=0), Asked(FITTED, 1)
    assert task.ask(asked) in (None, "half")
    assert told.wait(20) and task.ask(asked) == "half" and task.job(asked).running
    task.job(asked).stop()
    go_on.set()
    finish(task, asked)
    # It was stopped: the part stays, and is not asked for again until the person wants it.
    assert task.ask(asked) == "half" and task.job(asked).snapshot.state == "stopped"
    task.forget(asked)
    assert task.ask(asked) is not None
    finish(task, asked)
    assert task.find(asked) == "whole"


def test_questions_that_are_told_apart_do_not_stop_each_other():
    go_on = threading.Event()

    def answer(model, study, asked, progress, tell):
        go_on.wait(20)
        progress("Going on", 1, 2)
        return asked.number

    task = Task("waiting for", answer, keep=4, each=lambda asked: str(asked.number))
    first, second = Asked(FITTED, 1), Asked(FITTED, 2)
    task.begin(first)
    task.begin(second)
    go_on.set()
    finish(task, first)
    finish(task, second)
    assert (task.find(first), task.find(second)) == (1, 2)
