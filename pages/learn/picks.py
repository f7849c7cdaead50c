"""The picks of Learn: where a person is in the lesson, what they predicted, and the edit of their own."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from detox_engine.plans.edit import EditPlan
from detox_engine.plans.lab.factors import FactorPlan
from detox_engine.plans.layers import MOST_LAYERS
from detox_engine.plans.option import option_of
from pages.learn.steps import NAMES, QUIZ, STEPS, Name
from ui.session.picks import Picks, part, pick

if TYPE_CHECKING:
    from detox_engine.study.study import Study

RIGHT_ANGLE = 90
ANSWERS_OF_QUIZ = 4
"""Every closing question offers as many."""
MOST_OFFERED = 16
"""Directions that an edit of one's own may take out of a layer; what more does is seen in the step before."""


def _prediction(name: Name) -> int | None:
    """What can be predicted of a step; no more than it offers, whatever a link says."""
    answers = STEPS[NAMES.index(name)].answers
    return pick(None, name, low=0, high=len(answers) - 1 if answers else RIGHT_ANGLE)


@dataclass(frozen=True)
class Predictions(Picks):
    """By step: the number of the answer that was predicted, from 0, or an angle; None until there is one."""

    embedding: int | None = _prediction("embedding")
    pairs: int | None = _prediction("pairs")
    centring: int | None = _prediction("centring")
    noise: int | None = _prediction("noise")
    reading: int | None = _prediction("reading")
    removing: int | None = _prediction("removing")
    breaking: int | None = _prediction("breaking")
    labels: int | None = _prediction("labels")
    own: int | None = _prediction("own")


@dataclass(frozen=True)
class OwnEdit(Picks):
    """The edit of the last step; None stands for what the step before removed."""

    first: int | None = pick(None, "first", "The first layer that is edited.", low=0, high=MOST_LAYERS - 1)
    last: int | None = pick(None, "last", "The last layer that is edited.", low=0, high=MOST_LAYERS - 1)
    rank: int = pick(1, "rank", option_of(EditPlan, "rank").sentence, low=1, high=MOST_OFFERED)
    strength: float = pick(1.0, "strength", option_of(EditPlan, "strength").sentence, low=0.25, high=4.0, step=0.25)

    def ends(self, study: Study) -> tuple[int, int]:
        """The first and the last layer, within the study."""
        usual = study.suggested_edit.layers
        first = usual[0] if self.first is None else self.first
        last = usual[-1] if self.last is None else self.last
        return tuple(sorted(min(each, study.layers - 1) for each in (first, last)))

    def plan(self, study: Study) -> EditPlan:
        first, last = self.ends(study)
        return EditPlan(tuple(range(first, last + 1)), min(self.rank, study.kept), self.strength)


def _answer(number: int) -> int | None:
    return pick(None, str(number), low=0, high=ANSWERS_OF_QUIZ - 1)


@dataclass(frozen=True)
class QuizPicks(Picks):
    """The answers to the closing questions, from 0; None until there is one."""

    q1: int | None = _answer(1)
    q2: int | None = _answer(2)
    q3: int | None = _answer(3)
    q4: int | None = _answer(4)
    q5: int | None = _answer(5)
    q6: int | None = _answer(6)
    q7: int | None = _answer(7)
    q8: int | None = _answer(8)
    q9: int | None = _answer(9)
    q10: int | None = _answer(10)

    @property
    def answers(self) -> tuple[int | None, ...]:
        return tuple(getattr(self, each.name) for each in fields(self))


@dataclass(frozen=True)
class LearnPicks(Picks):
    """Where a person is in the lesson, and what they said."""

    step: int = pick(1, "lesson_step", low=1, high=QUIZ)
    """From 1; one more than there are steps is the closing questions."""
    predictions: Predictions = part(Predictions, "lesson")
    shown: tuple[Name, ...] = pick((), "lesson_shown")
    """The steps whose measurement was asked for."""
    world_pairs: int = pick(FactorPlan.pairs, "lesson_world_pairs", low=10, high=1000, step=10)
    world_noise: float = pick(FactorPlan.noise, "lesson_world_noise", low=0.05, high=2.0, step=0.05)
    flipped: int = pick(50, "lesson_flipped", low=0, high=50, step=10)
    """Per cent of the labels that are swapped in the picture of the eighth step."""
    own: OwnEdit = part(OwnEdit, "lesson_own")
    quiz: QuizPicks = part(QuizPicks, "quiz")
    scored: bool = pick(False, "quiz_scored")

    def is_shown(self, name: Name) -> bool:
        """Whether what is measured is shown: never before there is a prediction, whatever a link says."""
        return name in self.shown and getattr(self.predictions, name) is not None

    def with_own(self, **changes: Any) -> LearnPicks:
        """These picks with another edit of one's own; the prediction is taken back, since it was about the old one."""
        return replace(
            self,
            own=replace(self.own, **changes),
            predictions=replace(self.predictions, own=None),
            shown=tuple(name for name in self.shown if name != "own"),
        )

    def of_another_study(self) -> LearnPicks:
        # Predictions are about one model; the closing questions are about the method.
        return LearnPicks(quiz=self.quiz, scored=self.scored)
