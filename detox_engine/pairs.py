"""Read, check and sample pairs of toxic and civil texts, always as pairs.

The published code of the paper draws toxic and civil texts with separate random indices; here a draw takes a
row with both of its sides.
"""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from detox_engine.errors import InputError
from detox_engine.layouts import IDENTICAL, Layout, Pair, SafetyLayout, UnusableRow, find_layout
from detox_engine.rows import Table, open_table
from detox_engine.specs import BUNDLED, PairSpec, Progress, ignore_progress

ASSETS = Path(__file__).parent.parent / "assets"
EVERYDAY = ASSETS / "everyday"
DEMO = ASSETS / "demo"

DUPLICATE = "duplicate"
UNEVEN = "very different lengths"
UNEVEN_RATIO = 3
SHOWN_NUMBERS = 3


@dataclass(frozen=True)
class PairSet:
    """Pairs in the order of their source, and what was noticed about them."""

    pairs: tuple[Pair, ...]
    source: str
    hash: str
    """`sha256:…` of the pairs in their order; two sets with the same texts have the same."""
    warnings: tuple[str, ...]
    total: int
    """Rows looked at, drawn or not."""
    skipped: int
    """Rows that make no pair."""
    lines: tuple[int, ...]
    """For each pair its line in a text file, or its row in a Parquet file or a Hub data set, from 1."""
    unit: str = "line"
    """What `lines` counts: line or row."""


@dataclass(frozen=True)
class Preview:
    """What a table holds, for a person who is to say which column is which."""

    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    """The first readable rows, each cell as a text and cut short."""
    layout: Layout | SafetyLayout | None
    """The columns recognised by their names or named by the person, if they make pairs."""


@dataclass
class Faults:
    """Why rows were left out: how often, and where first, so that a million of them take no room."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[int]] = field(default_factory=dict)

    def add(self, fault: str, number: int) -> None:
        self.counts[fault] = self.counts.get(fault, 0) + 1
        if self.counts[fault] <= SHOWN_NUMBERS:
            self.first.setdefault(fault, []).append(number)

    def describe(self, unit: str) -> tuple[str, ...]:
        return tuple(f"{fault} ({_list(self.first[fault], count, unit)})" for fault, count in self.counts.items())


def read_pairs(spec: PairSpec, bundled: Path, progress: Progress = ignore_progress) -> PairSet:
    """The pairs that `spec` names, or `spec.limit` of them drawn at random.

    The source is read once, row by row, and no more than the pairs drawn are held in memory. Every usable
    row has the same chance (of a streamed data set: every usable row among the first, which a warning tells).

    Args:
        bundled: the file that the source “bundled” means for the model in use.

    Raises:
        InputError: the source cannot be read, or fewer than two of its rows make a pair.
    """
    table = _open(spec, bundled)
    layout = find_layout(table.columns, spec, table.shown)
    drawn, faults, total = _draw(table, layout, spec, progress)
    if len(drawn) < 2:
        raise _refuse(table, faults, total)
    skipped = sum(faults.counts.values())
    warnings = []
    if skipped:
        reasons = "; ".join(faults.describe(table.unit))
        warnings.append(f"{skipped:,} of {total:,} rows make no pair and were left out: {reasons}.")
    if table.partial(total):
        warnings.append(f"Drawn from the first {total:,} rows of {table.shown}; without a limit all are read.")
    numbers, pairs = zip(*drawn, strict=True)
    result = PairSet(pairs, spec.source, hash_pairs(pairs), tuple(warnings), total, skipped, numbers, table.unit)
    return replace(result, warnings=(*result.warnings, *check_pairs(result)))


def find_flaws(pairs: Sequence[Pair]) -> tuple[frozenset[str], ...]:
    """What is odd about each pair, to filter by: a set of `DUPLICATE`, `IDENTICAL`, `UNEVEN`, mostly empty.

    A duplicate repeats an earlier pair, prompt and both sides. Uneven sides differ in their number of words by
    more than a factor of `UNEVEN_RATIO`. `read_pairs` already leaves pairs with identical sides out.
    """
    seen: set[Pair] = set()
    flaws = []
    for pair in pairs:
        words = sorted((len(pair.toxic.split()), len(pair.civil.split())))
        found = {
            DUPLICATE: pair in seen,
            IDENTICAL: pair.toxic.strip() == pair.civil.strip(),
            UNEVEN: words[1] > UNEVEN_RATIO * words[0],
        }
        flaws.append(frozenset(flaw for flaw, holds in found.items() if holds))
        seen.add(pair)
    return tuple(flaws)


def check_pairs(pairs: PairSet) -> tuple[str, ...]:
    """A sentence for each flaw among the pairs; `read_pairs` has put them into `PairSet.warnings`."""
    flaws = find_flaws(pairs.pairs)
    sentences = {
        DUPLICATE: "Pairs that repeat an earlier one",
        IDENTICAL: "Pairs whose sides are the same",
        UNEVEN: f"Pairs in which one side has more than {UNEVEN_RATIO} times the words of the other",
    }
    warnings = []
    for flaw, what in sentences.items():
        numbers = [line for line, found in zip(pairs.lines, flaws, strict=True) if flaw in found]
        if numbers:
            warnings.append(f"{what}: {len(numbers):,} ({_list(numbers, len(numbers), pairs.unit)}).")
    return tuple(warnings)


def read_columns(spec: PairSpec, bundled: Path, rows: int = 5) -> Preview:
    """The columns of a source and its first readable rows, before anything is known about its layout.

    Raises:
        InputError: the source cannot be read as a table.
    """
    table = _open(replace(spec, limit=spec.limit or 2), bundled)
    first: list[dict[str, str]] = []
    for row in table.read(table.columns):
        if not row.fault:
            first.append({name: _show(row.cells.get(name)) for name in table.columns})
        if len(first) >= rows:
            break
    try:
        layout = find_layout(table.columns, spec, table.shown)
    except InputError:
        layout = None
    return Preview(table.columns, tuple(first), layout)


def hash_pairs(pairs: Sequence[Pair]) -> str:
    """`sha256:…` over the pairs in their order, each as one JSON array of prompt, toxic and civil text."""
    digest = hashlib.sha256()
    for pair in pairs:
        record = json.dumps([pair.prompt, pair.toxic, pair.civil], ensure_ascii=False)
        digest.update(record.encode() + b"\n")
    return f"sha256:{digest.hexdigest()}"


def _open(spec: PairSpec, bundled: Path) -> Table:
    return open_table(replace(spec, source=str(bundled)) if spec.source == BUNDLED else spec)


def _draw(
    table: Table, layout: Layout | SafetyLayout, spec: PairSpec, progress: Progress
) -> tuple[list[tuple[int, Pair]], Faults, int]:
    """Numbered pairs in the order of the table, the faults of the other rows, and how many rows there were."""
    faults = Faults()
    drawn: list[tuple[int, Pair]] = []
    chance = random.Random(spec.seed)
    total = usable = 0
    for row in table.read(layout.columns):
        total += 1
        if total % 1000 == 1:
            progress("Reading pairs", row.done, table.total)
        try:
            if row.fault:
                raise UnusableRow(row.fault)
            pair = layout.make_pair(row.cells)
        except UnusableRow as fault:
            faults.add(str(fault), row.number)
            continue
        usable += 1
        if spec.limit is None or len(drawn) < spec.limit:
            drawn.append((row.number, pair))
        else:
            # reservoir sampling: usable row n takes the place of a drawn one with chance limit / n
            place = chance.randrange(usable)
            if place < spec.limit:
                drawn[place] = (row.number, pair)
    progress("Reading pairs", table.total, table.total)
    return sorted(drawn, key=lambda numbered: numbered[0]), faults, total


def _refuse(table: Table, faults: Faults, total: int) -> InputError:
    skipped = sum(faults.counts.values())
    if not total:
        return InputError(f"{table.shown} has columns but no rows: a fit needs at least two pairs.")
    if not skipped:
        return InputError(f"{table.shown} holds one pair: a fit needs at least two.")
    reasons = "; ".join(faults.describe(table.unit))
    if faults.counts.get(IDENTICAL) == total:
        return InputError(f"{table.shown}: in every row {reasons}; check which columns are used.")
    amount = "only one row" if skipped < total else "no row"
    return InputError(f"{table.shown}: {amount} of {total:,} makes a pair, and a fit needs two; mend {reasons}.")


def _list(numbers: Sequence[int], count: int, unit: str) -> str:
    """The first of `count` numbers: `line 4`, `lines 4, 9`, `lines 4, 9, 12 and 30 more`."""
    shown = ", ".join(map(str, numbers[:SHOWN_NUMBERS]))
    more = f" and {count - SHOWN_NUMBERS:,} more" if count > SHOWN_NUMBERS else ""
    return f"{unit}{'' if count == 1 else 's'} {shown}{more}"


def _show(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    text = text.encode(errors="replace").decode()
    return text if len(text) <= 200 else text[:199] + "…"
