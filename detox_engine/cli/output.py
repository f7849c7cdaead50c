"""What commands print: tables for people, JSON and CSV for programs, progress and notes on standard error."""

import csv
import io
import json
import math
import shlex
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from detox_engine.errors import Progress as ProgressCallback
from detox_engine.errors import ignore_progress
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.layers import format_layers
from detox_engine.scoring.records import summarise

if TYPE_CHECKING:
    from detox_engine.forward.compare import Comparison, Continuation
    from detox_engine.reading.directions import DirectionReading
    from detox_engine.study.study import Study

JOINERS = "\u200c\u200d"
"""Characters without a shape that ordinary words and emoji need."""


def printable(text: str) -> str:
    """`text` on one line, with every character that could steer a terminal written out: ESC is `<U+001B>`."""
    return "".join(_printable(character) for character in text)


def _printable(character: str) -> str:
    if character == "\n":
        return "↵"
    if character == "\t":
        return "⇥"
    kind = unicodedata.category(character)
    if (kind.startswith("C") and character not in JOINERS) or kind in ("Zl", "Zp"):
        return f"<U+{ord(character):04X}>"
    return character


def plain(text: object) -> Text:
    """A cell or line that shows `text` as it is."""
    return Text(printable(str(text)), overflow="fold")


def show(table: RenderableType) -> None:
    """Print to standard output, as wide as the terminal."""
    Console(highlight=False).print(table)


def print_note(text: str) -> None:
    """Print one line to standard error, unfolded, so that it stays one line in a log."""
    Console(stderr=True, highlight=False).print(plain(text), soft_wrap=True)


def print_json(document: Any) -> None:
    """Write one JSON document, UTF-8 whatever the terminal's encoding, and nothing else."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    print(json.dumps(without_nan(document), ensure_ascii=False, allow_nan=False, indent=2))


def without_nan(value: Any) -> Any:
    """The value with null for NaN and infinity, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def progress_bars() -> Iterator[ProgressCallback]:
    """A bar for each stage on standard error, gone at the end; silent where nobody watches."""
    if not sys.stderr.isatty():
        yield ignore_progress
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(printable(stage[:1].upper() + stage[1:]), total=None)
            # A total of 0 means unknown: the bar then pulses.
            bars.update(tasks[stage], completed=done, total=total or None)

        yield show


def fit_table(study: "Study", folder: str) -> RenderableType:
    """A fitted study: what stands out in each layer, and what to do next."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("layer", "directions that stand out", "share of the first", "its polarity"):
        table.add_column(title, justify="right")
    for layer, (subspace, rank) in enumerate(zip(study.subspaces, study.suggested_ranks, strict=True)):
        share, polarity = float(subspace.shares[0]), float(subspace.polarity[0])
        table.add_row(str(layer), str(rank), f"{share:.1%}", f"{polarity:.2f}")
    seconds = ", ".join(f"{step} {value:.1f} s" for step, value in study.seconds.items())
    facts = (
        f"{study.pair_count:,} pairs, {study.tokens:,} tokens; {seconds}.",
        f"Suggested edit: layers {format_layers(study.suggested_layers)}, rank {study.suggested_rank}.",
        f"The study is in {folder}; read it with: detox directions {shlex.quote(folder)}",
    )
    return Group(table, *(plain(fact) for fact in facts))


def directions_table(readings: Sequence["DirectionReading"]) -> Table:
    """One row for each direction; scores and singular values are left to JSON, for the tokens' sake."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("layer", "direction", "share", "polarity"):
        table.add_column(title, justify="right")
    table.add_column("toxic pole", ratio=1)
    table.add_column("civil pole", ratio=1)
    for entry in readings:
        poles = entry.reading.toxic_pole, entry.reading.civil_pole
        tokens = (plain(" ".join(end.token for end in pole)) for pole in poles)
        table.add_row(str(entry.layer), str(entry.direction), f"{entry.share:.1%}", f"{entry.polarity:.2f}", *tokens)
    return table


def describe_edit(plan: EditPlan, suggested: bool) -> str:
    source = " (suggested by the study)" if suggested else ""
    return f"Edit: layers {format_layers(plan.layers)}, rank {plan.rank}, strength {plan.strength:g}{source}."


def comparison_table(comparisons: Sequence["Comparison"]) -> RenderableType:
    """Before and after side by side, bold from the first token that differs, and the means below."""
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
        row += [_mark(comparison.before, comparison.first_divergence), plain(f"{comparison.toxicity_before:.2f}")]
        row += [_mark(comparison.after, comparison.first_divergence), plain(f"{comparison.toxicity_after:.2f}")]
        table.add_row(*row)
    summary = summarise(comparisons)
    return Group(
        table,
        plain(
            f"Mean toxicity {summary['toxicity_before']:.3f} before, {summary['toxicity_after']:.3f} after; "
            f"{summary['changed']:.0%} of {len(comparisons):,} continuations differ."
        ),
    )


def _mark(continuation: "Continuation", divergence: int | None) -> Text:
    if divergence is None:
        return plain(continuation.text)
    same, different = continuation.tokens[:divergence], continuation.tokens[divergence:]
    return plain("".join(same)).append(printable("".join(different)), style="bold")


def print_csv(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table as comma-separated values, UTF-8 whatever the terminal's encoding; None is an empty cell."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
