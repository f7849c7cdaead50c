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

import torch
from torch import Tensor

from detox_engine.disk import read_as
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.estimates import Estimate
from detox_engine.forward.likelihood import take_spans
from detox_engine.lab.bench import TOKENS, plan_method
from detox_engine.lab.equal_cost import match_costs
from detox_engine.model.load import OpenModel
from detox_engine.plans.choice import Choice
from detox_engine.plans.edit import record_edit
from detox_engine.plans.evaluation import CurvePlan, LabelNoisePlan, SampleSizePlan
from detox_engine.scoring.evaluation import Materials, judge, prepare
from detox_engine.scoring.results import keep_results, load_kept
from detox_engine.scoring.scorers import record_plan
from detox_engine.scoring.trial import Trial
from detox_engine.study.methods import choose, fit_layer
from detox_engine.study.study import Study

AT_ONCE = 12
"""Settings that share a pass. A run that is stopped loses as many."""
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
        for choice in plan.methods
        for draw in range(1 if size == count else plan.draws)
    ]


def list_label_noise(study: Study, plan: LabelNoisePlan) -> list[Setting]:
    """Every method on all pairs, of which more and more are flipped."""
    count = require_pairs(study)
    return [
        Setting(choice.name, count, share, draw)
        for share in sorted({0.0, *plan.flipped})
        for choice in plan.methods
        for draw in range(plan.draws if share else 1)
    ]


def require_pairs(study: Study) -> int:
    """How many pairs there are to draw from; raises an InputError where their embeddings were not kept."""
    if study.embeddings is None:
        raise InputError("The study kept no embeddings to fit anew on: fit it again, with --embeddings.")
    return len(study.pairs)


def draw_pairs(study: Study, setting: Setting, seed: int) -> tuple[Tensor, Tensor]:
    """Toxic and civil embeddings `[layers, pairs, hidden]` of a setting: some pairs, and some of them flipped."""
    generator = torch.Generator().manual_seed(1000 * seed + setting.draw)
    rows = torch.randperm(len(study.pairs), generator=generator)[: setting.pairs].sort().values
    toxic, civil = (side[:, rows] for side in (study.embeddings.toxic, study.embeddings.civil))
    flips = torch.zeros(len(rows), dtype=torch.bool)
    flips[torch.randperm(len(rows), generator=generator)[: round(setting.flipped * len(rows))]] = True
    swapped = flips[None, :, None]
    return torch.where(swapped, civil, toxic), torch.where(swapped, toxic, civil)


def fit_setting(study: Study, plan: CurvePlan, setting: Setting) -> LowRankEdit:
    """The edit that a method finds on the pairs of a setting, at strength 1."""
    asked, method = plan_method(study, plan, setting.method), Choice(setting.method)
    toxic, civil = draw_pairs(study, setting, plan.seed)
    needs = choose(method).needs_covariance
    if needs and study.token_moments is None:
        raise InputError(f"The study kept no covariance of tokens, which {setting.method} needs: fit it again.")
    bases = {}
    for layer in asked.layers:
        covariance = study.token_moments.covariance(layer) if needs else None
        bases[layer] = fit_layer(toxic[layer], civil[layer], asked.rank, method, covariance).basis
    return LowRankEdit(bases, sites=asked.sites)


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
        results: a JSONL file, a line for each setting; None keeps nothing.
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
        setting: _hash_setting(setting, common | {"edit": record_edit(plan_method(study, plan, setting.method))})
        for setting in settings
    }

    def tell() -> tuple[Point, ...]:
        points = tuple(kept[keys[setting]] for setting in settings if keys[setting] in kept)
        progress("Trying settings", len(points), len(settings))
        show(points)
        return points

    points = tell()
    for batch in _batches([setting for setting in settings if keys[setting] not in kept]):
        found = _measure(model, study, plan, materials, batch, progress)
        kept |= {keys[point.setting]: point for point in found}
        if results is not None:
            keep_curve(results, {keys[point.setting]: point for point in found})
        points = tell()
    return points


def _batches(settings: Sequence[Setting]) -> Iterator[Sequence[Setting]]:
    for start in range(0, len(settings), AT_ONCE):
        yield settings[start : start + AT_ONCE]


def _measure(
    model: OpenModel,
    study: Study,
    plan: CurvePlan,
    materials: Materials,
    settings: Sequence[Setting],
    progress: Progress,
) -> list[Point]:
    measure = plan.evaluation
    edits = [fit_setting(study, plan, setting) for setting in settings]
    spans = take_spans(materials.texts["neutral"], TOKENS)
    priced = match_costs(model, spans, edits, plan.cost, plan.wanted, progress)
    strong = [replace(edit, strength=each.strength) for edit, each in zip(edits, priced, strict=True)]
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


def _hash_setting(setting: Setting, common: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([asdict(setting), common], sort_keys=True).encode()).hexdigest()


def load_curve(file: Path) -> dict[str, Point]:
    """Key -> point, of the results file of a lab; raises like `load_kept`."""
    return load_kept(file, lambda record: read_as(Point, record["point"]), "lab")


def keep_curve(file: Path, points: Mapping[str, Point]) -> None:
    """Add points to the results file of a lab; raises like `keep_results`."""
    merged = load_curve(file) | points
    keep_results(file, {key: {"point": asdict(point)} for key, point in merged.items()})


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
