"""Is an edit good? Every scorer before it, after it, and under random subspaces of the same rank."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from detox_engine.data.bundled import bundled_neutral, bundled_prompts
from detox_engine.data.texts import hash_texts, read_any_prompts, read_text
from detox_engine.edit.control import draw_controls
from detox_engine.edit.low_rank import make_edit
from detox_engine.edit.proof import EditProof, prove_edit
from detox_engine.errors import Progress, ignore_progress
from detox_engine.estimates import Effect, Tally, estimate_effect
from detox_engine.forward.compare import Comparison
from detox_engine.forward.likelihood import Span, cut_spans
from detox_engine.forward.write import encode_prompt
from detox_engine.model.load import OpenModel
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.sources import TextSpec
from detox_engine.scoring.scorer import Described, Scorer, describe
from detox_engine.scoring.scorers import choose, make_scorers
from detox_engine.scoring.toxicity import TOXIC, Toxicity
from detox_engine.scoring.trial import Trial
from detox_engine.study.study import ModelIdentity, Study, identify, stamp


@dataclass(frozen=True, kw_only=True)
class Score(Described):
    """One scorer's verdict on an edit."""

    effect: Effect


@dataclass(frozen=True, eq=False)
class PromptOutcome:
    """One prompt: how toxic its continuations are before and after the edit, and what they say."""

    prompt: str
    before: float
    """Mean toxicity over its samples."""
    after: float
    comparisons: tuple[Comparison, ...]
    """One for each sample, with the toxicity of both sides."""

    @property
    def fate(self) -> str:
        """`better` or `worse` where the edit takes it across 0.5, else `stayed bad` or `stayed fine`."""
        was, stays = self.before >= TOXIC, self.after >= TOXIC
        return {(True, True): "stayed bad", (True, False): "better", (False, True): "worse"}.get(
            (was, stays), "stayed fine"
        )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that was measured about one edit of one study's model."""

    model: ModelIdentity
    edit: EditPlan
    plan: EvaluationPlan
    scores: tuple[Score, ...]
    items: Mapping[str, NDArray[np.float64]]
    """Scorer -> `[2 + draws, items]`: each item's own score before, after and under each random draw; NaN where it
    has nothing to count."""
    prompts: tuple[PromptOutcome, ...]
    """In the order of the prompts; empty where no toxicity was scored."""
    prompts_scored: str
    """Name of the score that the prompts' toxicity is; empty where there is none."""
    proof: EditProof
    sources: dict[str, str]
    """Hashes of the prompts and of each text read."""
    seconds: float
    made: str
    versions: dict[str, str]

    def __getitem__(self, name: str) -> Score:
        return next(score for score in self.scores if score.name == name)


@dataclass(frozen=True, eq=False)
class Materials:
    """What a plan measures with: read and checked once, for one edit or for many."""

    scorers: tuple[Scorer, ...]
    prompts: tuple[str, ...]
    texts: Mapping[str, tuple[Span, ...]]
    sources: dict[str, str]


def prepare(model: OpenModel, plan: EvaluationPlan, progress: Progress = ignore_progress) -> Materials:
    """Read the prompts and texts that the plan's scorers need.

    Raises:
        InputError: a source or a scorer cannot be used; nothing has been measured yet.
    """
    name_of_model, kinds = model.spec.name, choose(plan)
    prompts: tuple[str, ...] = ()
    texts, sources = {}, {}
    if any("prompts" in kind.needs for kind in kinds):
        prompts = read_any_prompts(plan.prompts, bundled_prompts(name_of_model), plan.limit_prompts)
        sources["prompts"] = hash_texts(prompts)
    named = {"neutral": plan.neutral} if any("neutral" in kind.needs for kind in kinds) else {}
    named |= {name: TextSpec(str(file)) for kind in kinds for name, file in kind.texts.items()}
    for name, spec in named.items():
        text = read_text(spec, bundled_neutral(name_of_model))
        texts[name] = cut_spans(model, text, spec.window, spec.stride)
        sources[name] = hash_texts(text.lines)
    return Materials(make_scorers(plan, str(model.network.device), progress), prompts, texts, sources)


def evaluate(
    model: OpenModel,
    study: Study,
    edit_plan: EditPlan,
    plan: EvaluationPlan = EvaluationPlan(),  # noqa: B008
    progress: Progress = ignore_progress,
) -> Evaluation:
    """Measure an edit of the study's model; before, after and control share one pass, prompts and luck.

    Raises:
        InputError: the edit changes nothing or does not fit the study, or a source or scorer cannot be used.
    """
    start = perf_counter()
    study.require_fit(model)
    edit = make_edit(study.of(edit_plan.method), edit_plan)
    materials = prepare(model, plan, progress)
    proof = prove_edit(model, edit)
    edits = (None, edit, *draw_controls(edit, plan.controls, plan.seed))
    trial = Trial(model, edits, materials.prompts, plan.sampling, materials.texts, progress)
    tallies = {scorer.name: scorer.measure(trial) for scorer in materials.scorers}
    made, versions = stamp()
    scored, prompts = _show_prompts(trial, materials.scorers)
    return Evaluation(
        model=identify(model),
        edit=edit_plan,
        plan=plan,
        scores=tuple(judge(scorer, tallies[scorer.name], plan) for scorer in materials.scorers),
        items={name: tally.items for name, tally in tallies.items()},
        prompts=prompts,
        prompts_scored=scored,
        proof=proof,
        sources=materials.sources,
        seconds=perf_counter() - start,
        made=made,
        versions=versions,
    )


def judge(scorer: Scorer, tally: Tally, plan: EvaluationPlan) -> Score:
    """A scorer's verdict from its tally of: unedited, edited, random draws."""
    effect = estimate_effect(tally, plan.resamples, plan.seed)
    return Score(**describe(scorer), effect=effect)


def _show_prompts(trial: Trial, scorers: Sequence[Scorer]) -> tuple[str, tuple[PromptOutcome, ...]]:
    """The first score of toxicity, and each prompt with its continuations and their toxicity by it."""
    first = next((each for each in scorers if isinstance(each.by, Toxicity)), None)
    if first is None:
        return "", ()
    before, after = trial.score(first.by.scorer)[:2]
    outcomes = []
    for row, (prompt, samples) in enumerate(zip(trial.prompts, trial.continuations, strict=True)):
        cut = encode_prompt(trial.model, prompt, trial.sampling).cut
        comparisons = tuple(
            Comparison(prompt, number, sides[0], sides[1], cut, float(before[row, number]), float(after[row, number]))
            for number, sides in enumerate(samples)
        )
        outcomes.append(PromptOutcome(prompt, float(before[row].mean()), float(after[row].mean()), comparisons))
    return first.name, tuple(outcomes)
