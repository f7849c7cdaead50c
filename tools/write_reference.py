"""Write docs/reference.md: every command with its flags, in the words of its own --help.

    .venv/bin/python -m tools.write_reference

`make docs` does so too, and tests/test_docs.py fails where the file says anything else than the commands.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from detox_engine.cli.main import app

FILE = Path(__file__).parents[1] / "docs" / "reference.md"
HEAD = """\
<!-- Written by tools/write_reference.py; change the commands, not this file. -->

# Commands

`detox COMMAND --help` says the same in a terminal. A flag that takes a value shows what kind of value it is. Every
command that reads a study takes the folder that `detox fit` wrote; see [Files](files.md).
"""
HELP = "--help"
"""Every command has it, and no list needs it."""


def list_commands(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Each command by its full name, those of groups after their group's."""
    for part, command in group.commands.items():
        full = f"{name} {part}"
        if hasattr(command, "commands"):
            yield from list_commands(command, full)
        else:
            yield full, command


def write_reference() -> str:
    """All of the page."""
    commands = list(list_commands(get_command(app), "detox"))
    rows = [f"| [`{name}`](#{name.replace(' ', '-')}) | {escape(join(command.help))} |" for name, command in commands]
    table = "\n".join(("| command | what it does |", "| --- | --- |", *rows))
    return "\n".join((HEAD, f"{table}\n", *(write_command(name, command) for name, command in commands)))


def write_command(name: str, command: Any) -> str:
    """A command's part of the page: its help, how it is called, its arguments and its flags."""
    context = command.make_context(name, [], resilient_parsing=True)
    called = command.get_usage(context).removeprefix("Usage: ")
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    lines = [write_record(*record) for record in records if record is not None and HELP not in record[0]]
    return "\n".join((f"## {name}", "", escape(join(command.help)), "", "```text", join(called), "```", "", *lines, ""))


def write_record(flag: str, told: str) -> str:
    """An argument or a flag as a line of a list."""
    return f"- `{flag}`: {escape(join(told))}"


def join(text: str) -> str:
    """A text that was wrapped, on one line."""
    return " ".join(text.split())


def escape(text: str) -> str:
    """A text whose signs are no markup."""
    return re.sub(r"([\\`*_<\[\]|])", r"\\\1", text)


def main() -> None:
    FILE.write_text(write_reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
