"""What `detox lens` and `detox map` print: tables for people, comma-separated values for programs."""

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from detox_engine.tables import plain

if TYPE_CHECKING:
    from detox_engine.map import LayerMap
    from detox_engine.probe import Separability
    from detox_engine.token_lens import TokenProjections


def print_csv(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table as comma-separated values, UTF-8 whatever the terminal's encoding; None is an empty cell."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)


def lens_table(
    found: "TokenProjections", before: Sequence[Sequence[float]], after: Sequence[Sequence[float]] | None
) -> Table:
    """One row for each token, one column for each layer; after the arrow what the edit leaves."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("token")
    for layer in found.layers:
        table.add_column(f"layer {layer}", justify="right")
    for place, token in enumerate(found.text.tokens):
        cells = [f"{row[place]:.2f}" for row in before]
        if after is not None:
            cells = [f"{cell} → {row[place]:.2f}" for cell, row in zip(cells, after, strict=True)]
        table.add_row(plain(token), *cells)
    return table


def map_table(
    drawn: "LayerMap", states: Sequence[str], probes: Mapping[str, "Separability"], method: str
) -> RenderableType:
    """What a map shows in numbers, a row for each state; the points themselves are left to JSON and CSV."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(f"layer {drawn.layer}")
    for title in ("distance of twins", "probe's accuracy", "its AUC"):
        table.add_column(title, justify="right")
    for state, points in zip(states, drawn.points, strict=True):
        distance = float((points[0] - points[1]).norm(dim=-1).mean())
        scores = (probes[state].accuracy, probes[state].auc) if state in probes else ()
        cells = [f"{score.mean:.2f} ({score.low:.2f} to {score.high:.2f})" for score in scores]
        table.add_row(state, f"{distance:.3g}", *cells)
    facts = [f"{method.upper()} of {2 * drawn.points[0].shape[1]:,} texts."]
    if drawn.shares is not None:
        facts.append(f"Its axes hold {drawn.shares[0]:.0%} and {drawn.shares[1]:.0%} of the variance before the edit.")
    facts.append("Print the points with --csv or --json.")
    return Group(table, *(plain(fact) for fact in facts))
