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
from detox_engine.lab.baselines import baselines, list_contestants
from detox_engine.plans.choice import find, list_in_words, usual_options
from detox_engine.plans.edit import describe_edit
from detox_engine.plans.lab.experiments import (
    QUICK,
    BenchPlan,
    CentringPlan,
    CurvePlan,
    EqualCost,
    LabelNoisePlan,
    LinkPlan,
    SampleSizePlan,
)
from detox_engine.plans.layers import check_layers
from detox_engine.plans.sources import StudyModel
from detox_engine.scoring.scorers import choose, scorers
from detox_engine.study.methods import methods

if TYPE_CHECKING:
    from detox_engine.lab.bench import Bench, BenchRow, CostComparison
    from detox_engine.lab.curves import Point
    from detox_engine.scoring.scorer import Scorer
    from detox_engine.study.study import Study

MORE = {"--scorers": list_in_words(scorers()), "--methods": list_in_words(list_contestants())}
OPTIONS = usual_options(scorers()) | usual_options(baselines())


Quick = Annotated[
    bool,
    typer.Option(
        "--quick", help="Fewer draws, prompts and steps, where nothing else is said: a first look in minutes."
    ),
]


def settle(study: "Study", plan: EqualCost, options: Mapping[str, Any]) -> Any:
    """The plan with the layers of this study; refused before a model is loaded for it."""
    plan = replace(
        plan,
        layers=layers_of(study, plan.layers),
        methods=tuple(choice.among(options) for choice in plan.methods),
        evaluation=plan.evaluation.with_options(options),
    )
    choose(plan.evaluation)
    check_layers(plan.layers, study.layers)
    for choice in plan.methods:
        find(list_contestants(), choice, "method")
    return plan


@asks(MORE, plan=BenchPlan(), options=OPTIONS, model=StudyModel())
def bench(
    study: StudyFolder,
    plan: Said[BenchPlan],
    options: Mapping[str, Any],
    model: Said[StudyModel],
    quick: Quick = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Hold methods, DPO and plainer ways against one another, each at the strength at which all cost the same."""
    check_format(as_json, as_csv)
    with output.progress_bars() as progress:
        fitted = load_study(study)
        asked = settle(fitted, plan.over(QUICK["bench"] if quick else BenchPlan()), options)
        for choice in asked.methods:
            if choice.name in methods():
                fitted.of(choice.name)
        from detox_engine.lab.bench import list_bench, record_bench, run_bench
        from detox_engine.lab.effort import estimate_bench
        from detox_engine.lab.kept import ROOM, keep_record

        tell_estimate(estimate_bench(fitted, asked), as_json or as_csv)
        found = run_bench(load_workbench(fitted, model, progress).model, fitted, asked, study / ROOM, progress)
        record = record_bench(found)
        keep_record(study, "bench", record)
    if as_csv:
        rows = list_bench(record)
        return output.print_csv(list(rows[0]), [list(row.values()) for row in rows])
    if as_json:
        return output.print_json(record)
    return output.show(bench_table(found))


def bench_table(bench: "Bench") -> RenderableType:
    """A table for each cost, a row for each contestant and one for random subspaces; then those as they were made."""
    # The further statistics of a score stand in the JSON.
    shown = [scorer for scorer in bench.scorers if scorer.name == scorer.kind.name]
    told = [_comparison_table(bench, comparison, shown) for comparison in bench.comparisons]
    facts = []
    if bench.whole:
        told.append(_rows_table("As they were made, whatever that costs", bench.whole, shown))
    facts += [f"Left out: {name}. {why}" for name, why in bench.left_out.items()]
    facts.append(f"In brackets 95 % intervals over {bench.prompts} prompts.")
    return Group(*told, *(plain(fact) for fact in facts))


def _comparison_table(bench: "Bench", comparison: "CostComparison", shown: Sequence["Scorer"]) -> RenderableType:
    told = {"kl": "KL on neutral text", "perplexity": "rise of perplexity"}[comparison.cost]
    heading = f"At the strength at which the {told} is {comparison.wanted:g}"
    table = _rows_table(heading, comparison.rows, shown)
    costs = [fmean(getattr(each, part) for each in comparison.random) for part in ("strength", "kl", "perplexity")]
    levels = (show_estimate(comparison.rows[0].effects[each.name].control.level) for each in shown)
    table.add_row("random", f"{costs[0]:.3g}", f"{costs[1]:.4f}", f"{costs[2]:.4f}", *levels, "", "")
    edit = next(row.edit for row in comparison.rows if row.edit is not None)
    facts = [f"The first is {describe_edit(edit)}."]
    missed = [row.title for row in comparison.rows if not row.priced.reached]
    if missed:
        facts.append(f"Not within 5 % of that cost at any strength that was tried: {', '.join(missed)}.")
    far = sum(not each.reached for each in comparison.random)
    if far:
        facts.append(
            f"{far} of {len(comparison.random)} random subspaces do not reach that cost at any strength tried."
        )
    return Group(table, *(plain(fact) for fact in facts))


def _rows_table(heading: str, rows: Sequence["BenchRow"], shown: Sequence["Scorer"]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=heading, title_justify="left")
    for title in ("method", "strength", "KL", "perplexity ×", *(scorer.name for scorer in shown), "made in, s", "MB"):
        table.add_column(title, justify="left" if title == "method" else "right")
    before = (show_estimate(rows[0].effects[each.name].before) for each in shown)
    table.add_row("unedited", "", "", "", *before, "", "")
    for row in rows:
        costs = (f"{row.priced.strength:.3g}", f"{row.priced.kl:.4f}", f"{row.priced.perplexity:.4f}")
        scores = (show_estimate(row.effects[each.name].after) for each in shown)
        table.add_row(plain(row.title), *costs, *scores, f"{row.seconds:.1f}", f"{row.memory / 1e6:,.0f}")
    return table


Results = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="File that keeps each fit as it is measured; a rerun computes only what is missing in it.",
        show_default="lab.jsonl in the study's folder",
    ),
]


ALONG = {"sample-size": "pairs", "label-noise": "flipped", "centring": "rank"}
"""What of a setting each curve runs along."""


def tell_estimate(seconds: float, quiet: bool) -> None:
    """How long it will take, before it begins, beside the progress; not to a program."""
    if seconds and not quiet:
        from detox_engine.lab.effort import describe_time

        output.print_note(f"This takes about {describe_time(seconds)}, as fast as the study's pairs were read.")


def curve_command(name: str, usual: CurvePlan) -> Callable[..., None]:
    """A command that fits the methods of a plan again and again."""

    @asks(MORE, plan=usual, options=OPTIONS, model=StudyModel())
    def command(
        study: StudyFolder,
        plan: Said[CurvePlan],
        options: Mapping[str, Any],
        model: Said[StudyModel],
        out: Results = None,
        quick: Quick = False,
        as_json: Json = False,
        as_csv: Csv = False,
        raw: Raw = False,
    ) -> None:
        check_format(as_json, as_csv)
        with output.progress_bars() as progress:
            fitted = load_study(study)
            asked = settle(fitted, plan.over(QUICK[name] if quick else usual), options)
            from detox_engine.lab.curves import list_settings, measure_curve, record_curve, record_points
            from detox_engine.lab.effort import estimate_curve
            from detox_engine.lab.kept import keep_record

            settings = list_settings(fitted, asked)
            tell_estimate(estimate_curve(fitted, asked, settings), as_json or as_csv)
            bench = load_workbench(fitted, model, progress)
            results = study / "lab.jsonl" if out is None else out
            points = measure_curve(bench.model, fitted, asked, settings, results, progress)
            if points:
                keep_record(results.parent, name, record_curve(points, bench.model, fitted, asked))
        records = record_points(points)
        if as_csv:
            return output.print_csv(list(records[0]), [list(record.values()) for record in records], raw=raw)
        if as_json:
            return output.print_json(records)
        return output.show(curve_table(points, ALONG[name], asked))

    return command


sample_size = curve_command("sample-size", SampleSizePlan())
label_noise = curve_command("label-noise", LabelNoisePlan())
centring = curve_command("centring", CentringPlan())


@asks({}, plan=LinkPlan(), model=StudyModel())
def dpo_link(
    study: StudyFolder,
    plan: Said[LinkPlan],
    model: Said[StudyModel],
    quick: Quick = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Measure how much of DPO's first step, and of those that follow, lies inside the toxic subspace."""
    check_format(as_json, as_csv)
    with output.progress_bars() as progress:
        fitted = load_study(study)
        plan = plan.over(QUICK["dpo-link"] if quick else LinkPlan())
        from detox_engine.lab.dpo import require_trl
        from detox_engine.lab.dpo_link import measure_link, record_link
        from detox_engine.lab.effort import estimate_link
        from detox_engine.lab.kept import keep_record

        if plan.trained_steps:
            require_trl()
        tell_estimate(estimate_link(fitted, plan), as_json or as_csv)
        bench = load_workbench(fitted, model, progress)
        record = record_link(measure_link(bench.model, fitted, plan, progress), bench.model, fitted, plan)
        keep_record(study, "dpo-link", record)
    if as_csv:
        layers = record["layers"]
        return output.print_csv(list(layers[0]), [list(layer.values()) for layer in layers])
    if as_json:
        return output.print_json(record)
    return output.show(link_table(record))


def link_table(record: Mapping[str, Any]) -> RenderableType:
    """A row for each layer: the share of the first step, and of what training changed."""
    table = Table(box=box.SIMPLE_HEAD)
    steps = [each["step"] for each in record["along_training"]]
    heads = ("layer", "first step", "random (95 %)", "first direction", "mean difference", "random, one")
    for title in (*heads, *(f"after {step} steps" for step in steps)):
        table.add_column(title, justify="right")
    for place, layer in enumerate(record["layers"]):
        cells = [str(layer["layer"]), f"{layer['inside']:.3f}"]
        cells.append(f"{layer['random']:.3f} [{layer['random_low']:.3f}, {layer['random_high']:.3f}]")
        cells += [f"{layer[name]:.3f}" for name in ("first", "mean_difference", "random_first")]
        cells += [f"{each['layers'][place]['inside']:.3f}" for each in record["along_training"]]
        table.add_row(*cells)
    beyond = sum(layer["beyond_chance"] for layer in record["layers"])
    facts = [
        f"Share of the norm of DPO's first gradient inside the toxic subspace of rank {record['rank']}, by layer: more "
        f"than in 97.5 % of random subspaces at {beyond} of {len(record['layers'])} layers.",
    ]
    for count in sorted({each["pairs"] for each in record["denoised"]}):
        draws = [each for each in record["denoised"] if each["pairs"] == count]
        means = {name: fmean(each[name] for each in draws) for name in ("plain", "filtered", "filtered_both")}
        facts.append(
            f"The step of {count} pairs has a cosine of {means['plain']:.3f} with that of all others, "
            f"{means['filtered']:.3f} once projected on its own subspace, {means['filtered_both']:.3f} with both."
        )
    return Group(table, *(plain(fact) for fact in facts))


def curve_table(points: Sequence["Point"], along: str, plan: CurvePlan) -> RenderableType:
    """A row for each method and number: the mean of its draws, and how far they spread."""
    groups: dict[tuple[float, str, bool], list[Point]] = defaultdict(list)
    for point in points:
        groups[getattr(point.setting, along), point.setting.method, point.setting.matched].append(point)
    names = [each.scorer for each in points[0].scores if each.scorer in scorers()]
    table = Table(box=box.SIMPLE_HEAD)
    for title in (along, "method", "draws", "strength", "KL", "perplexity ×", *names):
        table.add_column(title, justify="left" if title == "method" else "right")
    for (value, method, _), draws in groups.items():
        cells = [f"{value:.0%}" if along == "flipped" else f"{value:,}", plain(method), str(len(draws))]
        cells.append(f"{fmean(point.strength for point in draws):.3g}")
        cells += [f"{fmean(getattr(point, part) for point in draws):.4f}" for part in ("kl", "perplexity")]
        for name in names:
            levels = [point.after(name).mean for point in draws]
            spread = f" ± {show_number(pstdev(levels))}" if len(levels) > 1 else ""
            cells.append(f"{show_number(fmean(levels))}{spread}")
        table.add_row(*cells)
    before = ", ".join(
        f"{each.scorer} {show_number(each.before.mean)}" for each in points[0].scores if each.scorer in names
    )
    facts = [f"Unedited: {before}. {MATCHED.format(told=plan.cost, wanted=plan.wanted)}"]
    if any(not point.setting.matched for point in points):
        facts.append("Where the strength is 1 it is done as the paper edits, whatever that costs.")
    missed = sum(not point.reached for point in points)
    if missed:
        facts.append(f"{missed} of {len(points)} fits do not reach that cost at any strength that was tried.")
    return Group(table, *(plain(fact) for fact in facts))


MATCHED = (
    "Each fit at the strength at which its {told} on neutral text is {wanted:g}; ± is the standard deviation over "
    "draws of the pairs."
)
