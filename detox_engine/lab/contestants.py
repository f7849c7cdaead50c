"""What is held against one another: the edit that a method finds, or a baseline, on some pairs, and what it took."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detox_engine.data.columns import Pair
from detox_engine.edit.change import Change
from detox_engine.edit.low_rank import LowRankEdit, make_edit
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.lab.baseline import Setup
from detox_engine.lab.baselines import baselines, list_contestants, make_baseline
from detox_engine.lab.effort import measured
from detox_engine.model.load import OpenModel
from detox_engine.plans.choice import Choice, find
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import PAPER
from detox_engine.plans.lab.experiments import EqualCost
from detox_engine.study.methods import choose, fit_layer, fit_subspaces, methods
from detox_engine.study.study import Study


@dataclass(frozen=True, eq=False)
class Contestant:
    """A method's edit or a baseline, at strength 1."""

    name: str
    title: str
    change: Change
    edit: EditPlan | None
    """Where it can be taken as an edit plan."""
    seconds: float
    """What making it took; of a method that finds directions what embedding the pairs took is in it."""
    memory: float
    """Bytes at most beside what was held before; of a method, once the pairs are embedded."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What a baseline says of itself."""
    whole: bool = False
    """Whether it is also shown as it was made, whatever that costs."""
    shown_at: float = 1.0
    """The strength at which it is then."""


def can_be_made(name: str) -> bool:
    """Whether what it needs is installed."""
    needs = baselines()[name].packages if name in baselines() else ()
    return all(find_spec(package) is not None for package in needs)


def plan_method(study: Study, plan: EqualCost, name: str) -> EditPlan:
    """The edit of a method, before its strength is matched: the asked layers, sites and rank, or the suggestion's."""
    usual = study.suggested_edit
    rank, sites = plan.rank or usual.rank, plan.sites or usual.sites
    return EditPlan(plan.layers or usual.layers, rank, 1.0, sites=sites, method=name)


def make_contestant(
    model: OpenModel,
    study: Study,
    plan: EqualCost,
    choice: Choice,
    folder: Path | None = None,
    progress: Progress = ignore_progress,
) -> Contestant:
    """A method or a baseline on all of the study's pairs.

    Args:
        folder: where what took long to train is kept.

    Raises:
        InputError: there is neither a method nor a baseline of its name, the study has no directions of the method, or
            the baseline cannot be made here.
    """
    kind, name = find(list_contestants(), choice, "method"), choice.name
    if name in methods():
        found = study.of(name)
        asked = plan_method(study, plan, name)
        asked = replace(asked, rank=min(asked.rank, study.kept_of(name)))
        with measured() as spent:
            _find_again(study, name)
        seconds = study.seconds.get("embed", 0.0) + spent.seconds
        return Contestant(name, kind.title, make_edit(found, asked), asked, seconds, spent.memory)
    setup = Setup(model, study, plan_method(study, plan, PAPER), study.pairs, 0.0, plan.training, folder, progress)
    with measured() as spent:
        made = make_baseline(choice, setup)
    seconds, memory = made.facts.get("seconds", spent.seconds), made.facts.get("memory", spent.memory)
    return Contestant(name, kind.title, made.change, None, seconds, memory, made.facts, kind.whole, kind.shown_at)


def _find_again(study: Study, name: str) -> None:
    """A method's directions in every layer, once more, for the time and the memory; not where too little was kept."""
    choice = next((each for each in study.plan.methods if each.name == name), Choice(name))
    if study.embeddings is not None and (not choose(choice).needs_covariance or study.token_moments is not None):
        states = study.embeddings
        fit_subspaces(states.toxic, states.civil, study.plan.keep, method=choice, tokens=study.token_moments)


@dataclass(frozen=True)
class Draw:
    """Some of a study's pairs, some of them with their sides swapped."""

    rows: Tensor
    """`[pairs]` which of the study's, in rising order."""
    flips: Tensor
    """`[pairs]` whether its sides are swapped."""

    @classmethod
    def of(cls, study: Study, pairs: int, flipped: float, seed: int) -> "Draw":
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randperm(len(study.pairs), generator=generator)[:pairs].sort().values
        flips = torch.zeros(len(rows), dtype=torch.bool)
        flips[torch.randperm(len(rows), generator=generator)[: round(flipped * len(rows))]] = True
        return cls(rows, flips)

    def embeddings(self, study: Study) -> tuple[Tensor, Tensor]:
        """Toxic and civil embeddings `[layers, pairs, hidden]`."""
        toxic, civil = (side[:, self.rows] for side in (study.embeddings.toxic, study.embeddings.civil))
        swapped = self.flips[None, :, None]
        return torch.where(swapped, civil, toxic), torch.where(swapped, toxic, civil)

    def pairs(self, study: Study) -> list[Pair]:
        drawn = [study.pairs[row] for row in self.rows.tolist()]
        return [
            replace(pair, toxic=pair.civil, civil=pair.toxic) if flip else pair
            for pair, flip in zip(drawn, self.flips.tolist(), strict=True)
        ]


def make_from_draw(
    model: OpenModel,
    study: Study,
    plan: EqualCost,
    choice: Choice,
    draw: Draw,
    folder: Path | None = None,
    progress: Progress = ignore_progress,
) -> Change:
    """What a method or a baseline comes to on some of the pairs, at strength 1."""
    if choice.name in methods():
        return fit_edit(study, plan, choice.name, *draw.embeddings(study))
    flipped = float(draw.flips.float().mean())
    training = plan.training
    if choice.name != "dpo" or len(draw.rows) < len(study.pairs) or flipped:
        # That with which DPO does best on all pairs with right labels: it favours training, and spares two of three
        # runs.
        training = replace(training, learning_rates=(choose_learning_rate(model, study, plan, folder, progress),))
    setup = Setup(model, study, plan_method(study, plan, PAPER), draw.pairs(study), flipped, training, folder, progress)
    return make_baseline(choice, setup).change


def choose_learning_rate(
    model: OpenModel, study: Study, plan: EqualCost, folder: Path | None, progress: Progress = ignore_progress
) -> float:
    """The plan's learning rate that does best on held-out pairs, of all pairs with their labels as they are."""
    if len(plan.training.learning_rates) == 1:
        return plan.training.learning_rates[0]
    from detox_engine.lab.dpo import train_or_load

    return train_or_load(model, study.pairs, plan.training, folder=folder, progress=progress).best.learning_rate


def fit_edit(study: Study, plan: EqualCost, name: str, toxic: Tensor, civil: Tensor) -> LowRankEdit:
    """The edit that a method finds in embeddings `[layers, pairs, hidden]`, at strength 1."""
    asked, method, tokens = plan_method(study, plan, name), Choice(name), study.token_moments
    kind = choose(method)
    if kind.needs_covariance and tokens is None:
        raise InputError(f"The study kept no covariance of tokens, which {name} needs: fit it again.")
    if kind.across is not None:
        found = dict(enumerate(fit_subspaces(toxic, civil, asked.rank, method=method, tokens=tokens)))
    else:
        found = {
            layer: fit_layer(
                toxic[layer],
                civil[layer],
                asked.rank,
                method,
                tokens.covariance(layer) if kind.needs_covariance else None,
            )
            for layer in asked.layers
        }
    chosen = {layer: found[layer] for layer in asked.layers}
    reads = {layer: each.reads[: asked.rank] for layer, each in chosen.items() if each.reads is not None}
    return LowRankEdit(
        {layer: each.basis[: asked.rank] for layer, each in chosen.items()}, sites=asked.sites, reads=reads
    )
