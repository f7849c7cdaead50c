"""An option of a plan: its default and the one sentence that every face shows."""

from dataclasses import field, fields
from typing import Any


def option(default: Any, sentence: str) -> Any:
    return field(default=default, metadata={"sentence": sentence})


def sentence(plan: type, name: str) -> str:
    """The one sentence that describes option `name` of a spec or plan."""
    return next(entry.metadata["sentence"] for entry in fields(plan) if entry.name == name)
