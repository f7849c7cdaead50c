"""`python -m benchmarks [--quick] [--json FILE] [NAME…]`: run them all, or those named."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

NAMES = ("fit", "compare")


def run(
    names: Annotated[list[str] | None, typer.Argument(help=f"Some of {', '.join(NAMES)}; all by default.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small inputs and few rounds: to see that it runs.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
) -> None:
    """Time the tool side by side with what it is measured against, and print medians and ratios."""
    for name in names or NAMES:
        if name not in NAMES:
            raise typer.BadParameter(f"“{name}” is none of {', '.join(NAMES)}.")
        import_module(f"benchmarks.{name}").main(json_file, quick)


typer.run(run)
