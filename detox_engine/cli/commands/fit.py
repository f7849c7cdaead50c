"""The commands that make a study, `detox fit` from pairs and `detox extend` from a study and more pairs, and `detox
check`, which finds out whether the edit that a study suggests does what it promises."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from detox_engine.cli import output
from detox_engine.cli.flags import Json, Out, Said, StudyFolder, absolute, asks, load_study, load_workbench, model_of
from detox_engine.cli.output import plain, show_estimate
from detox_engine.plans.choice import list_in_words, usual_options
from detox_engine.plans.commands import as_text
from detox_engine.plans.edit import describe_edit
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.layers import format_layers
from detox_engine.plans.shared.cluster import ClusterPlan
from detox_engine.plans.sources import ModelSpec, MorePairs, PairSpec, StudyModel
from detox_engine.study.methods import methods
from detox_engine.study.suggestion import record_suggested

if TYPE_CHECKING:
    from detox_engine.study.study import Study
    from detox_engine.study.suggestion import Suggestion


@asks(
    {"--methods": list_in_words(methods())},
    model=ModelSpec(),
    plan=FitPlan(),
    options=usual_options(methods()),
    cluster=ClusterPlan(),
)
def fit(
    out: Out,
    model: ModelSpec,
    plan: FitPlan,
    options: Mapping[str, Any],
    cluster: ClusterPlan,
    as_json: Json = False,
) -> None:
    """Find the toxic directions of every layer of a model, and write them to a study."""
    with output.progress_bars() as progress:
        from detox_engine.workbench import fit_to_folder

        study = fit_to_folder(absolute(model), plan.with_options(options), out, progress, cluster)
    _show_study(study, out, as_json)


@asks(pairs=MorePairs(), model=StudyModel())
def extend(study: StudyFolder, pairs: Said[PairSpec], out: Out, model: Said[StudyModel], as_json: Json = False) -> None:
    """Add pairs to a study, fitted as it was, and write the whole to a new one; only the new pairs are read."""
    with output.progress_bars() as progress:
        from detox_engine.workbench import extend_to_folder

        fitted = load_study(study)
        spec = absolute(model_of(fitted, model))
        extended = extend_to_folder(fitted, spec, pairs.over(PairSpec()), out, progress)
    _show_study(extended, out, as_json)


def _show_study(study: "Study", folder: Path, as_json: bool) -> None:
    for warning in study.warnings:
        output.print_note(warning)
    if not as_json:
        return output.show(fit_table(study, str(folder)))
    return output.print_json(
        {
            "study": str(folder),
            "layers": study.model.layers,
            "hidden": study.model.hidden,
            "pairs": study.pair_count,
            "tokens": study.tokens,
            "seconds": study.seconds,
            "dominant_ranks": study.dominant_ranks,
            "suggested": record_suggested(study.suggestion),
            "reason": study.suggestion and study.suggestion.reason,
            "starting_point": {"layers": format_layers(study.suggested_layers), "rank": study.suggested_rank},
            "findings": [asdict(finding) for finding in study.findings],
            "isolates_toxicity": study.isolates_toxicity,
        }
    )


def fit_table(study: "Study", folder: str) -> RenderableType:
    """A fitted study: what stands out in each layer, what is to be said of its pairs, and what to do next."""
    table = Table(box=box.SIMPLE_HEAD)
    titles = ["layer", "directions that stand out", "share of the first", "its polarity"]
    if study.null_spectra is not None:
        titles.append("more than chance")
    for title in titles:
        table.add_column(title, justify="right")
    for layer, (subspace, rank) in enumerate(zip(study.subspaces, study.dominant_ranks, strict=True)):
        mark = "*" if layer in study.sink_writers else ""
        cells = [f"{mark}{layer}", str(rank), f"{float(subspace.shares[0]):.1%}", f"{float(subspace.polarity[0]):.2f}"]
        if study.null_spectra is not None:
            cells.append(f"{study.null_spectra[layer].count_real(subspace.singular_values)} of {subspace.kept}")
        table.add_row(*cells)
    seconds = ", ".join(f"{step} {value:.1f} s" for step, value in study.seconds.items())
    facts = (
        f"{study.pair_count:,} pairs, {study.tokens:,} tokens; {seconds}.",
        *(["* Layers that write what attention sinks hold, or cancel it."] if study.sink_writers else []),
        *(finding.sentence for finding in study.findings),
        *filter(None, [study.verdict]),
        *tell_suggestion(study, folder),
        f"The study is in {folder}; read it with: detox directions {as_text([folder])}",
    )
    return Group(table, *(plain(fact) for fact in facts))


def tell_suggestion(study: "Study", folder: str) -> tuple[str, ...]:
    """What is suggested and on what evidence, or that nothing is; and what to do."""
    suggestion = study.suggestion
    begin = f"layers {format_layers(study.suggested_layers)}, rank {study.suggested_rank}"
    if suggestion is None:
        return (f"Starting point: {begin}.",)
    if suggestion.edit is None:
        return f"No edit is suggested. {suggestion.reason}", f"A starting point to explore from: {begin}."
    return (
        f"Suggested edit, {suggestion.status}: {describe_edit(suggestion.edit)}. {suggestion.reason}",
        f"Confirm it by a short generation with: detox check {as_text([folder])}",
    )


@asks(model=StudyModel())
def check(study: StudyFolder, model: Said[StudyModel], as_json: Json = False) -> None:
    """Confirm or refute the edit that a study suggests, by a short generation beside its control, and write it down."""
    with output.progress_bars() as progress:
        fitted = load_study(study)
        fitted.require_suggestion()
        bench = load_workbench(fitted, model, progress)
        checked = bench.check(fitted, progress)
        checked.write_suggestion(study)
    if as_json:
        return output.print_json({**record_suggested(checked.suggestion), "check": asdict(checked.suggestion.check)})
    return output.show(check_table(checked.suggestion))


def check_table(suggestion: "Suggestion") -> RenderableType:
    """One row for each score, and what it comes to."""
    found = suggestion.check
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("score")
    for title in ("before", "after", "control", "after − before", "after − control"):
        table.add_column(title, justify="right")
    for change in found.changes:
        sides = (change.before, change.after, change.control, change.fall, change.beyond)
        table.add_row(plain(change.name), *map(show_estimate, sides))
    verdict = (
        "a score falls beyond chance, against the unedited model and against the control"
        if found.confirmed
        else "no score falls beyond chance, against the unedited model and against the control, while none rises"
    )
    facts = (
        f"The suggested edit, {describe_edit(suggestion.edit)}, is {suggestion.status}: {verdict}.",
        f"{found.prompts} prompts that provoke, {found.samples} continuations each, in {found.seconds:.0f} s; in "
        "brackets 95 % intervals; the control is random directions off the massive dimensions.",
    )
    return Group(table, *(plain(fact) for fact in facts))
