"""The picks of Claims: how toxicity is told, and how each lab is run when it is run from the page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from detox_engine.errors import InputError
from detox_engine.lab.baselines import baselines
from detox_engine.lab.kept import LABS
from detox_engine.plans.choice import Choice
from detox_engine.plans.lab.experiments import (
    QUICK,
    BenchPlan,
    CentringPlan,
    LabelNoisePlan,
    LinkPlan,
    SampleSizePlan,
)
from detox_engine.plans.lab.training import TrainingPlan
from detox_engine.plans.option import Form, numbers, option_of, shortest
from pages.claims.factor_picks import FactorPicks
from ui.session.picks import Picks, part, pick

if TYPE_CHECKING:
    from detox_engine.study.study import Study

Score = Literal["mass", "profanity"]
SCORES = {"mass": "Probability of rude words", "profanity": "Toxicity of what it writes"}
LONGEST_LIST = 200
"""Characters of a list of numbers in a link."""


def _list_of(kind: type, what: str) -> Form:
    """A list of numbers with commas, kept as a person wrote it."""
    listed = numbers(kind, what)

    def read(text: str) -> str:
        if len(text) > LONGEST_LIST:
            raise InputError(f"it is longer than {LONGEST_LIST} characters")
        listed.read(text)
        return text

    return Form(str, read)


def _read(kind: type, what: str, text: str) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(numbers(kind, what).read(text)))


def _told(values: Iterable[Any]) -> str:
    return ",".join(map(shortest, values))


def _option(plan: Any, name: str, link: str, default: Any = None, **more: Any) -> Any:
    """A pick that is an option of a plan: its sentence, bounds and words are those of the option."""
    declared = option_of(type(plan), name)
    settings = {"low": declared.low, "high": declared.high, "step": declared.step, "words": declared.words}
    start = getattr(plan, name) if default is None else default
    return pick(start, link, declared.sentence, **settings | more)


def _numbers(plan: Any, name: str, link: str, kind: type, what: str) -> Any:
    """A pick that is a list of numbers of a plan, as text."""
    return _option(plan, name, link, _told(getattr(plan, name)), form=_list_of(kind, what))


def _methods(plan: Any) -> Any:
    return _option(plan, "methods", "methods", ())


def _prompts(plan: Any) -> Any:
    words = "Prompts that each edit writes after."
    return pick(plan.evaluation.limit_prompts, "prompts", words, low=4, high=1000, step=10)


BENCH, SIZES, NOISE, LINK, CENTRING = (QUICK[lab] for lab in LABS)


@dataclass(frozen=True)
class TrainingPicks(Picks):
    """How DPO trains."""

    steps: int = _option(BENCH.training, "steps", "dpo_steps", step=10)
    rates: str = _numbers(BENCH.training, "learning_rates", "dpo_rates", float, "learning rates")

    def plan(self) -> TrainingPlan:
        return TrainingPlan(_read(float, "learning rates", self.rates), self.steps)


@dataclass(frozen=True)
class BenchPicks(Picks):
    methods: tuple[str, ...] = _methods(BENCH)
    cost: Literal["kl", "perplexity", "both"] = _option(BENCH, "cost", "cost")
    prompts: int = _prompts(BENCH)
    training: TrainingPicks = part(TrainingPicks)

    def plan(self) -> BenchPlan:
        return replace(_fill(BENCH, self), cost=self.cost)


@dataclass(frozen=True)
class SampleSizePicks(Picks):
    sizes: str = _numbers(SIZES, "sizes", "sizes", int, "numbers of pairs")
    draws: int = _option(SIZES, "draws", "draws")
    methods: tuple[str, ...] = _methods(SIZES)
    prompts: int = _prompts(SIZES)
    training: TrainingPicks = part(TrainingPicks)

    def plan(self) -> SampleSizePlan:
        return replace(_fill(SIZES, self), sizes=_read(int, "numbers of pairs", self.sizes), draws=self.draws)


@dataclass(frozen=True)
class LabelNoisePicks(Picks):
    flipped: str = _numbers(NOISE, "flipped", "flipped", float, "shares")
    draws: int = _option(NOISE, "draws", "draws")
    methods: tuple[str, ...] = _methods(NOISE)
    prompts: int = _prompts(NOISE)
    training: TrainingPicks = part(TrainingPicks)

    def plan(self) -> LabelNoisePlan:
        return replace(_fill(NOISE, self), flipped=_read(float, "shares", self.flipped), draws=self.draws)


def _fill(plan: Any, picks: BenchPicks | SampleSizePicks | LabelNoisePicks) -> Any:
    return replace(
        plan,
        methods=tuple(map(Choice, picks.methods)),
        evaluation=replace(plan.evaluation, limit_prompts=picks.prompts),
        training=picks.training.plan(),
    )


@dataclass(frozen=True)
class LinkPicks(Picks):
    at_steps: str = _numbers(LINK, "at_steps", "at_steps", int, "steps")
    few: str = _numbers(LINK, "few", "few", int, "numbers of pairs")
    draws: int = _option(LINK, "draws", "draws")

    def plan(self) -> LinkPlan:
        steps, few = _read(int, "steps", self.at_steps), _read(int, "numbers of pairs", self.few)
        return replace(LINK, few=few, draws=self.draws, at_steps=steps)


@dataclass(frozen=True)
class CentringPicks(Picks):
    ranks: str = _numbers(CENTRING, "ranks", "ranks", int, "ranks")
    prompts: int = _prompts(CENTRING)

    def plan(self) -> CentringPlan:
        evaluation = replace(CENTRING.evaluation, limit_prompts=self.prompts)
        return replace(CENTRING, ranks=_read(int, "ranks", self.ranks), evaluation=evaluation)


@dataclass(frozen=True)
class ClaimsPicks(Picks):
    """How toxicity is told in the pictures, how each lab is run, and the synthetic world."""

    score: Score = pick("mass", "claims_score", "By what the pictures tell toxicity.", words=SCORES)
    bench: BenchPicks = part(BenchPicks, "bench")
    sample_size: SampleSizePicks = part(SampleSizePicks, "sample_size")
    label_noise: LabelNoisePicks = part(LabelNoisePicks, "label_noise")
    dpo_link: LinkPicks = part(LinkPicks, "dpo_link")
    centring: CentringPicks = part(CentringPicks, "centring")
    factors: FactorPicks = part(FactorPicks)

    def within(self, study: Study) -> ClaimsPicks:
        """Without methods that a link names and nobody knows."""
        known = {*study.offered, *baselines()}

        def known_of(picks: Any) -> Any:
            return replace(picks, methods=tuple(name for name in picks.methods if name in known))

        return replace(
            self,
            bench=known_of(self.bench),
            sample_size=known_of(self.sample_size),
            label_noise=known_of(self.label_noise),
        )


def field_of(lab: str) -> str:
    """The part of the picks that is a lab's."""
    return lab.replace("-", "_")
