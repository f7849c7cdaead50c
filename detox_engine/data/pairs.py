"""Read and sample pairs of toxic and civil texts, always as pairs.

The published code of the paper draws toxic and civil texts with separate random indices; here a draw takes a
row with both of its sides.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detox_engine.data.columns import AnswersLayout, Layout, Pair, SafetyLayout, find_layout
from detox_engine.data.stream import PairStream, hash_pairs, open_pairs, open_source
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.plans.sources import PairSpec


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
    layout: Layout | SafetyLayout | AnswersLayout | None
    """The columns recognised by their names or named by the person, if they make pairs."""


def read_pairs(spec: PairSpec, bundled: Path, progress: Progress = ignore_progress) -> PairSet:
    """The pairs that `spec` names, or `spec.limit` of them drawn at random.

    The source is read once, row by row, and no more than the pairs drawn are held in memory. Every usable
    row has the same chance (of a streamed data set: every usable row among the first, which a warning tells).

    Args:
        bundled: the file that the source “bundled” means for the model in use.

    Raises:
        InputError: the source cannot be read, or fewer than two of its rows make a pair.
    """
    return collect_pairs(open_pairs(spec, bundled), progress)


def collect_pairs(stream: PairStream, progress: Progress = ignore_progress) -> PairSet:
    """All the pairs of a stream, and what was noticed on the way; raises as `read_pairs`."""
    stream.ahead(None, progress)
    numbers, pairs = zip(*stream, strict=True)
    skipped = sum(stream.faults.counts.values())
    warnings = stream.warnings + stream.flaws
    return PairSet(
        pairs, stream.spec.source, hash_pairs(pairs), warnings, stream.rows, skipped, numbers, stream.table.unit
    )


def read_columns(spec: PairSpec, bundled: Path, rows: int = 5) -> Preview:
    """The columns of a source and its first readable rows, before anything is known about its layout.

    Raises:
        InputError: the source cannot be read as a table.
    """
    table = open_source(replace(spec, limit=spec.limit or 2), bundled)
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


def _show(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    text = text.encode(errors="replace").decode()
    return text if len(text) <= 200 else text[:199] + "…"
