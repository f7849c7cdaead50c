"""`python -m benchmarks [--quick] [--json FILE] [NAME…]`: run them all, or those named."""

import json
import time
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.side_by_side import describe_machine, show

NAMES = ("fit", "cluster", "precision", "compare", "grid", "dashboard", "memory", "real")


def run(
    names: Annotated[list[str] | None, typer.Argument(help=f"Some of {', '.join(NAMES)}; all by default.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small inputs and few rounds, to see that it runs; no bounds are held.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
) -> None:
    """Time the tool side by side with what it is measured against, and print medians and ratios.

    The exit status is 1 where a figure is over its bound.
    """
    for name in names or NAMES:
        if name not in NAMES:
            raise typer.BadParameter(f"“{name}” is none of {', '.join(NAMES)}.")
    record = {"machine": describe_machine(), "quick": quick, "seconds": {}, "figures": []}
    missed = False
    for name in names or NAMES:
        start = time.perf_counter()
        figures = import_module(f"benchmarks.{name}").measure(quick)
        record["seconds"][name] = round(time.perf_counter() - start)
        show(f"{name.capitalize()}, in {record['seconds'][name]} s", figures, judged=not quick)
        missed |= any(figure.verdict == "MISSED" for figure in figures)
        record["figures"] += [vars(figure) | {"benchmark": name, "verdict": figure.verdict} for figure in figures]
        if json_file is not None:
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(json.dumps(record, indent=2), encoding="utf-8")
    if missed and not quick:
        raise typer.Exit(1)


typer.run(run)
