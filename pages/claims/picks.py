"""The picks of Claims: how toxicity is told, and how each lab is run when it is run from the page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from detox_engine.errors import InputError
from detox_engine.lab.baselines import baselines
from detox_engine.plans.choice import Choice
from detox_engine.plans.lab.experiments import (
    BenchPlan,
    CentringPlan,
    CurvePlan,
    LabelNoisePlan,
    LinkPlan,
    SampleSizePlan,
)
from detox_engine.plans.lab.training import TrainingPlan
from detox_engine.plans.option import Form, numbers, option_of
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


def _option(plan: type, name: str, default: Any, link: str, **more: Any) -> Any:
    """A pick that is an option of a plan: its sentence, bounds and words are those of the option."""
    declared = option_of(plan, name)
    settings = {"low": declared.low, "high": declared.high, "step": declared.step, "words": declared.words}
    return pick(default, link, declared.sentence, **settings | more)


def _prompts(default: int) -> Any:
    return pick(default, "prompts", "Prompts that each edit writes after.", low=4, high=1000, step=10)


def _choices(names: Iterable[str]) -> tuple[Choice, ...]:
    return tuple(map(Choice, names))


@dataclass(frozen=True)
class TrainingPicks(Picks):
    """How DPO trains; quick at first."""

    steps: int = _option(TrainingPlan, "steps", 20, "dpo_steps", step=10)
    rates: str = _option(TrainingPlan, "learning_rates", "0.001", "dpo_rates", form=_list_of(float, "learning rates"))

    def plan(self) -> TrainingPlan:
        return TrainingPlan(_read(float, "learning rates", self.rates), self.steps)


@dataclass(frozen=True)
class BenchPicks(Picks):
    methods: tuple[str, ...] = _option(BenchPlan, "methods", (), "methods")
    cost: Literal["kl", "perplexity", "both"] = _option(BenchPlan, "cost", BenchPlan.cost, "cost")
    prompts: int = _prompts(30)
    training: TrainingPicks = part(TrainingPicks)

    def plan(self) -> BenchPlan:
        evaluation = replace(BenchPlan.evaluation, limit_prompts=self.prompts)
        return BenchPlan(
            self.cost, methods=_choices(self.methods), evaluation=evaluation, training=self.training.plan()
        )


@dataclass(frozen=True)
class SampleSizePicks(Picks):
    sizes: str = _option(SampleSizePlan, "sizes", "10,50,200", "sizes", form=_list_of(int, "numbers of pairs"))
    draws: int = _option(SampleSizePlan, "draws", 2, "draws")
    methods: tuple[str, ...] = _option(SampleSizePlan, "methods", (), "methods")
    prompts: int = _prompts(60)
    training: TrainingPicks = part(TrainingPicks)

    def plan(self) -> SampleSizePlan:
        return _fill_curve(SampleSizePlan(sizes=_read(int, "numbers of pairs", self.sizes)), self)


@dataclass(frozen=True)
class LabelNoisePicks(Picks):
    flipped: str = _option(LabelNoisePlan, "flipped", "0.25,0.5", "flipped", form=_list_of(float, "shares"))
    draws: int = _option(LabelNoisePlan, "draws", 2, "draws")
    methods: tuple[str, ...] = _option(LabelNoisePlan, "methods", (), "methods")
    prompts: int = _prompts(60)
    training: TrainingPicks = part(TrainingPicks)

    def plan(self) -> LabelNoisePlan:
        return _fill_curve(LabelNoisePlan(flipped=_read(float, "shares", self.flipped)), self)


def _fill_curve(plan: CurvePlan, picks: SampleSizePicks | LabelNoisePicks) -> Any:
    evaluation = replace(plan.evaluation, limit_prompts=picks.prompts)
    methods, training = _choices(picks.methods), picks.training.plan()
    return replace(plan, methods=methods, draws=picks.draws, training=training, evaluation=evaluation)


@dataclass(frozen=True)
class LinkPicks(Picks):
    at_steps: str = _option(LinkPlan, "at_steps", "10,50", "at_steps", form=_list_of(int, "steps"))
    few: str = _option(LinkPlan, "few", "5,20,80", "few", form=_list_of(int, "numbers of pairs"))
    draws: int = _option(LinkPlan, "draws", LinkPlan.draws, "draws")

    def plan(self) -> LinkPlan:
        steps, few = _read(int, "steps", self.at_steps), _read(int, "numbers of pairs", self.few)
        return LinkPlan(few=few, draws=self.draws, at_steps=steps)


@dataclass(frozen=True)
class CentringPicks(Picks):
    ranks: str = _option(CentringPlan, "ranks", "1,4", "ranks", form=_list_of(int, "ranks"))
    prompts: int = _prompts(60)

    def plan(self) -> CentringPlan:
        evaluation = replace(CentringPlan.evaluation, limit_prompts=self.prompts)
        return CentringPlan(ranks=_read(int, "ranks", self.ranks), evaluation=evaluation)


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


FIELDS = {
    "bench": "bench",
    "sample-size": "sample_size",
    "label-noise": "label_noise",
    "dpo-link": "dpo_link",
    "centring": "centring",
}
"""Lab -> its part of the picks."""
