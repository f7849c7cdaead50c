"""What commands print: tables for people, JSON and CSV for programs, progress and notes on standard error."""

import io
import math
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from detox_engine.disk import write_csv, write_json
from detox_engine.errors import Progress as ProgressCallback
from detox_engine.estimates import ABSURD
from detox_engine.plans.edit import EditPlan, describe_edit

if TYPE_CHECKING:
    from detox_engine.estimates import Estimate

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
    print(write_json(document))


class Ended(KeyboardInterrupt):
    """The system, a closed terminal or Ctrl-C ends the program, which cleans up."""

    def __init__(self, signal: int) -> None:
        super().__init__()
        self.signal = signal


_ended: list[int] = []


def end(signal: int, frame: object) -> None:
    """The handler of the signals that end the program.

    What it raises is lost where a library happens to be calling back; the next report of progress raises it again.
    """
    _ended.append(signal)
    raise Ended(signal)


def _check_ended(stage: str, done: int, total: int) -> None:
    if _ended:
        raise Ended(_ended[0])


@contextmanager
def progress_bars() -> Iterator[ProgressCallback]:
    """A bar for each stage on standard error, gone at the end; silent where nobody watches."""
    if not sys.stderr.isatty():
        yield _check_ended
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {}

        def show(stage: str, done: int, total: int) -> None:
            _check_ended(stage, done, total)
            if stage not in tasks:
                tasks[stage] = bars.add_task(printable(stage[:1].upper() + stage[1:]), total=None)
            # A total of 0 means unknown: the bar then pulses.
            bars.update(tasks[stage], completed=done, total=total or None)

        yield show


def tell_edit(plan: EditPlan, source: str) -> str:
    """The edit and where it comes from, if it is not the person's own."""
    return f"Edit: {describe_edit(plan)}{f' ({source})' if source else ''}."


def print_csv(heads: Sequence[str], rows: Iterable[Sequence[Any]], raw: bool = False) -> None:
    """Write a table as comma-separated values, UTF-8 whatever the terminal's encoding; see `write_csv`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(write_csv(heads, rows, raw))


def show_estimate(estimate: "Estimate") -> str:
    """`12.3 (11.9 to 12.8)`."""
    return f"{show_number(estimate.mean)} ({show_number(estimate.low)} to {show_number(estimate.high)})"


def show_number(value: float) -> str:
    """Three digits behind the point, one of a larger number, a power of ten beyond sense, and a dash for no number."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if abs(value) >= ABSURD:
        return f"{value:.1e}".replace("e+", "e")
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
