"""How does it work? A lesson in nine steps, each with a prediction to make first, and ten closing questions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from pages.learn import answers, evidence, work
from pages.learn.picks import RIGHT_ANGLE, LearnPicks
from pages.learn.questions import QUESTIONS, count_right, describe_score
from pages.learn.steps import QUIZ, STEPS
from pages.learn.work import MEASURING
from ui.frame.page import Head, Help, StudyPage, show
from ui.session import state
from ui.show.notes import draw_error
from ui.words.text import plain
from ui.work.tasks import draw_unfinished

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pages.learn.answers import Answer
    from pages.learn.questions import Question
    from pages.learn.steps import Name, Step

HEAD = Head("Learn", "How does it work?", picks="learn")
HELP = Help(
    "Everything in the lesson is measured on the model and the pairs of this session: with others the answers can come "
    "out otherwise, and the lesson says so. Layers, words and angles are of the layer whose first direction stands "
    "furthest above its noise, and directions are DeTox’s, whatever method the edit plan has. Scores rest on few "
    "prompts and texts, so that nobody waits: their intervals are wide, and Evaluate measures on more.",
    r"T = E^{+} - E^{-}, \quad T \leftarrow T - (T\mu)\mu^{\top}, \quad T = U S V^{\top}, \quad "
    r"W \leftarrow W - \alpha W V^{\top} V",
)
NOT_YET = "not yet"
ANGLES = tuple(range(0, RIGHT_ANGLE + 1, 10))
TO_THE_TOP = "<script>document.querySelector('[data-testid=stMain]')?.scrollTo(0, 0); // step {step}\n</script>"
"""Another step begins where it begins; the script runs anew only where it is another one."""
MARKS = {True: ":material/check:", False: ":material/close:"}


def draw(page: StudyPage[LearnPicks]) -> None:
    if page.study.embeddings is None or len(page.study.pairs) < 2:
        draw_error("The lesson needs two pairs or more and their embeddings, which this study did not keep: fit again.")
        return
    with st.container(key="lesson"):
        st.html(TO_THE_TOP.format(step=page.picks.step), unsafe_allow_javascript=True)
        marks = answers.mark_steps(page, STEPS)
        draw_place(page, marks)
        begin_ahead(page)
        if page.picks.step == QUIZ:
            draw_quiz(page)
        else:
            draw_step(page, STEPS[page.picks.step - 1])
        draw_moves(page)


def draw_place(page: StudyPage[LearnPicks], marks: Mapping[Name, bool]) -> None:
    """Where in the lesson this is, which steps were predicted and how, and a way to any of them."""
    predicted = [step for step in STEPS if getattr(page.picks.predictions, step.name) is not None]

    def name(number: int) -> str:
        if number == QUIZ:
            return "Questions"
        step = STEPS[number - 1]
        sign = MARKS.get(marks.get(step.name), ":material/edit:" if step in predicted else "")
        return f"{number} {sign}".strip()

    place = "Closing questions" if page.picks.step == QUIZ else f"Step {page.picks.step} of {len(STEPS)}"
    right = f", {sum(marks.values())} of {len(marks)} right" if marks else ""
    with st.container(horizontal=True, vertical_alignment="center", key="lesson_place"):
        st.segmented_control(
            "Step of the lesson",
            range(1, QUIZ + 1),
            format_func=name,
            required=True,
            wrap=True,
            label_visibility="collapsed",
            width="content",
            **state.bind("lesson_step", "learn.step", begins="default"),
        )
        st.caption(f"{place} · {len(predicted)} predicted{right}", width="content")


def draw_step(page: StudyPage[LearnPicks], step: Step) -> None:
    """What is said, what is asked and what can be predicted on the left; a hint or what is measured on the right."""
    facts = list_facts(page)
    st.header(f"{step.number}. {step.title}", anchor=False)
    found = find_measured(page, step)
    left, right = st.columns([5, 6], gap="large")
    # On a phone the columns stand below one another: what is chosen comes before what is predicted of it.
    choosing = step.name == "own" and not page.picks.is_shown(step.name)
    with left:
        st.markdown(step.said.format(**facts))
        if choosing:
            evidence.draw_own_widgets(page)
    with right if choosing else left:
        st.subheader("Your prediction", anchor=False)
        draw_prediction(page, step, step.question.format(**facts))
    with left:
        if found is not None:
            draw_verdict(page, step, found)
        if step.name == "own" and not choosing:
            st.subheader("Another edit", anchor=False)
            evidence.draw_own_widgets(page)
    with right:
        if found is not None:
            st.subheader("What is measured", anchor=False)
            evidence.draw_evidence(page, step)
        elif page.picks.is_shown(step.name):
            asked = answers.ask_of(step.name, page.fitted, page.study, page.picks)
            draw_unfinished(MEASURING, asked, "lesson_again", "Measure again", "It was stopped before it had measured.")
        else:
            evidence.draw_hint(page, step)
    if found is not None and step.name == "noise":
        evidence.draw_world(page)


def list_facts(page: StudyPage[LearnPicks]) -> dict[str, str]:
    """What fills the gaps in the steps' sentences."""
    study, layer = page.study, work.find_best_layer(page.study)
    edited = work.gentle_edit(study).layers
    wide, _ = work.breaking_edits(study)
    return {
        "hidden": f"{study.model.hidden:,}",
        "layer": str(layer),
        "pairs": f"{study.pair_count:,}",
        "directions": f"{len(study.subspaces[layer].singular_values):,}",
        "words": str(work.WORDS),
        "edited": "the suggested layers" if len(edited) < study.layers else "every layer",
        "wide": "1 direction" if wide.rank == 1 else f"{wide.rank} directions",
    }


def find_measured(page: StudyPage[LearnPicks], step: Step) -> Answer | None:
    """What is right for a step, once it is asked for; None before that, and while it is run."""
    if not page.picks.is_shown(step.name):
        return None
    asked = answers.ask_of(step.name, page.fitted, page.study, page.picks)
    with st.spinner("Measuring…"):
        if asked is not None and MEASURING.ask(asked) is None:
            return None
        return answers.find_answer(page, step.name)


def begin_ahead(page: StudyPage[LearnPicks]) -> None:
    """Begin what this step runs, or else what the next one does, so that it is there once something is predicted.

    An edit of one's own is begun when something is predicted of it.
    """
    for step in STEPS[page.picks.step - 1 : page.picks.step + 1]:
        asked = answers.ask_of(step.name, page.fitted, page.study, page.picks)
        wanted = step.name != "own" or page.picks.predictions.own is not None
        if asked is not None and wanted and MEASURING.find(asked) is None:
            job = MEASURING.job(asked)
            if job is None or job.key != asked:
                MEASURING.begin(asked)
            return


def draw_prediction(page: StudyPage[LearnPicks], step: Step, question: str) -> None:
    """The one question of a step; once what is measured is shown, the prediction stands with it and stays."""
    if page.picks.is_shown(step.name):
        st.markdown(question)
        return
    path, key = f"learn.predictions.{step.name}", f"lesson_predict_{step.name}"
    if step.answers:
        numbers = range(len(step.answers))
        bound = state.bind(key, path, (*numbers, None), begins="index")
        st.radio(question, numbers, format_func=step.answers.__getitem__, **bound)
    else:
        bound = state.bind(
            key,
            path,
            show=lambda angle: NOT_YET if angle is None else min(ANGLES, key=lambda each: abs(each - angle)),
            take=lambda angle: None if angle == NOT_YET else angle,
        )
        st.select_slider(
            question,
            (NOT_YET, *ANGLES),
            format_func=lambda angle: angle if angle == NOT_YET else f"{angle}°",
            **bound,
        )
    predicted = getattr(page.picks.predictions, step.name) is not None
    st.button(
        "Show what is measured",
        key="lesson_show",
        type="primary",
        icon=":material/visibility:",
        disabled=not predicted,
        help=None if predicted else "Predict first.",
        on_click=reveal,
        args=(step.name,),
    )


def reveal(name: Name) -> None:
    """Show what is measured in a step; nothing where there is no prediction."""
    picks = state.view()["learn"]
    if getattr(picks.predictions, name) is not None and name not in picks.shown:
        state.put("learn.shown", (*picks.shown, name))


def draw_verdict(page: StudyPage[LearnPicks], step: Step, found: Answer) -> None:
    """Whether the prediction was right, and why."""
    prediction = getattr(page.picks.predictions, step.name)
    measured = plain(answers.name_answer(step, found.right))
    if answers.is_right(step, prediction, found):
        exactly = "" if prediction == found.right else f" within {step.near}°"
        st.success(f"**Your prediction was right{exactly}.**  \nMeasured: {measured}", icon=":material/check_circle:")
    else:
        predicted = plain(answers.name_answer(step, prediction))
        st.warning(
            f"**Your prediction was wrong.**  \nYou predicted: {predicted}  \nMeasured: {measured}",
            icon=":material/cancel:",
        )
    st.markdown(plain(found.why))


def draw_moves(page: StudyPage[LearnPicks]) -> None:
    """Back and Next."""
    step = page.picks.step
    with st.container(horizontal=True, vertical_alignment="center", key="lesson_moves"):
        st.button(
            "Back",
            key="lesson_back",
            icon=":material/arrow_back:",
            disabled=step == 1,
            on_click=state.put,
            args=("learn.step", max(1, step - 1)),
        )
        if step < QUIZ:
            done = page.picks.is_shown(STEPS[step - 1].name)
            st.button(
                "Next" if step < QUIZ - 1 else "To the questions",
                key="lesson_next",
                type="primary" if done else "secondary",
                icon=":material/arrow_forward:",
                on_click=state.put,
                args=("learn.step", step + 1),
            )
        st.button(
            "Begin anew",
            key="lesson_anew",
            type="tertiary",
            icon=":material/restart_alt:",
            disabled=page.picks == LearnPicks(),
            on_click=partial(state.put, "learn", LearnPicks()),
        )


def draw_quiz(page: StudyPage[LearnPicks]) -> None:
    """Ten questions; once they are scored, each says what is right and why."""
    given, scored = page.picks.quiz.answers, page.picks.scored and None not in page.picks.quiz.answers
    st.header("Ten closing questions", anchor=False)
    if scored:
        right = count_right(given)
        st.info(f"**{right} of {len(QUESTIONS)} right.** {describe_score(right)}", icon=":material/school:")
    for number, (question, answer) in enumerate(zip(QUESTIONS, given, strict=True), start=1):
        if scored:
            draw_explained(number, question, answer)
            continue
        numbers = (*range(len(question.answers)), None)
        st.radio(
            f"**{number}. {question.asked}**",
            range(len(question.answers)),
            format_func=question.answers.__getitem__,
            **state.bind(f"lesson_question_{number}", f"learn.quiz.q{number}", numbers, begins="index"),
        )
    if not scored:
        left = given.count(None)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button(
                "Score my answers",
                key="lesson_score",
                type="primary",
                icon=":material/school:",
                disabled=left > 0,
                on_click=score,
            )
            if left:
                st.caption(f"{left} of {len(QUESTIONS)} are still to be answered.")


def draw_explained(number: int, question: Question, answer: int) -> None:
    """A question that was answered: what is right, and why."""
    st.markdown(f"**{number}. {plain(question.asked)}**")
    right, why = plain(question.answers[question.right]), plain(question.why)
    if answer == question.right:
        st.success(f"**Right:** {right}  \n{why}", icon=":material/check_circle:")
    else:
        given = plain(question.answers[answer])
        told = f"**Your answer:** {given}  \n**Right is:** {right}  \n{why}"
        st.warning(told, icon=":material/cancel:")


def score() -> None:
    """Score the closing questions; nothing where one is unanswered."""
    if None not in state.view()["learn"].quiz.answers:
        state.put("learn.scored", True)


show(draw, HEAD, HELP)
