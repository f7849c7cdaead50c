"""Methods side by side: the same pairs, prompts, texts, draws and controls, and each at the strength of one cost."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

from detox_engine.edit.control import draw_controls
from detox_engine.edit.low_rank import make_edit
from detox_engine.errors import Progress, ignore_progress
from detox_engine.estimates import Effect
from detox_engine.forward.likelihood import take_spans
from detox_engine.lab.equal_cost import Priced, match_costs
from detox_engine.model.load import OpenModel
from detox_engine.plans.edit import EditPlan, record_edit
from detox_engine.plans.evaluation import BenchPlan, EqualCost
from detox_engine.scoring.evaluation import judge, prepare
from detox_engine.scoring.records import record_effect
from detox_engine.scoring.scorer import Scorer
from detox_engine.scoring.scorers import record_plan
from detox_engine.scoring.trial import Trial
from detox_engine.study.methods import fit_subspaces, need_covariance, title_of
from detox_engine.study.study import ModelIdentity, Study, identify, stamp

TOKENS = 2048
"""Of neutral text, by which costs are matched."""


@dataclass(frozen=True, eq=False)
class BenchRow:
    """One method at the cost that all of them have."""

    method: str
    title: str
    edit: EditPlan
    """Can be taken as any edit plan."""
    priced: Priced
    effects: Mapping[str, Effect]
    """Scorer -> before, after, and random subspaces of the same rank, layers and cost."""
    seconds: float | None
    """What finding its directions at all layers takes once the texts are embedded; None where what it needs of them was
    not kept."""


@dataclass(frozen=True, eq=False)
class Bench:
    """Methods of a study, held against one another."""

    model: ModelIdentity
    plan: BenchPlan
    rows: tuple[BenchRow, ...]
    random: tuple[Priced, ...]
    """The random subspaces, one a draw."""
    scorers: tuple[Scorer, ...]
    prompts: int
    sources: Mapping[str, str]
    """Hashes of the prompts and of each text read."""
    seconds: float
    made: str
    versions: Mapping[str, str]


def run_bench(
    model: OpenModel,
    study: Study,
    plan: BenchPlan = BenchPlan(),  # noqa: B008
    progress: Progress = ignore_progress,
) -> Bench:
    """Match the study's methods in cost, and measure them in one trial.

    Raises:
        InputError: the study is of another model, has no such method, or a source or scorer cannot be used.
    """
    start = perf_counter()
    study.require_fit(model)
    names = [choice.name for choice in plan.methods] or list(study.methods)
    asked = [plan_method(study, plan, name) for name in names]
    plans = [replace(each, rank=min(each.rank, study.kept_of(each.method))) for each in asked]
    edits = [make_edit(study.of(each.method), each) for each in plans]
    measure = plan.evaluation
    materials = prepare(model, measure, progress, neutral=True)
    spans = take_spans(materials.texts["neutral"], TOKENS)
    drawn = draw_controls(edits[0], measure.controls, measure.seed, study.massive_dimensions)
    priced = match_costs(model, spans, [*edits, *drawn], plan.cost, plan.wanted, progress)
    strong = [replace(edit, strength=each.strength) for edit, each in zip([*edits, *drawn], priced, strict=True)]
    trial = Trial(model, (None, *strong), materials.prompts, measure.sampling, materials.texts, progress)
    tallies = {scorer.name: scorer.measure(trial) for scorer in materials.scorers}
    random_rows = range(1 + len(edits), 1 + len(strong))
    rows = []
    for place, each in enumerate(plans):
        chosen = [0, 1 + place, *random_rows]
        effects = {
            scorer.name: judge(scorer, tallies[scorer.name].select(chosen), measure).effect
            for scorer in materials.scorers
        }
        edit = replace(each, strength=priced[place].strength)
        rows.append(
            BenchRow(each.method, title_of(each.method), edit, priced[place], effects, time_method(study, each.method))
        )
    made, versions = stamp()
    return Bench(
        identify(model),
        plan,
        tuple(rows),
        priced[len(edits) :],
        materials.scorers,
        len(materials.prompts),
        materials.sources,
        perf_counter() - start,
        made,
        versions,
    )


def plan_method(study: Study, plan: EqualCost, name: str) -> EditPlan:
    """The edit of a method, before its strength is matched: the asked layers, sites and rank, or the suggestion's."""
    usual = study.suggested_edit
    rank, sites = plan.rank or usual.rank, plan.sites or usual.sites
    return EditPlan(plan.layers or usual.layers, rank, 1.0, sites=sites, method=name)


def time_method(study: Study, name: str) -> float | None:
    """Seconds in which the method finds its directions once more, in every layer."""
    choice = next((each for each in study.plan.methods if each.name == name), None)
    if study.embeddings is None or choice is None:
        return None
    if need_covariance((choice,)) and study.token_moments is None:
        return None
    start = perf_counter()
    states = study.embeddings
    fit_subspaces(states.toxic, states.civil, study.plan.keep, method=choice, tokens=study.token_moments)
    return perf_counter() - start


def record_bench(bench: Bench) -> dict[str, Any]:
    """All of it, for JSON: each method with its edit, cost and effects, and the random subspaces."""
    return {
        "model": asdict(bench.model),
        "cost": bench.plan.cost,
        "wanted": bench.plan.wanted,
        "evaluation": record_plan(bench.plan.evaluation),
        "sources": dict(bench.sources),
        "prompts": bench.prompts,
        "methods": {
            row.method: {
                "title": row.title,
                "edit": record_edit(row.edit),
                "cost": asdict(row.priced),
                "seconds": row.seconds,
                "scorers": {name: record_effect(effect) for name, effect in row.effects.items()},
            }
            for row in bench.rows
        },
        "random": [asdict(each) for each in bench.random],
        "seconds": bench.seconds,
        "made": bench.made,
        "versions": dict(bench.versions),
    }
