"""`detox compare`: what a model writes before and after an edit."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from detox_engine.cli import output
from detox_engine.cli.flags import (
    Json,
    Said,
    StudyFolder,
    asks,
    load_study,
    load_workbench,
    model_of,
    plan_edit,
    tell_source,
)
from detox_engine.cli.output import plain, printable
from detox_engine.errors import InputError
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import StudyModel

if TYPE_CHECKING:
    from detox_engine.forward.compare import Comparison, Continuation


@asks(edit=EditPlan(), sampling=SamplingPlan(), model=StudyModel())
def compare(
    study: StudyFolder,
    edit: Said[EditPlan],
    sampling: SamplingPlan,
    model: Said[StudyModel],
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="A prompt to continue; can be repeated.")] = None,
    prompts: Annotated[
        str | None,
        typer.Option("--prompts", help="The bundled prompts (bundled), a text file with one a line, or JSONL."),
    ] = None,
    limit_prompts: Annotated[
        int | None, typer.Option("--limit-prompts", min=1, help="Take only the first prompts, this many.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write continuations before and after the edit, with the same luck, and score both."""
    with output.progress_bars() as progress:
        fitted = load_study(study)
        plan = plan_edit(fitted, edit)
        texts = read_prompts_for(model_of(fitted, model).name, prompt, prompts)[:limit_prompts]
        bench = load_workbench(fitted, model, progress)
        comparisons = bench.compare(fitted, plan, texts, sampling, progress, probabilities=False)
    source = tell_source(fitted, edit)
    cut = len({comparison.prompt for comparison in comparisons if comparison.cut})
    if cut:
        output.print_note(f"Prompts cut from the left, to fit into the model's context: {cut} of {len(texts)}.")
    if not as_json:
        output.show(output.plain(output.tell_edit(plan, source)))
        return output.show(comparison_table(comparisons))
    from detox_engine.scoring.records import record_comparisons

    return output.print_json(record_comparisons(comparisons, plan, sampling))


def read_prompts_for(model: str, given: list[str] | None, source: str | None) -> tuple[str, ...]:
    """The prompts on the command line, or those of a file; “bundled” depends on the model."""
    from detox_engine.data.bundled import bundled_prompts
    from detox_engine.data.columns import holds_half_character
    from detox_engine.data.texts import read_prompts

    if bool(given) == (source is not None):
        raise InputError("Give prompts in one way: --prompt TEXT, --prompts FILE or --prompts bundled.")
    if source is not None:
        return read_prompts(source, bundled_prompts(model))
    for text in given:
        if not text.strip():
            raise InputError("A prompt is empty: write some words for the model to continue.")
        if holds_half_character(text):
            raise InputError(f"The prompt “{text}” is not UTF-8: write it in the terminal's own encoding.")
    return tuple(given)


def comparison_table(comparisons: Sequence["Comparison"]) -> RenderableType:
    """Before and after side by side, bold from the first token that differs, and the means below."""
    from detox_engine.scoring.records import summarise
    from detox_engine.scoring.toxicity import describe_empty

    several = any(comparison.sample for comparison in comparisons)
    table = Table(box=box.SIMPLE_HEAD, show_lines=True)
    table.add_column("prompt", ratio=3)
    if several:
        table.add_column("sample", justify="right")
    for side in ("before", "after"):
        table.add_column(side, ratio=4)
        table.add_column("toxicity", justify="right")
    for comparison in comparisons:
        row = [plain(comparison.prompt)] + ([plain(comparison.sample)] if several else [])
        sides = ((comparison.before, comparison.toxicity_before), (comparison.after, comparison.toxicity_after))
        for side, toxicity in sides:
            row += [_mark(side, comparison.first_divergence), plain(_show_toxicity(toxicity))]
        table.add_row(*row)
    summary = summarise(comparisons)
    told = (
        f"Mean toxicity {output.show_number(summary['toxicity_before'])} before, "
        f"{output.show_number(summary['toxicity_after'])} after; {summary['changed']:.0%} of {len(comparisons):,} "
        "continuations differ."
    )
    empty = describe_empty(summary["empty_before"], summary["empty_after"], len(comparisons))
    return Group(table, plain(told), *([plain(empty)] if empty else ()))


def _show_toxicity(value: float) -> str:
    return "empty" if math.isnan(value) else f"{value:.2f}"


def _mark(continuation: "Continuation", divergence: int | None) -> Text:
    if divergence is None:
        return plain(continuation.text)
    same, different = continuation.tokens[:divergence], continuation.tokens[divergence:]
    return plain("".join(same)).append(printable("".join(different)), style="bold")
