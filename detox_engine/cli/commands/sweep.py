"""`detox sweep`: which ranks and layers are worth it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from detox_engine.cli import output
from detox_engine.cli.flags import (
    Csv,
    Json,
    Raw,
    Said,
    StudyFolder,
    asks,
    check_format,
    layers_of,
    load_study,
    load_workbench,
)
from detox_engine.cli.output import plain, show_estimate, show_number
from detox_engine.plans.choice import list_in_words, usual_options
from detox_engine.plans.commands import PERPLEXITY_LIMIT
from detox_engine.plans.edit import SITES
from detox_engine.plans.evaluation import RANDOM, ControlKind, SweepPlan
from detox_engine.plans.layers import format_layers
from detox_engine.plans.shared.cluster import ClusterPlan
from detox_engine.plans.sources import StudyModel
from detox_engine.scoring.scorers import choose, scorers

if TYPE_CHECKING:
    from detox_engine.scoring.recommend import Recommendation
    from detox_engine.scoring.sweep import Sweep
    from detox_engine.study.study import Study


@asks(
    {"--scorers": list_in_words(scorers())},
    plan=SweepPlan(),
    options=usual_options(scorers()),
    model=StudyModel(),
    cluster=ClusterPlan(),
)
def sweep(
    study: StudyFolder,
    plan: Said[SweepPlan],
    options: Mapping[str, Any],
    model: Said[StudyModel],
    cluster: ClusterPlan,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="File that keeps each setting as it is measured; a rerun computes only what is missing in it.",
            show_default="sweep.jsonl in the study's folder",
        ),
    ] = None,
    perplexity_limit: Annotated[
        float,
        typer.Option("--perplexity-limit", help="Recommend only settings that multiply perplexity by at most this."),
    ] = PERPLEXITY_LIMIT,
    as_json: Json = False,
    as_csv: Csv = False,
    raw: Raw = False,
) -> None:
    """Score a grid of ranks and layers, many settings in a pass; stop and start again as you like."""
    check_format(as_json, as_csv)
    with output.progress_bars() as progress:
        fitted = load_study(study)
        grid = plan_grid(fitted, plan, options)
        from detox_engine.cluster.connection import require_cluster
        from detox_engine.cluster.crew import open_crew
        from detox_engine.scoring.records import record_sweep, tabulate_sweep
        from detox_engine.scoring.sweep import check_grid, run_sweep

        check_grid(fitted, grid)
        require_cluster(cluster)
        bench = load_workbench(fitted, model, progress)
        results = study / "sweep.jsonl" if out is None else out
        with open_crew(cluster, bench.model, progress) as crew:
            found = run_sweep(bench.model, fitted, grid, results, progress, crew=crew)
    if as_csv:
        return output.print_csv(*tabulate_sweep(found), raw=raw)
    if as_json:
        return output.print_json(record_sweep(found))
    from detox_engine.scoring.recommend import find_role, recommend

    harm, cost = find_role(found.scorers, "harm"), find_role(found.scorers, "cost")
    choice = recommend(found.points, harm, cost, perplexity_limit) if harm and cost else None
    return output.show(sweep_table(found, choice, str(results), grid.evaluation.kinds))


def plan_grid(study: "Study", said: Said[SweepPlan], options: Mapping[str, Any]) -> SweepPlan:
    """The grid asked for; of the ranks that nobody asked for, those that the method has directions for."""
    method = said.values.get("method", study.suggested_edit.method)
    kept = study.kept_of(method)
    ranks = tuple(rank for rank in SweepPlan.ranks if rank <= kept)
    plan = said.over(SweepPlan(ranks=ranks, method=method, sites=study.suggested_edit.sites))
    evaluation = plan.evaluation.with_options(options)
    choose(evaluation)
    starts, ends, layers = (each and layers_of(study, each) for each in (plan.starts, plan.ends, plan.layers))
    return replace(plan, starts=starts, ends=ends, layers=layers, evaluation=evaluation)


def sweep_table(
    sweep: "Sweep", choice: "Recommendation | None", results: str, kinds: Sequence[ControlKind]
) -> RenderableType:
    """One row for each setting, its controls of these kinds beside it; the recommended one in bold."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("layers", "rank", "strength"):
        table.add_column(title, justify="right")
    for scorer in sweep.scorers:
        table.add_column(scorer.name, justify="right")
        for kind in kinds:
            table.add_column({"plain": "random", "matched": "matched in KL"}[kind], justify="right")
    for index, point in enumerate(sweep.points):
        cells = [format_layers(point.layers), str(point.rank), f"{point.strength:g}"]
        for scorer in sweep.scorers:
            effect = point.effects[scorer.name]
            cells += [show_estimate(effect.after), *(show_number(control.level.mean) for control in effect.controls)]
        table.add_row(*cells, style="bold" if choice is not None and index == choice.index else None)
    facts = []
    if sweep.points:
        before = sweep.points[0].effects
        unedited = ", ".join(f"{name} {show_number(effect.before.mean)}" for name, effect in before.items())
        facts.append(f"Unedited: {unedited}.")
        edit = sweep.points[0].edit
        facts.append(f"All settings: directions of {edit.method}, removed from {SITES[edit.sites]}.")
    if choice is not None:
        facts.append(choice.reason)
    instead = " and ".join(RANDOM[kind] for kind in kinds)
    facts.append(f"Beside each score: that under {instead}, of the same rank on the same layers.")
    unmatched = sum(point.unmatched > 0 for point in sweep.points)
    if unmatched:
        facts.append(f"{unmatched} settings move neutral text further than their matched control can.")
    facts.append(f"{len(sweep.points)} settings, {sweep.computed} of them measured now; kept in {results}.")
    return Group(table, *(plain(fact) for fact in facts))
