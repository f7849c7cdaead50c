"""Chat messages in a cell, as data sets write them: lists, a JSON string or a Python repr of one, parts with types."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ROLES = {
    **dict.fromkeys(("assistant", "model", "gpt", "bot", "chatgpt", "ai"), "assistant"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
}
"""What data sets call who speaks, in small letters -> what is meant."""
LONGEST = 100_000
"""Characters of a text that is looked at as messages."""


class BrokenChat(ValueError):
    """A text that begins as a list of messages does and is none: its brackets would be taken for words."""


@dataclass(frozen=True)
class Message:
    """Who says what; other roles than `ROLES` keep their names."""

    role: str
    text: str


def read_messages(value: Any) -> tuple[Message, ...] | None:
    """The messages of a cell; None where it is something else.

    A turn without a text, such as the call of a tool, is left out.

    Raises:
        BrokenChat: it is a text that begins as a list of messages does, and cannot be read as one.
    """
    if isinstance(value, str):
        value = _parse(value)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return None
    found = [_read_message(entry) for entry in value]
    if any(message is None for message in found):
        return None
    return tuple(message for message in found if message.text)


def _parse(text: str) -> Any:
    """A list of messages that was written into a text; the text itself where it is none."""
    bare = text.strip()
    if not (bare.startswith(("[{", "{")) and any(f"{quote}{key}{quote}" in bare for quote in "\"'" for key in KEYS)):
        return None
    if len(bare) <= LONGEST:
        for parse in (json.loads, ast.literal_eval):
            try:
                return parse(bare)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    raise BrokenChat


KEYS = ("content", "value", "role", "from")


def _read_message(entry: Any) -> Message | None:
    """A message, with an empty text where it has none; None where it is no message."""
    if not isinstance(entry, Mapping):
        return None
    role = entry.get("role", entry.get("from"))
    key = next((key for key in ("content", "value") if key in entry), None)
    if not isinstance(role, str) or key is None:
        return None
    text = _read_content(entry[key])
    return None if text is None else Message(ROLES.get(role.strip().lower(), role), text)


def _read_content(content: Any) -> str | None:
    """The text of a message, whose parts may have types; empty where it is null; None where it is something else."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and all(isinstance(part, Mapping) for part in content):
        texts = [part.get("text") for part in content if part.get("type", "text") == "text"]
        return "".join(texts) if all(isinstance(text, str) for text in texts) else None
    return None
