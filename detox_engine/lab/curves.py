"""What fewer pairs, or wrong labels, do to a method: directions fitted anew on the study's embeddings, at one cost.

Flipping labels multiplies rows of the differences T by −1. That leaves TᵀT as it is, and with it the right singular
vectors, but for what centring takes out: DeTox's subspace stays, and only the orientation of its directions is lost,
which a projection does not ask for. A mean of differences shrinks with the share that is flipped, to nothing at a half.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from detox_engine.disk import read_as
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.estimates import Estimate
from detox_engine.forward.likelihood import take_spans
from detox_engine.lab.baselines import baselines
from detox_engine.lab.contestants import Draw, can_be_made, make_from_draw, plan_method
from detox_engine.lab.equal_cost import TOKENS, match_costs, price_edits
from detox_engine.lab.kept import ROOM
from detox_engine.model.load import OpenModel
from detox_engine.plans.choice import Choice
from detox_engine.plans.edit import record_edit
from detox_engine.plans.fit import PAPER
from detox_engine.plans.lab.experiments import CentringPlan, CurvePlan, LabelNoisePlan, SampleSizePlan
from detox_engine.scoring.evaluation import Materials, judge, prepare
from detox_engine.scoring.results import keep_results, load_kept
from detox_engine.scoring.scorers import record_plan
from detox_engine.scoring.trial import Trial
from detox_engine.study.study import Study, identify, stamp

AT_ONCE, TRAINED_AT_ONCE = 12, 3
"""Settings that share a pass, and those of them that are trained. A run that is stopped loses as many, but not what was
trained."""
FORMAT = 1


@dataclass(frozen=True)
class Setting:
    """One fit: a method on some of the pairs, of which some may be flipped."""

    method: str
    pairs: int
    flipped: float
    """Share of the pairs whose sides are swapped."""
    draw: int
    """Which draw of pairs and flips it is; all methods share it."""
    rank: int | None = None
    """Directions that are removed; None are as many as of all the others."""
    matched: bool = True
    """Whether it is done at the strength of the cost of all; else at strength 1, as the paper edits."""


@dataclass(frozen=True)
class Scored:
    """What one score says of a setting."""

    scorer: str
    before: Estimate
    after: Estimate


@dataclass(frozen=True)
class Point:
    """One setting, measured at the cost of all."""

    setting: Setting
    strength: float
    kl: float
    perplexity: float
    reached: bool
    """Whether it costs what all do."""
    scores: tuple[Scored, ...]

    def after(self, scorer: str) -> Estimate:
        return next(each.after for each in self.scores if each.scorer == scorer)


def list_sample_sizes(study: Study, plan: SampleSizePlan) -> list[Setting]:
    """Every method on more and more pairs; all of them are drawn once."""
    count = require_pairs(study)
    sizes = sorted({min(size, count) for size in plan.sizes} | {count})
    return [
        Setting(choice.name, size, 0.0, draw)
        for size in sizes
        for choice in choose_methods(plan)
        for draw in range(1 if size == count else plan.draws)
    ]


def list_label_noise(study: Study, plan: LabelNoisePlan) -> list[Setting]:
    """Every method on all pairs, of which more and more are flipped."""
    count = require_pairs(study)
    return [
        Setting(choice.name, count, share, draw)
        for share in sorted({0.0, *plan.flipped})
        for choice in choose_methods(plan)
        for draw in range(plan.draws if share else 1)
    ]


def list_centring(study: Study, plan: CentringPlan) -> list[Setting]:
    """With and without centring at every rank that was kept, as the paper edits and at one cost."""
    count = require_pairs(study)
    kept = min(study.kept, count)
    return [
        Setting(choice.name, count, 0.0, 0, rank, matched)
        for rank in sorted({min(rank, kept) for rank in plan.ranks})
        for choice in choose_methods(plan)
        for matched in (False, True)
    ]


def choose_methods(plan: CurvePlan) -> tuple[Choice, ...]:
    """Those of the plan, or else those that its claim is about, as far as they can be trained here."""
    return plan.methods or tuple(Choice(name) for name in plan.compared if can_be_made(name))


def choose_one(plan: CurvePlan, name: str) -> Choice:
    """A method or baseline of the plan, with the options that it was asked for with."""
    return next(choice for choice in choose_methods(plan) if choice.name == name)


def list_settings(study: Study, plan: CurvePlan) -> list[Setting]:
    """What a curve fits, whichever it is.

    Raises:
        InputError: the study kept no embeddings to fit anew on.
    """
    match plan:
        case SampleSizePlan():
            return list_sample_sizes(study, plan)
        case LabelNoisePlan():
            return list_label_noise(study, plan)
        case _:
            return list_centring(study, plan)


def require_pairs(study: Study) -> int:
    """How many pairs there are to draw from; raises an InputError where their embeddings were not kept."""
    if study.embeddings is None:
        raise InputError("The study kept no embeddings to fit anew on: fit it again, with --embeddings.")
    return len(study.pairs)


def draw_of(study: Study, setting: Setting, seed: int) -> Draw:
    """The pairs of a setting; those of all methods are the same."""
    return Draw.of(study, setting.pairs, setting.flipped, 1000 * seed + setting.draw)


def measure_curve(
    model: OpenModel,
    study: Study,
    plan: CurvePlan,
    settings: Sequence[Setting],
    results: Path | None = None,
    progress: Progress = ignore_progress,
    show: Callable[[Sequence[Point]], None] = lambda points: None,
) -> tuple[Point, ...]:
    """Every setting that is not among the kept results, measured; in the order of `settings`.

    When it raises, what was measured so far stays in `results`, and the same call goes on from there.

    Args:
        results: a JSONL file, a line for each setting; None keeps nothing. What DPO trains is kept beside it.
        show: given what is there, at the start and after every pass.

    Raises:
        InputError: the study is of another model, or a source, a scorer or the results file cannot be used.
    """
    study.require_fit(model)
    kept = {} if results is None else load_curve(results)
    measure = plan.evaluation
    materials = prepare(model, measure, progress, neutral=True)
    common = _describe(model, study, plan, materials)
    keys = {
        setting: _hash_setting(
            setting,
            common
            | {"edit": record_edit(plan_method(study, plan, setting.method))}
            | _describe_baseline(plan, setting.method),
        )
        for setting in settings
    }

    def tell() -> tuple[Point, ...]:
        points = tuple(kept[keys[setting]] for setting in settings if keys[setting] in kept)
        progress("Trying settings", len(points), len(settings))
        show(points)
        return points

    points = tell()
    folder = None if results is None else results.parent / ROOM
    for batch in _batches([setting for setting in settings if keys[setting] not in kept]):
        found = _measure(model, study, plan, materials, batch, folder, progress)
        kept |= {keys[point.setting]: point for point in found}
        if results is not None:
            keep_curve(results, {keys[point.setting]: point for point in found})
        points = tell()
    return points


def _batches(settings: Sequence[Setting]) -> Iterator[Sequence[Setting]]:
    """Methods first, many at once; of what is trained a few, so that there is soon something to see."""
    for trains, most in ((False, AT_ONCE), (True, TRAINED_AT_ONCE)):
        part = [setting for setting in settings if (setting.method in baselines()) == trains]
        for start in range(0, len(part), most):
            yield part[start : start + most]


def _measure(
    model: OpenModel,
    study: Study,
    plan: CurvePlan,
    materials: Materials,
    settings: Sequence[Setting],
    folder: Path | None,
    progress: Progress,
) -> list[Point]:
    measure = plan.evaluation
    edits = [
        make_from_draw(
            model,
            study,
            plan if setting.rank is None else replace(plan, rank=setting.rank),
            choose_one(plan, setting.method),
            draw_of(study, setting, plan.seed),
            folder,
            progress,
        )
        for setting in settings
    ]
    spans = take_spans(materials.texts["neutral"], TOKENS)
    matched = [edit for edit, setting in zip(edits, settings, strict=True) if setting.matched]
    costs = iter(match_costs(model, spans, matched, plan.cost, plan.wanted, progress))
    whole = iter(
        price_edits(
            model, spans, [edit for edit, each in zip(edits, settings, strict=True) if not each.matched], progress
        )
    )
    priced = [next(costs) if setting.matched else next(whole) for setting in settings]
    strong = [edit.at_strength(each.strength) for edit, each in zip(edits, priced, strict=True)]
    trial = Trial(model, (None, *strong), materials.prompts, measure.sampling, materials.texts, progress)
    tallies = {scorer.name: scorer.measure(trial) for scorer in materials.scorers}
    points = []
    for place, (setting, each) in enumerate(zip(settings, priced, strict=True)):
        scores = []
        for scorer in materials.scorers:
            # No control of its own: the unedited model stands in its place.
            effect = judge(scorer, tallies[scorer.name].select((0, 1 + place, 0)), measure).effect
            scores.append(Scored(scorer.name, effect.before, effect.after))
        points.append(Point(setting, each.strength, each.kl, each.perplexity, each.reached, tuple(scores)))
    return points


def _describe(model: OpenModel, study: Study, plan: CurvePlan, materials: Materials) -> dict[str, Any]:
    """Everything besides the setting itself that a measured number depends on."""
    return {
        "format": FORMAT,
        "weights": model.weights_hash,
        "pairs": study.pairs_hash,
        "made": study.made,
        "cost": [plan.cost, plan.wanted],
        "seed": plan.seed,
        "evaluation": record_plan(plan.evaluation),
        "sources": materials.sources,
    }


def _describe_baseline(plan: CurvePlan, name: str) -> dict[str, Any]:
    """What a baseline also depends on; nothing of a method."""
    if name not in baselines():
        return {}
    options = choose_one(plan, name).options
    return {"training": asdict(plan.training)} | ({} if options is None else {"options": asdict(options)})


def _hash_setting(setting: Setting, common: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([asdict(setting), common], sort_keys=True).encode()).hexdigest()


def load_curve(file: Path) -> dict[str, Point]:
    """Key -> point, of the results file of a lab; raises like `load_kept`."""
    return load_kept(file, lambda record: read_as(Point, record["point"]), "lab")


def keep_curve(file: Path, points: Mapping[str, Point]) -> None:
    """Add points to the results file of a lab; raises like `keep_results`."""
    merged = load_curve(file) | points
    keep_results(file, {key: {"point": asdict(point)} for key, point in merged.items()})


def record_curve(points: Sequence[Point], model: OpenModel, study: Study, plan: CurvePlan) -> dict[str, Any]:
    """A whole curve, for JSON: what was asked, and every setting."""
    made, versions = stamp()
    return {
        "model": asdict(identify(model)),
        "pairs_hash": study.pairs_hash,
        "pair_count": len(study.pairs),
        "cost": plan.cost,
        "wanted": plan.wanted,
        "edit": record_edit(plan_method(study, plan, PAPER)),
        "draw_seed": plan.seed,
        "training": asdict(plan.training),
        "evaluation": record_plan(plan.evaluation),
        "points": record_points(points),
        "made": made,
        "versions": dict(versions),
    }


def record_points(points: Sequence[Point]) -> list[dict[str, Any]]:
    """A flat record for each setting: what it is, what it costs, and each score after the edit."""
    return [
        {
            **asdict(point.setting),
            "strength": point.strength,
            "kl": point.kl,
            "perplexity": point.perplexity,
            "reached": point.reached,
            **{
                f"{each.scorer}_{part}": getattr(each.after, part)
                for each in point.scores
                for part in ("mean", "low", "high")
            },
            **{f"{each.scorer}_before": each.before.mean for each in point.scores},
        }
        for point in points
    ]
