"""An exported edit and its figures made once more, from what its recipe names, and held against what they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from detox_engine.auto.run import write_sets
from detox_engine.auto.sets import Sets, divide
from detox_engine.data.bundled import bundled_pairs
from detox_engine.data.files import names_hub
from detox_engine.data.stream import open_pairs
from detox_engine.edit.low_rank import LowRankEdit, make_edit
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.export.receipt import read_directions, read_receipt
from detox_engine.export.recipe import EVALUATION, Recipe, read_recipe, tell_machine, tell_versions
from detox_engine.export.take_away import Claim
from detox_engine.plans.choice import Choice
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.fit import PAPER
from detox_engine.plans.sources import BUNDLED, ModelSpec, PairSpec
from detox_engine.scoring.evaluation import evaluate, prepare
from detox_engine.scoring.records import KeptEvaluation, list_sides, load_evaluation
from detox_engine.study.fit import extend_study, fit_study
from detox_engine.study.study import Study

if TYPE_CHECKING:
    from detox_engine.estimates import Effect, Estimate
    from detox_engine.model.load import OpenModel

ROUNDING = 1e-3
"""Sine of the largest angle between two subspaces that differ by rounding: by processors and numbers of threads."""
DECIDING = ("base", "pairs", "sets", "texts")
"""Claims without which the later ones would be of something else."""


@dataclass(frozen=True)
class Sources:
    """Where files lie that a recipe names without the path to them."""

    pairs: str | None = None
    prompts: str | None = None
    neutral: str | None = None


@dataclass(frozen=True)
class Repetition:
    """What came out as it did, and what else was different."""

    claims: tuple[Claim, ...]
    differences: tuple[str, ...]
    """Of versions and machine, a sentence each; they decide nothing."""

    @property
    def holds(self) -> bool:
        return all(claim.holds for claim in self.claims)


def repeat(
    file: Path,
    spec: ModelSpec,
    open_model: Callable[[ModelSpec, Progress], OpenModel],
    place: Path,
    sources: Sources = Sources(),  # noqa: B008
    progress: Progress = ignore_progress,
) -> Repetition:
    """Fit again and measure again what lies beside the recipe `file`; the choice of the edit is not made again.

    Args:
        spec: the base model, wherever it is here.
        place: an empty folder for the texts of an evaluation.

    Raises:
        InputError: the recipe or what lies beside it is broken, or a source cannot be read.
    """
    recipe = _locate(read_recipe(file), sources)
    wanted = read_directions(read_receipt(file.parent), file.parent)
    kept = file.parent / EVALUATION
    measured = load_evaluation(kept) if kept.exists() else None
    sets = None if recipe.auto is None else divide(spec.name, recipe.auto, progress)
    again = _Again(recipe, wanted, measured, sets, open_model(spec, progress), place, sources, progress)
    claims = []
    for claim in again.make():
        claims.append(claim)
        if not claim.holds and claim.name in DECIDING:
            break
    return Repetition(tuple(claims), tuple(list_differences(recipe, again.model)))


def _locate(recipe: Recipe, sources: Sources) -> Recipe:
    """The recipe with files where they are here.

    Raises:
        InputError: it names a file, and nobody has said where it is.
    """

    def find(named: str, given: str | None, flag: str) -> str:
        if named == BUNDLED or names_hub(named):
            return named
        if given is None:
            raise InputError(f"It was made with the file “{named}”: say with {flag} where that is here.")
        return given

    def find_pairs(spec: PairSpec) -> PairSpec:
        return replace(spec, source=find(spec.source, sources.pairs, "--pairs"))

    fit = replace(recipe.fit, pairs=find_pairs(recipe.fit.pairs))
    auto = recipe.auto
    if auto is not None:
        neutral = replace(auto.neutral, source=find(auto.neutral.source, sources.neutral, "--neutral"))
        prompts = find(auto.prompts, sources.prompts, "--prompts")
        auto = replace(auto, pairs=find_pairs(auto.pairs), prompts=prompts, neutral=neutral)
    return replace(recipe, fit=fit, auto=auto)


@dataclass(frozen=True, eq=False)
class _Again:
    recipe: Recipe
    wanted: LowRankEdit
    measured: KeptEvaluation | None
    sets: Sets | None
    model: OpenModel
    place: Path
    sources: Sources
    progress: Progress

    def make(self) -> Iterator[Claim]:
        recipe, own = self.recipe, self.model.weights_hash
        same = recipe.base.weights_hash == own
        told = (
            "The base model is the one it was made on."
            if same
            else (f"The base model is another ({own}) than the one it was made on ({recipe.base.weights_hash}).")
        )
        yield Claim("base", same, told)
        if self.sets is not None:
            same = self.sets.record() == recipe.sets
            told = "The three sets are what they were." if same else "Pairs, prompts or texts are not what they were."
            yield Claim("sets", same, told)
        # Before anything is fitted: a measurement of other texts would say nothing.
        plan = None if self.measured is None else self.plan_measurement(self.measured.plan)
        if plan is not None and prepare(self.model, plan, self.progress).sources != dict(self.measured.sources):
            yield Claim("texts", False, "The prompts or texts that it was measured on are not what they were.")
        study = self.fit()
        same = study.pairs_hash == recipe.pairs_hash
        told = (
            f"The {study.pair_count:,} pairs are those it was fitted on."
            if same
            else f"It was fitted on {recipe.pair_count:,} other pairs than these {study.pair_count:,}."
        )
        yield Claim("pairs", same, told)
        edit = make_edit(study.of(recipe.edit.method), recipe.edit)
        yield compare_subspaces(edit, self.wanted)
        if plan is not None:
            found = evaluate(self.model, study, recipe.edit, plan, self.progress)
            for score in self.measured.scores:
                yield compare_scores(score.name, score.title, found[score.name].effect, score.effect)

    def fit(self) -> Study:
        """The study, with the methods that the edit needs and no suggestion."""
        recipe, name = self.recipe, self.model.spec.name
        methods = tuple(each for each in recipe.fit.methods if each.name in (PAPER, recipe.edit.method))
        if recipe.edit.method not in {each.name for each in methods}:
            methods += (Choice(recipe.edit.method),)  # the study fitted it when it was asked for
        plan = replace(recipe.fit, methods=methods, suggest=False, parallel_analysis=False)
        if self.sets is not None:
            pairs = self.sets.open_fit(recipe.auto, name)
        else:
            pairs = open_pairs(plan.pairs, bundled_pairs(name))
        study = fit_study(self.model, plan, self.progress, pairs)
        for more in recipe.added:
            if more.source != BUNDLED and not names_hub(more.source):
                raise InputError(
                    f"It was extended by the file “{more.source}”, and a study of several files is not made again: fit "
                    "and extend it by hand."
                )
            study = extend_study(self.model, study, more, self.progress)
        return study

    def plan_measurement(self, plan: EvaluationPlan) -> EvaluationPlan:
        """The plan of the measurement, with its texts where they are here."""
        if self.sets is not None:
            prompts, neutral = write_sets(self.sets, self.place, self.recipe.auto)
            return replace(plan, prompts=str(prompts), neutral=neutral)
        neutral = replace(plan.neutral, source=self.sources.neutral or plan.neutral.source)
        return replace(plan, prompts=self.sources.prompts or plan.prompts, neutral=neutral)


def compare_subspaces(found: LowRankEdit, wanted: LowRankEdit) -> Claim:
    """Whether two edits remove the same directions, and read them alike, but for rounding."""
    if found.bases.keys() != wanted.bases.keys() or found.reads.keys() != wanted.reads.keys():
        return Claim("subspace", False, "It edits other layers.")
    furthest, where = max(
        (_sine(rows[layer], others[layer]), layer)
        for rows, others in ((found.bases, wanted.bases), (found.reads, wanted.reads))
        for layer in rows
    )
    same = furthest <= ROUNDING
    told = f"the largest angle between the two is {furthest:.1e} (its sine), at layer {where}"
    if same:
        return Claim("subspace", True, f"The subspace is the same: {told}.")
    return Claim("subspace", False, f"The subspace is another: {told}, where rounding explains {ROUNDING:g}.")


def _sine(one: torch.Tensor, other: torch.Tensor) -> float:
    """Sine of the largest principal angle between the rows' spans; 1 where they are of other ranks."""
    if one.shape != other.shape:
        return 1.0
    wide, against = (torch.linalg.qr(rows.double().T).Q.T for rows in (one, other))
    return float(torch.linalg.matrix_norm(wide - wide @ against.T @ against, 2))


def compare_scores(name: str, title: str, found: Effect, kept: Effect) -> Claim:
    """Whether each side of a score lies within the interval that it was given, or the other way round."""
    away = [
        f"{side.replace('_', ' ')} {now.mean:.4g}, was {then.mean:.4g} ({then.low:.4g} to {then.high:.4g})"
        for (side, now), (_, then) in zip(list_sides(found), list_sides(kept), strict=True)
        if not _agree(now, then)
    ]
    if away:
        return Claim(name, False, f"{title} is not within its intervals: {'; '.join(away)}.")
    return Claim(
        name,
        True,
        f"{title} is within its intervals: after the edit {found.after.mean:.4g}, was {kept.after.mean:.4g} "
        f"({kept.after.low:.4g} to {kept.after.high:.4g}).",
    )


def _agree(now: Estimate, then: Estimate) -> bool:
    if now.mean != now.mean or then.mean != then.mean:
        return (now.mean != now.mean) == (then.mean != then.mean)
    slack = 1e-6 * max(abs(then.low), abs(then.high), abs(now.low), abs(now.high))
    return then.low - slack <= now.mean <= then.high + slack or now.low - slack <= then.mean <= now.high + slack


def list_differences(recipe: Recipe, model: OpenModel) -> Sequence[str]:
    """How this machine and its packages differ from those that the recipe was written on."""
    now = {**tell_versions(), **tell_machine(model)}
    then = {**recipe.versions, **recipe.machine}
    return [
        f"{name}: {now.get(name, 'not here')} here, {then.get(name, 'not told')} there"
        for name in dict.fromkeys((*then, *now))
        if now.get(name) != then.get(name)
    ]
