"""Neutral text and prompts for an evaluation: bundled files, a person's own, or a data set on the Hub."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from detox_engine.data.chat import BrokenChat, read_messages
from detox_engine.data.columns import UnusableRow, check_text
from detox_engine.data.files import READERS, find_ending, names_hub, open_table
from detox_engine.data.table import Lines, Row, Table, find_file
from detox_engine.errors import InputError
from detox_engine.plans.sources import BUNDLED, TextSpec

COLUMNS = ("prompt", "text", "question", "instruction", "messages", "conversations")
"""What a column of prompts is called."""
WANTED = 'write {"prompt": "…"} on each line'


@dataclass(frozen=True)
class Text:
    """Text to read: separate lines, or one running text."""

    lines: tuple[str, ...]
    running: bool
    joint: str = "\n"
    """What stands between the lines of a running text."""


def read_text(spec: TextSpec, bundled: Path) -> Text:
    """The neutral text that `spec` names; `bundled` is the file that “bundled” means.

    The rows of a Hub data set are joined by an empty line to one running text, as the transformers documentation
    does with WikiText. A file has a text in each line, which is read by itself.

    Raises:
        InputError: the source cannot be read, or holds no text.
    """
    shown = str(bundled) if spec.source == BUNDLED else spec.source
    hub = names_hub(shown)
    running = hub if spec.layout == "auto" else spec.layout == "text"
    table = hub or find_ending(Path(shown)) in READERS
    lines = tuple(_read_column(spec) if table else (line.rstrip("\r\n") for line in Lines(find_file(shown), shown)))
    lines = lines[: spec.limit] if running else tuple(line.strip() for line in lines if line.strip())[: spec.limit]
    if not any(line.strip() for line in lines):
        raise InputError(f"{shown} holds no text: write one a line.")
    return Text(lines, running, "\n\n" if hub else "\n")


def _read_column(spec: TextSpec) -> Iterable[str]:
    """The cells of one column of a table."""
    table = open_table(spec.source, spec.subset, spec.split)
    if spec.column not in table.columns:
        raise InputError(
            f"{spec.source} has no column “{spec.column}”: name one of {', '.join(table.columns)} as the column of "
            "neutral text."
        )
    for row in table.read((spec.column,)):
        cell = row.cells.get(spec.column)
        if row.fault or not isinstance(cell, str):
            what = row.fault or f"“{spec.column}” holds no text"
            raise InputError(f"{spec.source}, {table.unit} {row.number}: {what}; mend it or leave it out.")
        yield cell


def read_any_prompts(source: str, bundled: Path, limit: int | None) -> tuple[str, ...]:
    """Prompts of a file or of a Hub data set, the first `limit` of them.

    Of a data set with a column `challenging` (RealToxicityPrompts), only the challenging prompts are taken.

    Raises:
        InputError: the source cannot be read, or holds no prompt.
    """
    if not names_hub(source):
        return read_prompts(source, bundled)[:limit]
    table = open_table(source)
    if "prompt" not in table.columns:
        raise InputError(f"{source} has no column “prompt”: its columns are {', '.join(table.columns)}.")
    prompts = tuple(_read_hub_prompts(table))[:limit]
    if not prompts:
        raise InputError(f"{source} holds no prompt that could be used: choose another data set or a file.")
    return prompts


def _read_hub_prompts(table: Table) -> Iterable[str]:
    wanted = [name for name in ("prompt", "challenging") if name in table.columns]
    for row in table.read(wanted):
        prompt = row.cells["prompt"]
        text = prompt.get("text") if isinstance(prompt, dict) else prompt
        if row.cells.get("challenging", True) and isinstance(text, str) and text.strip():
            yield text


def hash_texts(texts: Iterable[str]) -> str:
    """`sha256:…` over texts in their order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(json.dumps(text, ensure_ascii=False).encode() + b"\n")
    return f"sha256:{digest.hexdigest()}"


def read_prompts(source: str, bundled: Path) -> tuple[str, ...]:
    """The prompts of `source`, in its order; `bundled` is the file that “bundled” means.

    A text file holds one a line, without the spaces around it. A table or JSON holds them in a column of `COLUMNS`, as
    a text, kept as it is, as chat messages, or as a RealToxicityPrompts record, `{"prompt": {"text": …}}`. Blank lines
    are skipped.

    Raises:
        InputError: no such file, no text, nothing in it, or a line that holds no prompt.
    """
    shown = str(bundled) if source == BUNDLED else source
    path = find_file(shown)
    if find_ending(path) in READERS:
        prompts = tuple(_read_prompt_column(shown))
    else:
        prompts = tuple(text.strip() for text in Lines(path, shown) if text.strip())
    if not prompts:
        raise InputError(f"{shown} holds no prompt: write one a line.")
    return prompts


def _read_prompt_column(shown: str) -> Iterable[str]:
    table = open_table(shown)
    name = next((name for name in COLUMNS if name in table.columns), None)
    if name is None:
        found = ", ".join(f"“{column}”" for column in table.columns[:20]) or "none"
        raise InputError(f"{shown} has no column of prompts (found: {found}): call it prompt.")
    return (_read_prompt(row, name, f"{shown}, {table.unit} {row.number}") for row in table.read((name,)))


def _read_prompt(row: Row, name: str, place: str) -> str:
    if row.fault:
        raise InputError(f"{place}: {row.fault} ({row.detail}); {WANTED}.")
    if name not in row.cells:
        raise InputError(f"{place}: “{name}” is missing; {WANTED}.")
    value = row.cells[name]
    try:
        messages = read_messages(value)
        if messages is not None:
            value = "\n".join(each.text for each in messages)
        elif isinstance(value, dict):
            value = value.get("text")
        prompt = check_text(value, name)
    except BrokenChat:
        told = f"{place}: “{name}” begins as a list of messages and cannot be read as one; {WANTED}."
        raise InputError(told) from None
    except UnusableRow as fault:
        raise InputError(f"{place}: {fault}; {WANTED}.") from None
    if not prompt.strip():
        raise InputError(f"{place}: “{name}” is empty; {WANTED}, or leave the line out.")
    return prompt
