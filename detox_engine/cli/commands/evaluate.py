"""`detox evaluate`: is an edit good?"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from detox_engine.cli import output
from detox_engine.cli.flags import (
    Json,
    Said,
    StudyFolder,
    absolute,
    asks,
    check_edit,
    load_study,
    load_workbench,
    model_of,
    tell_source,
)
from detox_engine.cli.output import plain, show_estimate, tell_edit
from detox_engine.disk import write_json, write_whole
from detox_engine.errors import InputError, Progress
from detox_engine.plans.choice import list_in_words, usual_options
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.fit import PAPER, FitPlan
from detox_engine.plans.shared.cluster import ClusterPlan
from detox_engine.plans.sources import ModelSpec, PairSpec, StudyModel, TextSpec
from detox_engine.scoring.scorers import choose, scorers

if TYPE_CHECKING:
    from detox_engine.scoring.evaluation import Evaluation
    from detox_engine.study.study import Study


@asks(
    {"--scorers": list_in_words(scorers())},
    edit=EditPlan(),
    plan=EvaluationPlan(),
    options=usual_options(scorers()),
    model=StudyModel(),
    cluster=ClusterPlan(),
)
def evaluate(
    study: StudyFolder,
    edit: Said[EditPlan],
    plan: Said[EvaluationPlan],
    options: Mapping[str, Any],
    model: Said[StudyModel],
    cluster: ClusterPlan,
    preset: Annotated[
        Literal["paper"] | None,
        typer.Option("--preset", help="paper: the published layers, rank and evaluation, where nothing else is said."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="New JSON file for all of the evaluation: every prompt, and the edit's proof."),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option("--pairs", help="With the paper's preset: fit the study on 500 of these pairs if there is none."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score an edit before and after, beside random subspaces of the same rank, plain and matched in KL."""
    from detox_engine.study.study import require_new_file

    if report is not None:
        require_new_file(report)
    measure = plan_evaluation(plan, preset).with_options(options)
    choose(measure)  # before anything is loaded
    with output.progress_bars() as progress:
        if preset is not None and not study.exists():
            fit_paper_study(study, model, pairs, progress)
        fitted = load_study(study)
        change = check_edit(fitted, edit.over(usual_edit(fitted, model, preset)))
        from detox_engine.cluster.connection import require_cluster
        from detox_engine.cluster.crew import open_crew
        from detox_engine.scoring.evaluation import evaluate as evaluate_edit
        from detox_engine.scoring.records import record_evaluation, record_scores
        from detox_engine.scoring.trial import Trial

        require_cluster(cluster)
        bench = load_workbench(fitted, model, progress)
        with open_crew(cluster, bench.model, progress) as crew:
            begin_trial = Trial if crew is None else crew.begin_trial
            evaluation = evaluate_edit(bench.model, fitted, change, measure, progress, begin_trial=begin_trial)
    source = tell_source(fitted, edit) if preset is None else ""
    cut = sum(any(each.cut for each in outcome.comparisons) for outcome in evaluation.prompts)
    if cut:
        output.print_note(f"Prompts cut from the left, to fit into the model's context: {cut}.")
    if report is not None:
        write_report(report, record_evaluation(evaluation))
    if as_json:
        return output.print_json(record_scores(evaluation))
    return output.show(evaluation_table(evaluation, source))


def plan_evaluation(said: Said[EvaluationPlan], preset: str | None) -> EvaluationPlan:
    """What the edit is measured with, the preset's where nothing was said."""
    if preset is None:
        return said.over(EvaluationPlan())
    from detox_engine.study.suggest import PAPER_EVALUATION

    if "neutral.source" not in said.values:
        return said.over(PAPER_EVALUATION)
    return said.over(replace(PAPER_EVALUATION, neutral=TextSpec()))  # another text has none of the preset's details


def usual_edit(study: "Study", model: Said[StudyModel], preset: str | None) -> EditPlan:
    """The paper's edit under its preset, else the study's suggestion."""
    if preset is None:
        return study.suggested_edit
    from detox_engine.study.suggest import find_published

    published = find_published(model_of(study, model).name)
    return EditPlan(published.layers, published.rank)


def fit_paper_study(study: Path, model: Said[StudyModel], pairs: str | None, progress: Progress) -> None:
    """Fit the study of the paper's preset: its arithmetic, its method, the published number of pairs."""
    from detox_engine.study.suggest import PAPER_PAIRS, find_published
    from detox_engine.workbench import fit_to_folder

    if "name" not in model.values or pairs is None:
        raise InputError(f"There is no study {study} yet: to fit it first, name the model and the pairs it needs.")
    spec = model.over(ModelSpec())
    find_published(spec.name)
    plan = FitPlan(PairSpec(pairs, limit=PAPER_PAIRS), sinks="keep", methods=(PAPER,), suggest=False)
    fit_to_folder(absolute(spec), plan, study, progress)


def write_report(file: Path, record: dict[str, Any]) -> None:
    """Write a record beside `file` and rename it when whole."""
    try:
        write_whole(file, write_json(record))
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error.strerror}): name another file for the report.") from None


def evaluation_table(evaluation: "Evaluation", source: str) -> RenderableType:
    """One row for each scorer, its controls beside it, and the edit's proof below."""
    from detox_engine.scoring.evaluation import describe_matches
    from detox_engine.scoring.toxicity import describe_empty

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("scorer")
    controls = {"plain": "random control", "matched": "random, matched in KL"}
    for title in ("before", "after", *map(controls.get, evaluation.plan.kinds), "after − before", "n"):
        table.add_column(title, justify="right")
    for score in evaluation.scores:
        effect = score.effect
        levels = (control.level for control in effect.controls)
        sides = (effect.before, effect.after, *levels, effect.difference)
        table.add_row(plain(score.name), *map(show_estimate, sides), str(effect.after.n))
    proof = evaluation.proof
    change = max(entry.change for entry in proof.changes)
    left = max(entry.along_after for entry in proof.changes)
    undone = f"was undone {'bit for bit' if proof.before == proof.undone else 'INCOMPLETELY'}"
    if proof.in_pass_alone:
        undone = "was made in the forward pass alone, since these weights are quantised"
    fates = [outcome.fate for outcome in evaluation.prompts]
    facts = [
        tell_edit(evaluation.edit, source),
        "In brackets 95 % intervals; controls are random subspaces of the same rank on the same layers.",
        f"The edit changes a layer's weights by up to {change:.2%} of their norm, leaves {left:.1e} of it along the "
        f"removed directions, and {undone}.",
    ]
    if evaluation.matches:
        facts.insert(2, describe_matches(evaluation))
    if empty := describe_empty(**evaluation.empty):
        facts.insert(1, empty)
    if fates:
        counts = ", ".join(f"{fates.count(fate)} {fate}" for fate in ("better", "worse", "stayed bad", "stayed fine"))
        facts.insert(1, f"Prompts: {counts}.")
    return Group(table, *(plain(fact) for fact in facts))
