"""The pairs of a source one by one, read as they are asked for; what was noticed on the way is kept in numbers."""

import hashlib
import json
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from detox_engine.data.columns import (
    IDENTICAL,
    AnswersLayout,
    Layout,
    Pair,
    SafetyLayout,
    UnusableRow,
    find_layout,
)
from detox_engine.data.files import open_table
from detox_engine.data.table import Table
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.plans.sources import BUNDLED, PairSpec

STAGE = "Reading pairs"
UNEVEN_RATIO = 3
UNEVEN_PAIRS = f"Pairs in which one side has more than {UNEVEN_RATIO} times the words of the other"
SHOWN_NUMBERS = 3

Numbered = tuple[int, Pair]
"""A pair and its line in a text file, or its row in a Parquet file or a Hub data set, from 1."""


@dataclass
class Faults:
    """What was wrong: how often, and where first, so that a million of them take no room."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[int]] = field(default_factory=dict)

    def add(self, fault: str, number: int) -> None:
        self.counts[fault] = self.counts.get(fault, 0) + 1
        if self.counts[fault] <= SHOWN_NUMBERS:
            self.first.setdefault(fault, []).append(number)

    def describe(self, unit: str) -> tuple[str, ...]:
        return tuple(
            f"{fault} ({list_numbers(self.first[fault], count, unit)})" for fault, count in self.counts.items()
        )


class Reservoir:
    """Which items of a stream of unknown length to keep, so that each has the same chance."""

    def __init__(self, room: int, seed: int | str) -> None:
        self.room, self.seen = room, 0
        self._chance = random.Random(seed)

    def place(self) -> int | None:
        """Where the next item goes, in place of what lies there; None where it is not kept."""
        self.seen += 1
        if self.seen <= self.room:
            return self.seen - 1
        # item n takes the place of a kept one with chance room / n
        place = self._chance.randrange(self.seen)
        return place if place < self.room else None


class PairStream:
    """The usable pairs of a table in its order, each given once; those of a draw where the spec has a limit.

    Holds no pairs but those read ahead and those drawn, so that a file of a million pairs takes no memory and
    begins at once.
    """

    def __init__(self, spec: PairSpec, table: Table, leave_out: frozenset[Pair] = frozenset()) -> None:
        """
        Args:
            leave_out: pairs that are not given, wherever they stand.
        """
        self.spec, self.table, self.leave_out = spec, table, leave_out
        self.rows = self.usable = self.given = 0
        """Rows looked at, rows that make a pair, pairs given."""
        self.faults, self.uneven = Faults(), Faults()
        self._layout: Layout | SafetyLayout | AnswersLayout = find_layout(table.columns, spec, table.shown)
        self._done = 0
        self._ahead: deque[Numbered] = deque()
        self._progress: Progress = ignore_progress
        self._source = self._read() if spec.limit is None else self._draw(spec.limit)

    def __iter__(self) -> Iterator[Numbered]:
        while True:
            if not self._ahead and not self.ahead(1):
                return
            number, pair = self._ahead.popleft()
            self.given += 1
            if is_uneven(pair):
                self.uneven.add(UNEVEN_PAIRS, number)
            yield number, pair

    def ahead(self, count: int | None = None, progress: Progress = ignore_progress) -> tuple[Numbered, ...]:
        """The next `count` pairs, fewer at the end, all by default; they stay in the stream.

        Raises:
            InputError: the source cannot be read, or it ended with fewer than two usable rows.
        """
        self._progress = progress
        try:
            missing = None if count is None else max(0, count - len(self._ahead))
            self._ahead.extend(islice(self._source, missing))
        finally:
            self._progress = ignore_progress
        return tuple(islice(self._ahead, count))

    @property
    def expected(self) -> int:
        """How many pairs there are in all: exact at the end, before it by how far the source has been read."""
        if self._done >= self.table.total or not self._done:
            return self.given + len(self._ahead)
        return max(self.given + len(self._ahead), round(self.usable * self.table.total / self._done))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was noticed about the rows so far, a sentence each."""
        found = []
        skipped = sum(self.faults.counts.values())
        if skipped:
            reasons = "; ".join(self.faults.describe(self.table.unit))
            found.append(f"{skipped:,} of {self.rows:,} rows make no pair and were left out: {reasons}.")
        if self.table.partial(self.rows):
            first = f"the first {self.rows:,} rows of {self.table.shown}"
            found.append(f"Drawn from {first}; without a limit all are read.")
        return tuple(found)

    @property
    def flaws(self) -> tuple[str, ...]:
        """What was noticed about the pairs given so far, where each can be looked at alone: a sentence each."""
        return tuple(
            f"{flaw}: {count:,} ({list_numbers(self.uneven.first[flaw], count, self.table.unit)})."
            for flaw, count in self.uneven.counts.items()
        )

    def _read(self) -> Iterator[Numbered]:
        total = self.table.total
        for row in self.table.read(self._layout.columns):
            self.rows += 1
            self._done = row.done
            if self.rows % 1000 == 1:
                self._progress(STAGE, row.done, total)
            try:
                if row.fault:
                    raise UnusableRow(row.fault)
                pair = self._layout.make_pair(row.cells)
            except UnusableRow as fault:
                self.faults.add(str(fault), row.number)
                continue
            if pair in self.leave_out:
                continue
            self.usable += 1
            yield row.number, pair
        self._done = total
        self._progress(STAGE, total, total)
        if self.usable < 2:
            raise _refuse(self.table, self.faults, self.rows)

    def _draw(self, limit: int) -> Iterator[Numbered]:
        reservoir = Reservoir(limit, self.spec.seed)
        drawn: dict[int, Numbered] = {}
        for numbered in self._read():
            place = reservoir.place()
            if place is not None:
                drawn[place] = numbered
        yield from sorted(drawn.values(), key=lambda numbered: numbered[0])


def open_pairs(spec: PairSpec, bundled: Path, leave_out: frozenset[Pair] = frozenset()) -> PairStream:
    """The pairs that `spec` names, none of them read yet.

    Args:
        bundled: the file that the source “bundled” means for the model in use.
        leave_out: pairs that are kept for something else.

    Raises:
        InputError: the source cannot be read as a table, or its columns make no pairs.
    """
    return PairStream(spec, open_source(spec, bundled), leave_out)


def open_source(spec: PairSpec, bundled: Path) -> Table:
    source = str(bundled) if spec.source == BUNDLED else spec.source
    return open_table(source, spec.subset, spec.split, spec.revision, spec.limit)


def is_uneven(pair: Pair) -> bool:
    """Whether one side has more than `UNEVEN_RATIO` times the words of the other."""
    words = sorted((len(pair.toxic.split()), len(pair.civil.split())))
    return words[1] > UNEVEN_RATIO * words[0]


def hash_pairs(pairs: Sequence[Pair], before: str = "") -> str:
    """`sha256:…` of the pairs in their order: each one's JSON array of prompt, toxic and civil text is hashed
    together with the hash of those `before` it, so that more pairs can follow later."""
    digest = bytes.fromhex(before.removeprefix("sha256:"))
    for pair in pairs:
        record = json.dumps([pair.prompt, pair.toxic, pair.civil], ensure_ascii=False)
        digest = hashlib.sha256(digest + record.encode()).digest()
    return f"sha256:{digest.hex()}"


def list_numbers(numbers: Sequence[int], count: int, unit: str) -> str:
    """The first of `count` numbers: `line 4`, `lines 4, 9`, `lines 4, 9, 12 and 30 more`."""
    shown = ", ".join(map(str, numbers[:SHOWN_NUMBERS]))
    more = f" and {count - SHOWN_NUMBERS:,} more" if count > SHOWN_NUMBERS else ""
    return f"{unit}{'' if count == 1 else 's'} {shown}{more}"


def _refuse(table: Table, faults: Faults, rows: int) -> InputError:
    skipped = sum(faults.counts.values())
    if not rows:
        return InputError(f"{table.shown} has columns but no rows: a fit needs at least two pairs.")
    if not skipped:
        return InputError(f"{table.shown} holds one pair: a fit needs at least two.")
    reasons = "; ".join(faults.describe(table.unit))
    if faults.counts.get(IDENTICAL) == rows:
        return InputError(f"{table.shown}: in every row {reasons}; check which columns are used.")
    amount = "only one row" if skipped < rows else "no row"
    return InputError(f"{table.shown}: {amount} of {rows:,} makes a pair, and a fit needs two; mend {reasons}.")
