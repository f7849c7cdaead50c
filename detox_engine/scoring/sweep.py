"""Which rank and layers are worth it? A grid of edits, many in one pass, each kept as soon as it is measured."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol

from detox_engine.edit.low_rank import make_edit
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.model.load import OpenModel
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import SweepPlan, read_setting
from detox_engine.plans.layers import check_layers
from detox_engine.scoring.evaluation import Materials, judge, make_controls, prepare, spell_directions
from detox_engine.scoring.results import SweepPoint, keep_points, load_points
from detox_engine.scoring.scorer import Described, describe_all
from detox_engine.scoring.scorers import record_plan
from detox_engine.scoring.trial import Trial
from detox_engine.study.study import Study

SETTINGS_AT_ONCE = 16
"""Settings that share a forward pass, what they share of it computed once. A sweep that is stopped loses as many, and
its page shows as many at a time; with half as many the bundled grid takes a tenth longer."""

TOKENS_AT_ONCE = 8192
"""Tokens of one text under all edits of a pass; longer texts are read under fewer settings at once."""

FORMAT = 3


@dataclass(frozen=True, eq=False)
class Sweep:
    """A grid that was measured, or the part of it that was reached."""

    points: tuple[SweepPoint, ...]
    """In the order of the grid: by rank, first layer, last layer, strength; last what the plan names besides."""
    scorers: tuple[Described, ...]
    total: int
    """Settings in the whole grid."""
    computed: int
    """Points that were measured now; the others had been kept from before."""

    @property
    def whole(self) -> bool:
        return len(self.points) == self.total


class Crew(Protocol):
    """Workers that each have the model, and share batches of settings."""

    def measure(
        self,
        study: Study,
        plan: SweepPlan,
        materials: Materials,
        batches: Sequence[Sequence[EditPlan]],
        progress: Progress = ignore_progress,
    ) -> Iterator[tuple[Sequence[EditPlan], list[SweepPoint]]]:
        """The settings of each batch with their points, in any order."""
        ...


def make_grid(plan: SweepPlan, layers: int) -> tuple[EditPlan, ...]:
    """Every setting of the plan for a model of `layers` layers, by rank, first layer, last layer and strength; then the
    one that it names besides.

    Raises:
        InputError: a layer outside the model, no first layer at or below a last one, or layers beside these.
    """
    if plan.layers is not None and (plan.starts, plan.ends) != (None, None):
        raise InputError("A sweep has the layers that it is given, or first and last ones: leave one of them out.")
    starts = tuple(range(layers)) if plan.starts is None else plan.starts
    ends = (layers - 1,) if plan.ends is None else plan.ends
    check_layers((*starts, *ends, *(plan.layers or ())), layers)
    ranges = [
        tuple(range(start, end + 1)) for start in sorted(set(starts)) for end in sorted(set(ends)) if start <= end
    ]
    among = ranges if plan.layers is None else [plan.layers]
    grid = tuple(
        EditPlan(chosen, rank, strength, method=plan.method, sites=plan.sites)
        for rank, chosen, strength in product(sorted(set(plan.ranks)), among, sorted(set(plan.strengths)))
    )
    if plan.also:
        own, rank, strength = read_setting(plan.also)
        check_layers(own, layers)
        also = EditPlan(own, rank, strength, method=plan.method, sites=plan.sites)
        grid = (*grid, also) if also not in grid else grid
    if not grid:
        raise InputError("Every first layer lies above every last layer: swap them, so that a setting has a layer.")
    return grid


def check_grid(study: Study, plan: SweepPlan) -> tuple[EditPlan, ...]:
    """The grid, with every setting within what the study holds; raises an InputError that names the range if not."""
    grid = make_grid(plan, study.layers)
    for setting in grid:
        make_edit(study.of(setting.method), setting)
    return grid


def run_sweep(
    model: OpenModel,
    study: Study,
    plan: SweepPlan = SweepPlan(),  # noqa: B008
    results: Path | None = None,
    progress: Progress = ignore_progress,
    show: Callable[[Sweep], None] = lambda sweep: None,
    crew: Crew | None = None,
) -> Sweep:
    """Measure every setting of the grid that is not among the kept results.

    Progress counts settings under “Trying settings”. When it raises, what was measured so far stays in `results`,
    and the same call goes on from there.

    Args:
        results: a JSONL file, one line for each setting measured; None keeps nothing.
        show: given the part of the grid that is there, at the start and after every batch.
        crew: who measures, if not this process.

    Raises:
        InputError: a rank or layer out of range, or a source, scorer or the results file cannot be used.
    """
    grid = check_grid(study, plan)
    study.require_fit(model)
    kept = load_points(results) if results is not None else {}
    materials = prepare(model, plan.evaluation, progress)
    common = _describe(model, plan, materials)
    keys = {setting: _hash_setting(study, setting, common) for setting in grid}
    missing = [setting for setting in grid if keys[setting] not in kept]

    def tell() -> Sweep:
        points = tuple(kept[keys[setting]] for setting in grid if keys[setting] in kept)
        computed = len(points) - (len(grid) - len(missing))
        sweep = Sweep(points, describe_all(materials.scorers), len(grid), computed)
        show(sweep)
        progress("Trying settings", len(points), len(grid))
        return sweep

    sweep, wanted = tell(), set(missing)
    batches = _batches(grid, plan.evaluation.controls * len(plan.evaluation.kinds), materials)
    todo = [left for batch in batches if (left := [setting for setting in batch if setting in wanted])]

    def measure_here() -> Iterator[tuple[Sequence[EditPlan], list[SweepPoint]]]:
        for batch in todo:
            yield batch, measure_settings(model, study, batch, plan, materials, progress)

    measured = measure_here() if crew is None else crew.measure(study, plan, materials, todo, progress)
    for batch, points in measured:
        found = {keys[setting]: point for setting, point in zip(batch, points, strict=True)}
        kept |= found
        if results is not None:
            keep_points(results, found)
        sweep = tell()
    return sweep


def _batches(grid: Sequence[EditPlan], controls: int, materials: Materials) -> list[tuple[EditPlan, ...]]:
    """The whole grid in the batches that share a pass, highest first layers first.

    They do not depend on what is missing, so that a sweep that was stopped goes on with the very batches that it
    would have had. Settings of nearly one first layer stand together: below it they share the work.
    """
    longest = max((len(span.ids) for spans in materials.texts.values() for span in spans), default=1)
    count = max(1, min(SETTINGS_AT_ONCE, TOKENS_AT_ONCE // (longest * (1 + controls))))
    order = sorted(grid, key=lambda setting: (-setting.layers[0], setting.layers[-1], setting.rank, setting.strength))
    return [tuple(order[start : start + count]) for start in range(0, len(order), count)]


def measure_settings(
    model: OpenModel,
    study: Study,
    settings: Sequence[EditPlan],
    plan: SweepPlan,
    materials: Materials,
    progress: Progress = ignore_progress,
) -> list[SweepPoint]:
    """The points of settings that share one trial: the unedited model, then each setting and its controls."""
    measure = plan.evaluation
    edits = [make_edit(study.of(setting.method), setting) for setting in settings]
    controls = [make_controls(model, study, edit, measure, materials, progress) for edit in edits]
    rows = [None, *(row for edit, (drawn, _) in zip(edits, controls, strict=True) for row in (edit, *drawn))]
    trial = Trial(model, rows, materials.prompts, measure.sampling, materials.texts, progress)
    tallies = {scorer.name: scorer.measure(trial) for scorer in materials.scorers}
    width = 1 + measure.controls * len(measure.kinds)
    points = []
    for place, (setting, (_, matches)) in enumerate(zip(settings, controls, strict=True)):
        own = [0, *range(1 + place * width, 1 + (place + 1) * width)]
        effects = {
            scorer.name: judge(scorer, tallies[scorer.name].select(own), measure).effect for scorer in materials.scorers
        }
        unmatched = sum(not match.reached for match in matches)
        edit = (setting.layers, setting.rank, setting.strength, effects, setting.method, setting.sites)
        points.append(SweepPoint(*edit, unmatched))
    return points


def _describe(model: OpenModel, plan: SweepPlan, materials: Materials) -> dict[str, Any]:
    """Everything besides the setting itself that a measured number depends on."""
    return {
        "format": FORMAT,
        "weights": model.weights_hash,
        "dtype": str(model.network.dtype),
        "evaluation": record_plan(plan.evaluation),
        "sources": materials.sources,
    }


def _hash_setting(study: Study, setting: EditPlan, common: Mapping[str, Any]) -> str:
    """The key under which a setting's results are kept: what they depend on, the directions themselves too."""
    digest = hashlib.sha256(json.dumps(common, sort_keys=True).encode())
    plan = [setting.layers, setting.rank, setting.strength, setting.method, setting.sites]
    digest.update(json.dumps(plan).encode())
    digest.update(spell_directions(study, setting))
    return digest.hexdigest()
