"""Neutral text and prompts for an evaluation: bundled files, a person's own, or a data set on the Hub."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from detox_engine.errors import InputError
from detox_engine.likelihood import Span, cut_windows
from detox_engine.loading import LoadedModel
from detox_engine.pairs import DEMO, EVERYDAY
from detox_engine.plans import TextSpec
from detox_engine.prompts import read_prompts
from detox_engine.rows import (
    CSV_ENDINGS,
    JSON_ENDINGS,
    PARQUET_ENDINGS,
    Lines,
    Table,
    find_file,
    names_hub,
    open_table,
)
from detox_engine.specs import BUNDLED, PairSpec

HARMLESS = EVERYDAY / "harmless_rude_words.txt"
GROUPS = EVERYDAY / "groups_in_passing.txt"


@dataclass(frozen=True)
class Text:
    """Text to read: separate lines, or one running text."""

    lines: tuple[str, ...]
    running: bool
    joint: str = "\n"
    """What stands between the lines of a running text."""


def bundled_neutral(model_name: str) -> Path:
    """Neutral text that the model was made for: its own for the bundled model, everyday sentences for any other."""
    return DEMO / "civil_scenes.txt" if model_name == BUNDLED else EVERYDAY / "neutral_sentences.txt"


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
    table = hub or Path(shown).suffix.lower() in (*JSON_ENDINGS, *CSV_ENDINGS, *PARQUET_ENDINGS)
    lines = tuple(_read_column(spec) if table else (line.rstrip("\r\n") for line in Lines(find_file(shown), shown)))
    lines = lines[: spec.limit] if running else tuple(line.strip() for line in lines if line.strip())[: spec.limit]
    if not any(line.strip() for line in lines):
        raise InputError(f"{shown} holds no text: write one a line.")
    return Text(lines, running, "\n\n" if hub else "\n")


def _read_column(spec: TextSpec) -> Iterable[str]:
    """The cells of one column of a table."""
    table = open_table(PairSpec(spec.source, subset=spec.subset, split=spec.split))
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


def cut_spans(loaded: LoadedModel, text: Text, window: int, stride: int) -> tuple[Span, ...]:
    """What the model reads at once: each line by itself, or windows over the running text.

    The first token of a line, or of the running text, is only context: nothing comes before it.

    Raises:
        InputError: no token is left to score.
    """
    window = min(window, loaded.context or window)
    stride = stride if stride < window else max(1, window // 2)
    parts = [text.joint.join(text.lines)] if text.running else text.lines
    spans = [
        span
        for part in parts
        for span in cut_windows(loaded.tokenizer(part, verbose=False)["input_ids"], window, stride)
    ]
    if not spans:
        raise InputError("The neutral text has no line of two tokens or more: there is nothing to predict in it.")
    return tuple(spans)


def read_any_prompts(source: str, bundled: Path, limit: int | None) -> tuple[str, ...]:
    """Prompts of a file or of a Hub data set, the first `limit` of them.

    Of a data set with a column `challenging` (RealToxicityPrompts), only the challenging prompts are taken.

    Raises:
        InputError: the source cannot be read, or holds no prompt.
    """
    if not names_hub(source):
        return read_prompts(source, bundled)[:limit]
    table = open_table(PairSpec(source))
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
