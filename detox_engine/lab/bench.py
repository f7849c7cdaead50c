"""Methods and baselines side by side: same pairs, prompts, texts, draws and controls, each at the strength of one cost.

Compared twice: where all move predictions on neutral text equally far, and where all raise its perplexity equally much.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from detox_engine.edit.control import draw_controls
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.estimates import Effect
from detox_engine.forward.likelihood import take_spans
from detox_engine.lab.baselines import baselines, list_contestants
from detox_engine.lab.contestants import Contestant, make_contestant
from detox_engine.lab.equal_cost import TOKENS, Priced, match_costs, price_edits
from detox_engine.model.load import OpenModel
from detox_engine.plans.choice import Choice, find
from detox_engine.plans.edit import EditPlan, record_edit
from detox_engine.plans.lab.experiments import BenchPlan, Cost
from detox_engine.scoring.evaluation import Materials, judge, prepare
from detox_engine.scoring.records import record_effect
from detox_engine.scoring.scorer import Scorer
from detox_engine.scoring.scorers import record_plan
from detox_engine.scoring.trial import Trial
from detox_engine.study.methods import methods
from detox_engine.study.study import ModelIdentity, Study, identify, stamp


@dataclass(frozen=True, eq=False)
class BenchRow:
    """One contestant at the cost that all of them have, or as it was made."""

    method: str
    title: str
    edit: EditPlan | None
    """Can be taken as any edit plan; None of what is none."""
    priced: Priced
    effects: Mapping[str, Effect]
    """Scorer -> before, after, and random subspaces of the same rank, layers and cost."""
    seconds: float
    """What making it took, once; embedding the pairs is in it."""
    memory: float
    """Bytes at most beside what was held before; of a method, once the pairs are embedded."""


@dataclass(frozen=True, eq=False)
class CostComparison:
    """All contestants at one cost."""

    cost: Cost
    wanted: float
    rows: tuple[BenchRow, ...]
    random: tuple[Priced, ...]
    """The random subspaces, one a draw."""


@dataclass(frozen=True, eq=False)
class Bench:
    """Methods and baselines on a study's pairs, held against one another."""

    model: ModelIdentity
    plan: BenchPlan
    comparisons: tuple[CostComparison, ...]
    whole: tuple[BenchRow, ...]
    """Those that are also shown as they were made, whatever that costs; beside the first comparison's random ones."""
    facts: Mapping[str, Mapping[str, Any]]
    """Contestant -> what it says of itself, such as the curves of its training."""
    left_out: Mapping[str, str]
    """Contestant -> why it could not be made here."""
    scorers: tuple[Scorer, ...]
    prompts: int
    sources: Mapping[str, str]
    """Hashes of the prompts and of each text read."""
    seconds: float
    made: str
    pairs_hash: str
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> tuple[BenchRow, ...]:
        """Those at the first cost."""
        return self.comparisons[0].rows


def run_bench(
    model: OpenModel,
    study: Study,
    plan: BenchPlan = BenchPlan(),  # noqa: B008
    folder: Path | None = None,
    progress: Progress = ignore_progress,
) -> Bench:
    """Make the contestants, match them in cost, and measure them in one trial for each cost.

    Args:
        folder: where what took long to train is kept, and found again.

    Raises:
        InputError: the study is of another model, what was named cannot be made here, or a source or scorer cannot be
            used.
    """
    start = perf_counter()
    study.require_fit(model)
    require_directions(plan.methods)
    materials = prepare(model, plan.evaluation, progress, neutral=True)
    contestants, left_out = make_contestants(model, study, plan, folder, progress)
    comparisons, whole = [], ()
    for cost in plan.costs:
        found, as_made = _compare(model, study, plan, cost, contestants, materials, not comparisons, progress)
        comparisons.append(found)
        whole += as_made
    made, versions = stamp()
    return Bench(
        identify(model),
        plan,
        tuple(comparisons),
        whole,
        {each.name: each.facts for each in contestants if each.facts},
        left_out,
        materials.scorers,
        len(materials.prompts),
        materials.sources,
        perf_counter() - start,
        made,
        study.pairs_hash,
        versions,
    )


def make_contestants(
    model: OpenModel, study: Study, plan: BenchPlan, folder: Path | None = None, progress: Progress = ignore_progress
) -> tuple[list[Contestant], dict[str, str]]:
    """Those of the plan; where it names none, all that can be made here, and why the others cannot."""
    if plan.methods:
        return [make_contestant(model, study, plan, choice, folder, progress) for choice in plan.methods], {}
    made, left_out = [], {}
    for name in (*study.offered, *baselines()):
        try:
            made.append(make_contestant(model, study, plan, Choice(name), folder, progress))
        except InputError as error:
            left_out[name] = str(error)
    return made, left_out


def _compare(
    model: OpenModel,
    study: Study,
    plan: BenchPlan,
    cost: Cost,
    contestants: Sequence[Contestant],
    materials: Materials,
    as_made: bool,
    progress: Progress,
) -> tuple[CostComparison, tuple[BenchRow, ...]]:
    """All contestants at one cost, and, where `as_made`, some of them as they were made."""
    measure = plan.evaluation
    spans = take_spans(materials.texts["neutral"], TOKENS)
    edits = [each.change for each in contestants]
    like = next(edit for edit in edits if isinstance(edit, LowRankEdit))
    drawn = draw_controls(like, measure.controls, measure.seed, study.massive_dimensions)
    priced = match_costs(model, spans, [*edits, *drawn], cost, plan.wanted, progress)
    strong = [edit.at_strength(each.strength) for edit, each in zip([*edits, *drawn], priced, strict=True)]
    shown = [each for each in contestants if each.whole and as_made]
    whole = [each.change.at_strength(each.shown_at) for each in shown]
    trial = Trial(model, (None, *strong, *whole), materials.prompts, measure.sampling, materials.texts, progress)
    tallies = {scorer.name: scorer.measure(trial) for scorer in materials.scorers}
    random_rows = range(1 + len(edits), 1 + len(strong))

    def make_row(each: Contestant, row: int, cost: Priced) -> BenchRow:
        effects = {
            scorer.name: judge(scorer, tallies[scorer.name].select([0, row, *random_rows]), measure).effect
            for scorer in materials.scorers
        }
        edit = each.edit and replace(each.edit, strength=cost.strength)
        return BenchRow(each.name, each.title, edit, cost, effects, each.seconds, each.memory)

    rows = tuple(make_row(each, 1 + place, priced[place]) for place, each in enumerate(contestants))
    costs = price_edits(model, spans, whole, progress)
    made = tuple(
        make_row(each, 1 + len(strong) + place, there)
        for place, (each, there) in enumerate(zip(shown, costs, strict=True))
    )
    return CostComparison(cost, plan.wanted, rows, priced[len(edits) :]), made


def require_directions(chosen: Sequence[Choice]) -> None:
    """Raise an InputError where none of the chosen finds directions; where none is chosen, DeTox does."""
    for choice in chosen:
        find(list_contestants(), choice, "method")
    if chosen and not any(choice.name in methods() or baselines()[choice.name].finds_directions for choice in chosen):
        raise InputError("A bench needs a method that finds directions, which random ones can stand beside: name one.")


def record_bench(bench: Bench) -> dict[str, Any]:
    """All of it, for JSON: each contestant with its edit, cost and effects, and the random subspaces, at each cost."""
    first, *others = map(_record_comparison, bench.comparisons)
    return {
        "model": asdict(bench.model),
        "pairs_hash": bench.pairs_hash,
        **first,
        "evaluation": record_plan(bench.plan.evaluation),
        "training": asdict(bench.plan.training),
        "sources": dict(bench.sources),
        "prompts": bench.prompts,
        "also": others,
        "as_made": {row.method: _record_row(row) for row in bench.whole},
        "facts": {name: dict(facts) for name, facts in bench.facts.items()},
        "left_out": dict(bench.left_out),
        "seconds": bench.seconds,
        "made": bench.made,
        "versions": dict(bench.versions),
    }


def _record_comparison(comparison: CostComparison) -> dict[str, Any]:
    return {
        "cost": comparison.cost,
        "wanted": comparison.wanted,
        "methods": {row.method: _record_row(row) for row in comparison.rows},
        "random": [asdict(each) for each in comparison.random],
    }


def _record_row(row: BenchRow) -> dict[str, Any]:
    return {
        "title": row.title,
        "edit": None if row.edit is None else record_edit(row.edit),
        "cost": asdict(row.priced),
        "seconds": row.seconds,
        "memory": row.memory,
        "scorers": {name: record_effect(effect) for name, effect in row.effects.items()},
    }


def list_bench(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A flat row for each contestant at each cost, and as it was made, from a bench's record."""
    at = [(each["cost"], each["methods"]) for each in (record, *record["also"])]
    return [
        {
            "at": cost,
            "method": name,
            **row["cost"],
            "seconds": row["seconds"],
            "memory": row["memory"],
            **{
                f"{scorer}_{side}_{part}": effect[side][part]
                for scorer, effect in row["scorers"].items()
                for side in ("before", "after", "control")
                for part in ("mean", "low", "high")
            },
        }
        for cost, rows in (*at, ("as made", record["as_made"]))
        for name, row in rows.items()
    ]
