"""`detox bench` and `detox lab`: methods at one cost, on fewer pairs, on wrong labels."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev
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
from detox_engine.plans.edit import describe_edit
from detox_engine.plans.evaluation import BenchPlan, CurvePlan, EqualCost, LabelNoisePlan, SampleSizePlan
from detox_engine.plans.layers import check_layers
from detox_engine.plans.sources import StudyModel
from detox_engine.scoring.scorers import choose, scorers
from detox_engine.study.methods import choose as choose_method
from detox_engine.study.methods import methods

if TYPE_CHECKING:
    from detox_engine.lab.bench import Bench
    from detox_engine.lab.curves import Point, Setting
    from detox_engine.study.study import Study

MORE = {"--scorers": list_in_words(scorers()), "--methods": list_in_words(methods())}


def settle(study: "Study", plan: EqualCost, options: Mapping[str, Any]) -> Any:
    """The plan with the layers of this study; refused before a model is loaded for it."""
    plan = replace(plan, layers=layers_of(study, plan.layers), evaluation=plan.evaluation.with_options(options))
    choose(plan.evaluation)
    check_layers(plan.layers, study.layers)
    for choice in plan.methods:
        choose_method(choice)
    return plan


@asks(MORE, plan=BenchPlan(), options=usual_options(scorers()), model=StudyModel())
def bench(
    study: StudyFolder,
    plan: BenchPlan,
    options: Mapping[str, Any],
    model: Said[StudyModel],
    as_json: Json = False,
) -> None:
    """Hold the methods of a study against one another, each at the strength at which all cost the same."""
    with output.progress_bars() as progress:
        fitted = load_study(study)
        asked = settle(fitted, plan, options)
        for choice in asked.methods:
            fitted.of(choice.name)
        from detox_engine.lab.bench import record_bench, run_bench

        found = run_bench(load_workbench(fitted, model, progress).model, fitted, asked, progress)
    if as_json:
        return output.print_json(record_bench(found))
    return output.show(bench_table(found))


def bench_table(bench: "Bench") -> RenderableType:
    """A row for each method, and one for random subspaces of the same cost."""
    table = Table(box=box.SIMPLE_HEAD)
    # The further statistics of a score stand in the JSON.
    shown = [scorer for scorer in bench.scorers if scorer.name == scorer.kind.name]
    for title in ("method", "strength", "KL", "perplexity ×", *(scorer.name for scorer in shown), "fit, s"):
        table.add_column(title, justify="left" if title == "method" else "right")
    first = bench.rows[0].effects
    table.add_row("unedited", "", "", "", *(show_estimate(first[each.name].before) for each in shown), "")
    for row in bench.rows:
        costs = (f"{row.priced.strength:.3g}", f"{row.priced.kl:.4f}", f"{row.priced.perplexity:.4f}")
        scores = (show_estimate(row.effects[each.name].after) for each in shown)
        table.add_row(plain(row.title), *costs, *scores, "" if row.seconds is None else f"{row.seconds:.2f}")
    costs = [fmean(getattr(each, part) for each in bench.random) for part in ("strength", "kl", "perplexity")]
    levels = (show_estimate(first[each.name].control.level) for each in shown)
    table.add_row("random", f"{costs[0]:.3g}", f"{costs[1]:.4f}", f"{costs[2]:.4f}", *levels, "")
    told = {"kl": "KL on neutral text", "perplexity": "rise of perplexity"}[bench.plan.cost]
    facts = [
        f"Each method at the strength at which its {told} is {bench.plan.wanted:g}; in brackets 95 % intervals over "
        f"{bench.prompts} prompts. The first is {describe_edit(bench.rows[0].edit)}.",
    ]
    missed = [row.title for row in bench.rows if not row.priced.reached]
    if missed:
        facts.append(f"Not within 5 % of that cost at any strength that was tried: {', '.join(missed)}.")
    far = sum(not each.reached for each in bench.random)
    if far:
        facts.append(f"{far} of {len(bench.random)} random subspaces do not reach that cost at any strength tried.")
    return Group(table, *(plain(fact) for fact in facts))


Results = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="File that keeps each fit as it is measured; a rerun computes only what is missing in it.",
        show_default="lab.jsonl in the study's folder",
    ),
]


def curve_command(
    plan: CurvePlan, listed: Callable[["Study", Any], Sequence["Setting"]], along: str
) -> Callable[..., None]:
    """A command that fits the methods of a plan again and again.

    Args:
        listed: gives the settings of a plan.
        along: what of a setting the curve runs along.
    """

    @asks(MORE, plan=plan, options=usual_options(scorers()), model=StudyModel())
    def command(
        study: StudyFolder,
        plan: CurvePlan,
        options: Mapping[str, Any],
        model: Said[StudyModel],
        out: Results = None,
        as_json: Json = False,
        as_csv: Csv = False,
        raw: Raw = False,
    ) -> None:
        check_format(as_json, as_csv)
        with output.progress_bars() as progress:
            fitted = load_study(study)
            asked = settle(fitted, plan, options)
            settings = listed(fitted, asked)
            from detox_engine.lab.curves import measure_curve, record_points

            bench = load_workbench(fitted, model, progress)
            results = study / "lab.jsonl" if out is None else out
            points = measure_curve(bench.model, fitted, asked, settings, results, progress)
        records = record_points(points)
        if as_csv:
            return output.print_csv(list(records[0]), [list(record.values()) for record in records], raw=raw)
        if as_json:
            return output.print_json(records)
        return output.show(curve_table(points, along, asked))

    return command


def list_sample_sizes(study: "Study", plan: SampleSizePlan) -> Sequence["Setting"]:
    from detox_engine.lab import curves

    return curves.list_sample_sizes(study, plan)


def list_label_noise(study: "Study", plan: LabelNoisePlan) -> Sequence["Setting"]:
    from detox_engine.lab import curves

    return curves.list_label_noise(study, plan)


sample_size = curve_command(SampleSizePlan(), list_sample_sizes, "pairs")
label_noise = curve_command(LabelNoisePlan(), list_label_noise, "flipped")


def curve_table(points: Sequence["Point"], along: str, plan: CurvePlan) -> RenderableType:
    """A row for each method and number: the mean of its draws, and how far they spread."""
    groups: dict[tuple[float, str], list[Point]] = defaultdict(list)
    for point in points:
        groups[getattr(point.setting, along), point.setting.method].append(point)
    names = [each.scorer for each in points[0].scores if each.scorer in scorers()]
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("pairs" if along == "pairs" else "flipped", "method", "draws", "strength", *names):
        table.add_column(title, justify="left" if title == "method" else "right")
    for (value, method), draws in groups.items():
        cells = [f"{value:,}" if along == "pairs" else f"{value:.0%}", plain(method), str(len(draws))]
        cells.append(f"{fmean(point.strength for point in draws):.3g}")
        for name in names:
            levels = [point.after(name).mean for point in draws]
            spread = f" ± {show_number(pstdev(levels))}" if len(levels) > 1 else ""
            cells.append(f"{show_number(fmean(levels))}{spread}")
        table.add_row(*cells)
    before = ", ".join(
        f"{each.scorer} {show_number(each.before.mean)}" for each in points[0].scores if each.scorer in names
    )
    facts = [
        f"Unedited: {before}. Each fit at the strength at which its {plan.cost} on neutral text is {plan.wanted:g}; ± "
        "is the standard deviation over draws of the pairs.",
    ]
    missed = sum(not point.reached for point in points)
    if missed:
        facts.append(f"{missed} of {len(points)} fits do not reach that cost at any strength that was tried.")
    return Group(table, *(plain(fact) for fact in facts))
