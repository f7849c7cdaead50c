"""Prompts to continue, from a text file or JSONL."""

from pathlib import Path

from detox_engine.errors import InputError
from detox_engine.layouts import UnusableRow, check_text
from detox_engine.rows import CSV_ENDINGS, JSON_ENDINGS, PARQUET_ENDINGS, Lines, Row, find_file, read_json_lines
from detox_engine.specs import BUNDLED


def read_prompts(source: str, bundled: Path) -> tuple[str, ...]:
    """The prompts of `source`, in its order; `bundled` is the file that “bundled” means.

    A text file holds one a line, without the spaces around it. JSONL holds `prompt` as a text, kept as it is,
    or a RealToxicityPrompts record, `{"prompt": {"text": …}}`. Blank lines are skipped.

    Raises:
        InputError: no such file, not UTF-8, nothing in it, or a line that holds no prompt.
    """
    shown = str(bundled) if source == BUNDLED else source
    path = find_file(shown)
    ending = path.suffix.lower()
    if ending in (*CSV_ENDINGS, *PARQUET_ENDINGS):
        raise InputError(f"{shown} is a table: give prompts as a text file, one a line, or as .jsonl.")
    lines = Lines(path, shown)
    if ending in JSON_ENDINGS:
        prompts = tuple(_read_record(row, shown) for row in read_json_lines(lines))
    else:
        prompts = tuple(text.strip() for text in lines if text.strip())
    if not prompts:
        raise InputError(f"{shown} holds no prompt: write one a line.")
    return prompts


def _read_record(row: Row, shown: str) -> str:
    place = f"{shown}, line {row.number}"
    wanted = 'write {"prompt": "…"} on each line'
    if row.fault:
        raise InputError(f"{place}: {row.fault} ({row.detail}); {wanted}.")
    if "prompt" not in row.cells:
        raise InputError(f"{place}: “prompt” is missing; {wanted}.")
    value = row.cells["prompt"]
    if isinstance(value, dict):
        value = value.get("text")
    try:
        prompt = check_text(value, "prompt")
    except UnusableRow as fault:
        raise InputError(f"{place}: {fault}; {wanted}.") from None
    if not prompt.strip():
        raise InputError(f"{place}: “prompt” is empty; {wanted}, or leave the line out.")
    return prompt
