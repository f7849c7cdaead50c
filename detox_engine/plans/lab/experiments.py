"""Experiments at one cost: methods side by side, and curves over pairs and labels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

from detox_engine.errors import InputError
from detox_engine.plans.choice import CHOICES, Choice, choice_of
from detox_engine.plans.edit import SUGGESTION, EditPlan, Sites
from detox_engine.plans.evaluation import MOST_CONTROLS, SWEEP_EVALUATION, EvaluationPlan
from detox_engine.plans.lab.training import TrainingPlan
from detox_engine.plans.layers import LAYERS
from detox_engine.plans.option import numbers, option, sentence

Cost = Literal["kl", "perplexity"]
COSTS = {"kl": "KL, in nats a token", "perplexity": "The rise of perplexity, as a share"}
GENTLE = 0.015
"""What an edit costs that nobody notices, in nats a token or as a share of perplexity."""
LAB_EVALUATION = replace(SWEEP_EVALUATION, scorers=("profanity", "mass"), limit_prompts=60)
"""What each setting of a curve is measured with, unless a person asks for more."""


@dataclass(frozen=True)
class EqualCost:
    """Where edits are made, and what all of them are to cost."""

    cost: Cost = option(
        "kl",
        "What edits are to cost alike on neutral text: the divergence from the unedited model (kl), or the rise of "
        "perplexity.",
        "--cost",
        words=COSTS,
    )
    level: float | None = option(
        None,
        "How much they cost: nats a token, or a share of perplexity.",
        "--level",
        low=1e-4,
        high=10.0,
        usual="0.015",
    )
    layers: tuple[int, ...] = option((), sentence(EditPlan, "layers"), "--layers", form=LAYERS, usual=SUGGESTION)
    sites: Sites | None = option(None, sentence(EditPlan, "sites"), "--sites", usual=SUGGESTION)
    rank: int | None = option(None, sentence(EditPlan, "rank"), "--rank", low=1, usual=SUGGESTION)
    training: TrainingPlan = option(TrainingPlan(), "How DPO trains.")
    known: ClassVar[tuple[str, ...]] = get_args(Cost)

    def __post_init__(self) -> None:
        if self.cost not in self.known:
            raise InputError(f"Edits cost alike in {' or '.join(self.known)}, not in “{self.cost}”.")
        if self.level is not None and not (math.isfinite(self.level) and self.level > 0):
            raise InputError(f"What all edits cost is a number above 0, not {self.level}; 0.015 is gentle.")
        if self.rank is not None and self.rank < 1:
            raise InputError(f"The rank must be 1 or more, not {self.rank}.")

    @property
    def wanted(self) -> float:
        return GENTLE if self.level is None else self.level


@dataclass(frozen=True)
class BenchPlan(EqualCost):
    """Methods of a study, held against one another."""

    known: ClassVar[tuple[str, ...]] = (*get_args(Cost), "both")
    cost: Literal["kl", "perplexity", "both"] = option(
        "both", sentence(EqualCost, "cost"), "--cost", words={**COSTS, "both": "Both, one after the other"}
    )
    methods: tuple[Choice, ...] = option(
        (),
        "Methods and baselines to hold against one another, by name, with commas between them.",
        "--methods",
        form=CHOICES,
        usual="all that can be made here",
    )
    evaluation: EvaluationPlan = option(
        replace(SWEEP_EVALUATION, scorers=("profanity", "mass", "perplexity", "fluency"), controls=3),
        "What all of them are measured with.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.evaluation.control != "plain":
            raise InputError("The random subspaces here have the cost that all methods have: leave out --control.")

    @property
    def costs(self) -> tuple[Cost, ...]:
        return get_args(Cost) if self.cost == "both" else (self.cost,)


@dataclass(frozen=True)
class CurvePlan(EqualCost):
    """Methods that are fitted again and again on the pairs of a study."""

    methods: tuple[Choice, ...] = option(
        (),
        "Methods and baselines to fit again and again, by name, with commas between them.",
        "--methods",
        form=CHOICES,
        usual="detox, mean-difference and, where TRL is installed, dpo; with wrong labels robust-dpo too",
    )
    compared: ClassVar[tuple[str, ...]] = (EditPlan.method, "mean-difference", "dpo")
    """What is compared where nobody says what."""
    draws: int = option(3, "Draws of the pairs, or of those that are flipped.", "--draws", low=1, high=20)
    seed: int = option(0, "Seed of these draws.", "--draw-seed", low=0)
    evaluation: EvaluationPlan = option(LAB_EVALUATION, "What each fit is measured with.")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "methods", tuple(map(choice_of, self.methods)))
        if not 1 <= self.draws <= MOST_CONTROLS:
            raise InputError(f"Draw the pairs 1 to {MOST_CONTROLS} times, not {self.draws:,}.")
        if (self.evaluation.control, self.evaluation.controls) != ("plain", 1):
            raise InputError("A curve stands beside the unedited model alone: leave out --control and --controls.")


@dataclass(frozen=True)
class SampleSizePlan(CurvePlan):
    """Methods on more and more pairs."""

    sizes: tuple[int, ...] = option(
        (5, 10, 20, 50, 100, 200),
        "How many pairs to fit on, such as 5,10,20; all of them are added.",
        "--sizes",
        form=numbers(int, "numbers of pairs"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(size < 2 for size in self.sizes):
            raise InputError(f"A method is fitted on 2 pairs or more, not on {min(self.sizes)}.")


@dataclass(frozen=True)
class LabelNoisePlan(CurvePlan):
    """Methods on pairs of which more and more are flipped."""

    compared: ClassVar[tuple[str, ...]] = (*CurvePlan.compared, "robust-dpo")

    flipped: tuple[float, ...] = option(
        (0.1, 0.25, 0.4, 0.5),
        "Shares of the pairs whose sides are swapped, such as 0.1,0.25; none is added.",
        "--flipped",
        form=numbers(float, "shares"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(not 0 <= share <= 1 for share in self.flipped):
            raise InputError("A share of pairs that are flipped lies between 0 and 1.")


@dataclass(frozen=True)
class CentringPlan(CurvePlan):
    """DeTox with and without centring, at several ranks, as the paper edits and at one cost."""

    ranks: tuple[int, ...] = option(
        (1, 2, 4, 8), "Ranks to try, such as 1,2,4,8.", "--ranks", form=numbers(int, "ranks")
    )
    rank: int | None = option(None, sentence(EqualCost, "rank"))
    draws: int = option(1, sentence(CurvePlan, "draws"))

    compared: ClassVar[tuple[str, ...]] = (EditPlan.method, "uncentred")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.ranks or min(self.ranks) < 1:
            raise InputError("Centring is tried at ranks of 1 or more: name one, such as --ranks 1,4.")


@dataclass(frozen=True)
class LinkPlan:
    """How far DPO's steps lie inside the toxic subspace."""

    rank: int | None = option(None, "Directions of the toxic subspace.", "--rank", low=1, usual=SUGGESTION)
    few: tuple[int, ...] = option(
        (5, 20, 80),
        "Numbers of pairs whose step is held against the step of all others, such as 5,20.",
        "--few",
        form=numbers(int, "numbers of pairs"),
    )
    draws: int = option(5, "Draws of these pairs.", "--draws", low=1, high=100)
    random: int = option(200, "Random subspaces that a share is held against.", "--random", low=20, high=10_000)
    at_steps: tuple[int, ...] = option(
        (10, 50, 200),
        "Steps of DPO after which its change of the weights is looked at, such as 10,50; 0 alone trains nothing.",
        "--at-steps",
        form=numbers(int, "steps"),
    )
    learning_rate: float = option(3e-4, "The learning rate of this training.", "--learning-rate", low=1e-7, high=1.0)
    seed: int = option(0, "Seed of the draws and of the random subspaces.", "--draw-seed", low=0)
    training: TrainingPlan = option(TrainingPlan(), "How DPO trains.")

    def __post_init__(self) -> None:
        if any(count < 1 for count in self.few) or self.draws < 1 or self.random < 20:
            raise InputError("The step of few pairs is that of 1 pair or more, in 1 draw or more, beside 20 subspaces.")
        if any(step < 0 for step in self.at_steps):
            raise InputError("Steps of DPO are counted from 1; 0 alone trains nothing.")
        if self.rank is not None and self.rank < 1:
            raise InputError(f"The rank must be 1 or more, not {self.rank}.")
        if not 0 < self.learning_rate < 1:
            raise InputError(f"A learning rate lies between 0 and 1, not at {self.learning_rate:g}.")

    @property
    def trained_steps(self) -> tuple[int, ...]:
        return tuple(sorted({step for step in self.at_steps if step > 0}))


_TRAINING = TrainingPlan(learning_rates=(1e-3,), steps=20)
_FEW_PROMPTS = replace(LAB_EVALUATION, limit_prompts=30)
QUICK = {
    "bench": BenchPlan(
        cost="kl", training=_TRAINING, evaluation=replace(BenchPlan().evaluation, limit_prompts=30, controls=2)
    ),
    "sample-size": SampleSizePlan(sizes=(10, 50, 200), draws=2, training=_TRAINING, evaluation=_FEW_PROMPTS),
    "label-noise": LabelNoisePlan(flipped=(0.25, 0.5), draws=1, training=_TRAINING, evaluation=_FEW_PROMPTS),
    "dpo-link": LinkPlan(few=(5, 20), draws=2, at_steps=(10,), training=_TRAINING),
    "centring": CentringPlan(ranks=(1, 4), evaluation=_FEW_PROMPTS),
}
"""Every lab with fewer draws, prompts and steps: each within three minutes on the bundled model and two cores."""
