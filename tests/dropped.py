"""A file put into a folder of the package, as its next author would, for a test in this process or in another."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
HELP = """
import sys
from importlib import import_module
from typer.main import get_command
import_module(sys.argv[1]).__path__.append(sys.argv[2])
from detox_engine.cli import main
get_command(main.app)([sys.argv[3], "--help"])
"""


@contextmanager
def dropped(package: str, folder: Path, registry: str) -> Iterator[None]:
    """The modules in `folder` stand in `package` too, and its function `registry` finds them."""
    home = import_module(package)
    home.__path__.append(str(folder))
    getattr(home, registry).cache_clear()
    try:
        yield
    finally:
        home.__path__.remove(str(folder))
        getattr(home, registry).cache_clear()
        for file in folder.glob("*.py"):
            sys.modules.pop(f"{package}.{file.stem}", None)


def read_help(package: str, folder: Path, command: str) -> str:
    """What `detox command --help` says where `folder` stands in `package`, with plain spaces between the words."""
    told = subprocess.run(
        [sys.executable, "-c", HELP, package, str(folder), command],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "COLUMNS": "200"}, timeout=60,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    return " ".join(told.stdout.replace("│", " ").split())
