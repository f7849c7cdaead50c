"""Is an edit good? Every scorer before it, after it, and under random subspaces, plain and matched in KL."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from detox_engine.data.bundled import bundled_neutral, bundled_prompts
from detox_engine.data.texts import hash_texts, read_any_prompts, read_text
from detox_engine.edit.control import draw_controls
from detox_engine.edit.low_rank import LowRankEdit, make_edit
from detox_engine.edit.proof import EditProof, prove_edit
from detox_engine.errors import Progress, ignore_progress
from detox_engine.estimates import Effect, Estimate, Tally, estimate_effect, mean_of_numbers
from detox_engine.forward.compare import Comparison
from detox_engine.forward.likelihood import Match, Span, cut_spans, match_controls
from detox_engine.forward.write import encode_prompt
from detox_engine.model.load import OpenModel
from detox_engine.plans.edit import EditPlan, record_edit
from detox_engine.plans.evaluation import ControlKind, EvaluationPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import TextSpec
from detox_engine.scoring.results import Pieces
from detox_engine.scoring.scorer import Described, Scorer, describe
from detox_engine.scoring.scorers import choose, make_scorers, record_plan
from detox_engine.scoring.toxicity import Toxicity, find_fates
from detox_engine.scoring.trial import Trial
from detox_engine.study.study import ModelIdentity, Study, identify, stamp
from detox_engine.study.suggestion import Change, Check

CHECKED = ("profanity", "mass")
CHECK = EvaluationPlan(
    CHECKED,
    limit_prompts=64,
    sampling=SamplingPlan(max_new_tokens=20, samples=2),
    control="plain",
    controls=2,
)
"""What confirms a suggestion or refutes it: seconds on the bundled model, a minute or two on a real one."""


@dataclass(frozen=True, kw_only=True)
class Score(Described):
    """One scorer's verdict on an edit."""

    effect: Effect


@dataclass(frozen=True, eq=False)
class PromptOutcome:
    """One prompt: how toxic its continuations are before and after the edit, and what they say."""

    prompt: str
    before: float
    """Mean toxicity over its samples that say something; NaN where none does."""
    after: float
    comparisons: tuple[Comparison, ...]
    """One for each sample, with the toxicity of both sides."""

    @property
    def fate(self) -> str:
        """`better` or `worse` where the edit takes it across 0.5, else `stayed bad` or `stayed fine`."""
        return str(find_fates(self.before, self.after))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that was measured about one edit of one study's model."""

    model: ModelIdentity
    edit: EditPlan
    plan: EvaluationPlan
    scores: tuple[Score, ...]
    tallies: Mapping[str, Tally]
    """Scorer -> what it counted, of which the edits are: before, after, and each random draw, see `rows_of`."""
    matches: tuple[Match, ...]
    """How each draw of the matched control was matched; empty without such a control."""
    off: tuple[int, ...]
    """The massive dimensions that a matched control keeps off; none where the study found none, or kept sinks."""
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

    def find(self, name: str) -> Score | None:
        """The score of this name, or None where it was not measured."""
        return next((score for score in self.scores if score.name == name), None)

    @property
    def missing(self) -> tuple[str, ...]:
        """Scorers of the plan that have not measured yet; none where the evaluation is whole."""
        measured = {score.kind.name for score in self.scores}
        return tuple(choice.name for choice in self.plan.scorers if choice.name not in measured)

    @property
    def items(self) -> Mapping[str, NDArray[np.float64]]:
        """Scorer -> `[2 + kinds * draws, items]` each item's own score; NaN where it has nothing to count."""
        return {name: tally.items for name, tally in self.tallies.items()}

    @property
    def empty(self) -> dict[str, int]:
        """How many continuations say nothing, `before` and `after` the edit, `of` how many."""
        written = [each for outcome in self.prompts for each in outcome.comparisons]
        return {
            "before": sum(not each.before.text.strip() for each in written),
            "after": sum(not each.after.text.strip() for each in written),
            "of": len(written),
        }

    def rows_of(self, kind: ControlKind) -> slice:
        """The rows of `items` that are this control's."""
        start = 2 + self.plan.kinds.index(kind) * self.plan.controls
        return slice(start, start + self.plan.controls)


@dataclass(frozen=True, eq=False)
class Materials:
    """What a plan measures with: read and checked once, for one edit or for many."""

    scorers: tuple[Scorer, ...]
    prompts: tuple[str, ...]
    texts: Mapping[str, tuple[Span, ...]]
    sources: dict[str, str]


def prepare(
    model: OpenModel, plan: EvaluationPlan, progress: Progress = ignore_progress, neutral: bool = False
) -> Materials:
    """Read the prompts and texts that the plan's scorers need.

    Args:
        neutral: read the neutral text whether or not they need it.

    Raises:
        InputError: a source or a scorer cannot be used; nothing has been measured yet.
    """
    name_of_model, kinds = model.spec.name, choose(plan)
    prompts: tuple[str, ...] = ()
    texts, sources = {}, {}
    if any("prompts" in kind.needs for kind in kinds):
        prompts = read_any_prompts(plan.prompts, bundled_prompts(name_of_model), plan.limit_prompts)
        sources["prompts"] = hash_texts(prompts)
    reads_neutral = neutral or "matched" in plan.kinds or any("neutral" in kind.needs for kind in kinds)
    named = {"neutral": plan.neutral} if reads_neutral else {}
    named |= {name: TextSpec(str(file)) for kind in kinds for name, file in kind.texts.items()}
    for name, spec in named.items():
        text = read_text(spec, bundled_neutral(name_of_model))
        texts[name] = cut_spans(model, text, spec.window, spec.stride)
        sources[name] = hash_texts(text.lines)
    return Materials(make_scorers(plan, str(model.device), progress), prompts, texts, sources)


def evaluate(
    model: OpenModel,
    study: Study,
    edit_plan: EditPlan,
    plan: EvaluationPlan = EvaluationPlan(),  # noqa: B008
    progress: Progress = ignore_progress,
    show: Callable[[Evaluation], None] | None = None,
    unfinished: Path | None = None,
    begin_trial: Callable[..., Trial] = Trial,
) -> Evaluation:
    """Measure an edit of the study's model; before, after and control share one pass, prompts and luck.

    Args:
        show: given what is measured so far after each kind of scorer but the last.
        begin_trial: what makes a `Trial` of the same, such as one that workers share.
        unfinished: a folder in which what is measured stays, a few prompts at a time, until all of it is: when this
            raises, the same call goes on from there. None keeps nothing.

    Raises:
        InputError: the edit changes nothing or does not fit the study, or a source or scorer cannot be used.
    """
    start = perf_counter()
    study.require_fit(model)
    edit = make_edit(study.of(edit_plan.method), edit_plan)
    materials = prepare(model, plan, progress)
    proof = prove_edit(model, edit)
    pieces = None
    if unfinished is not None:
        pieces = Pieces(unfinished / _hash_question(model, study, edit_plan, plan, materials))
    controls, matches = make_controls(model, study, edit, plan, materials, progress, pieces)
    edits = (None, edit, *controls)
    trial = begin_trial(model, edits, materials.prompts, plan.sampling, materials.texts, progress, pieces)
    tallies: dict[str, Tally] = {}
    scores: list[Score] = []

    def tell() -> Evaluation:
        measured = [scorer for scorer in materials.scorers if scorer.name in tallies]
        made, versions = stamp()
        scored, prompts = _show_prompts(trial, measured)
        return Evaluation(
            model=identify(model),
            edit=edit_plan,
            plan=plan,
            scores=tuple(scores),
            tallies=dict(tallies),
            matches=matches,
            off=study.massive_dimensions,
            prompts=prompts,
            prompts_scored=scored,
            proof=proof,
            sources=materials.sources,
            seconds=perf_counter() - start,
            made=made,
            versions=versions,
        )

    for scorer in materials.scorers:
        if show is not None and scores and scores[-1].kind is not scorer.kind:
            show(tell())
        tallies[scorer.name] = _measure(scorer, trial)
        scores.append(judge(scorer, tallies[scorer.name], plan))
    found = tell()
    if pieces is not None:
        pieces.clear()
    return found


def _measure(scorer: Scorer, trial: Trial) -> Tally:
    """What a scorer counts, or counted before it was stopped."""
    if trial.pieces is None:
        return scorer.measure(trial)

    def make() -> tuple[list[list[float]], list[list[float]], bool]:
        tally = scorer.measure(trial)
        return tally.totals.tolist(), tally.counts.tolist(), tally.exponential

    kind = tuple[list[list[float]], list[list[float]], bool]
    totals, counts, exponential = trial.pieces.find_or_make(f"scorer {scorer.name}", kind, make)
    return Tally(np.array(totals), np.array(counts), exponential)


FORMAT = 1
"""Of the pieces of an evaluation that are kept on the way."""


def _hash_question(model: OpenModel, study: Study, edit: EditPlan, plan: EvaluationPlan, materials: Materials) -> str:
    """Everything that a piece of an evaluation depends on."""
    common = {
        "format": FORMAT,
        "weights": model.weights_hash,
        "dtype": str(model.network.dtype),
        "edit": record_edit(edit),
        "evaluation": record_plan(plan),
        "sources": materials.sources,
        "massive": list(map(int, study.massive_dimensions)),
    }
    digest = hashlib.sha256(json.dumps(common, sort_keys=True).encode())
    digest.update(spell_directions(study, edit))
    return digest.hexdigest()[:32]


def spell_directions(study: Study, edit: EditPlan) -> bytes:
    """The directions themselves that an edit removes, to be hashed: a study fitted anew may have others."""
    subspaces = [study.of(edit.method)[layer] for layer in edit.layers]
    sides = [rows for subspace in subspaces for rows in (subspace.basis, subspace.reads) if rows is not None]
    return b"".join(rows[: edit.rank].contiguous().numpy().tobytes() for rows in sides)


def make_controls(
    model: OpenModel,
    study: Study,
    edit: LowRankEdit,
    plan: EvaluationPlan,
    materials: Materials,
    progress: Progress = ignore_progress,
    pieces: Pieces | None = None,
) -> tuple[tuple[LowRankEdit, ...], tuple[Match, ...]]:
    """The random draws that an edit is held against, one kind of control after the other, and how they were matched.

    Those that are matched in KL are drawn off the massive dimensions of the model: a direction along one of these
    spoils a model more than any of the same rank, so that plain draws can be no control of the same cost.
    """
    plain = draw_controls(edit, plan.controls, plan.seed) if "plain" in plan.kinds else ()
    if "matched" not in plan.kinds:
        return plain, ()
    drawn = draw_controls(edit, plan.controls, plan.seed, study.massive_dimensions)
    match = partial(match_controls, model, materials.texts["neutral"], edit, drawn, progress)
    matches = match() if pieces is None else pieces.find_or_make("matches", tuple[Match, ...], match)
    matched = (each.at_strength(match.strength) for each, match in zip(drawn, matches, strict=True))
    return (*plain, *matched), matches


def describe_matches(evaluation: Evaluation) -> str:
    """How the matched control was drawn and matched; empty without one."""
    matches = evaluation.matches
    if not matches:
        return ""
    off = f" off {len(evaluation.off)} massive dimension{'s' * (len(evaluation.off) > 1)}" if evaluation.off else ""
    strengths = ", ".join(f"{match.strength:.3g}" for match in matches)
    told = (
        f"Matched in KL: random subspaces{off}, with strength {strengths}, which moves neutral text by "
        f"{matches[0].wanted:.2g} nats a token as the edit does."
    )
    missed = [match.divergence for match in matches if not match.reached]
    if missed:
        told += f" {len(missed)} of {len(matches)} move it by {max(missed):.2g} at most, and no stronger one was tried."
    return told


def judge(scorer: Scorer, tally: Tally, plan: EvaluationPlan) -> Score:
    """A scorer's verdict from its tally of: unedited, edited, the random draws of each kind."""
    effect = estimate_effect(tally, plan.resamples, plan.seed, plan.kinds)
    return Score(**describe(scorer), effect=effect)


def compare_evaluations(first: Evaluation, second: Evaluation) -> dict[str, Estimate]:
    """Scorer -> how much higher its score is after the second edit than after the first, paired item by item.

    Only of evaluations of one model that measured with the same things; empty for others, which no pairing holds
    together.
    """
    same = first.model.weights_hash == second.model.weights_hash and first.sources == second.sources
    if not same or first.plan != second.plan:
        return {}
    found = {}
    for name in first.tallies.keys() & second.tallies.keys():
        one, other = (each.tallies[name] for each in (first, second))
        rows = (np.stack([getattr(each, part)[1] for each in (one, other, one)]) for part in ("totals", "counts"))
        tally = Tally(*rows, one.exponential)
        found[name] = estimate_effect(tally, first.plan.resamples, first.plan.seed).difference
    return found


def check_suggestion(
    model: OpenModel,
    study: Study,
    progress: Progress = ignore_progress,
    plan: EvaluationPlan = CHECK,
    begin_trial: Callable[..., Trial] = Trial,
) -> Study:
    """The study with its suggestion confirmed or refuted, by a short generation on prompts that provoke.

    Measured are how toxic the continuations are, by words, and how probable rude words were at each token. The control
    are random directions of the same rank and layers, off the massive dimensions, in which any edit does much.

    Raises:
        InputError: the study is of another model, or suggests nothing.
    """
    study.require_fit(model)
    chosen = study.require_suggestion()
    start = perf_counter()
    edit = make_edit(study.of(chosen.method), chosen)
    materials = prepare(model, plan, progress)
    rows = (None, edit, *draw_controls(edit, plan.controls, plan.seed, study.massive_dimensions))
    trial = begin_trial(model, rows, materials.prompts, plan.sampling, materials.texts, progress)
    changes = tuple(
        _judge_change(scorer.name, scorer.measure(trial), plan)
        for scorer in materials.scorers
        if scorer.name == scorer.kind.name
    )
    made, _ = stamp()
    check = Check(changes, len(trial.prompts), plan.sampling.samples, plan.controls, perf_counter() - start, made)
    return replace(study, suggestion=replace(study.suggestion, check=check))


def _judge_change(name: str, tally: Tally, plan: EvaluationPlan) -> Change:
    """A score from its tally of: unedited, edited, random draws, whose mean item by item is the control."""

    def compare(rows: slice) -> Effect:
        """The edit, against the mean of these."""
        sums = (np.stack([part[rows].mean(0), part[1], part[rows].mean(0)]) for part in (tally.totals, tally.counts))
        return estimate_effect(Tally(*sums), plan.resamples, plan.seed)

    unedited, against = compare(slice(0, 1)), compare(slice(2, None))
    return Change(name, unedited.before, unedited.after, against.before, unedited.difference, against.difference)


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
        means = (mean_of_numbers(side[row].tolist()) for side in (before, after))
        outcomes.append(PromptOutcome(prompt, *means, comparisons))
    return first.name, tuple(outcomes)
