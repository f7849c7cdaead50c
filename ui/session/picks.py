"""What a page keeps in the view: its picks, each declared once with its default, its name in a link and its bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from detox_engine.study.study import Study

Place = tuple[int, int]
"""A direction: its layer, and its number in the layer from 0."""


class Picks:
    """A page's own part of the view: a frozen dataclass whose fields are made with `pick` and `part`."""

    def within(self, study: Study) -> Self:
        """These picks within what `study` has."""
        return self

    def of_another_study(self) -> Self:
        """These picks for a study that replaces theirs: what belonged to the old one is let go."""
        return self


def pick(
    default: Any,
    link: str,
    *,
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    words: Mapping[str, str] | None = None,
    written: bool = False,
    origin: int = 0,
) -> Any:
    """A field of picks.

    Args:
        default: on a first visit.
        link: its name in a link.
        low: the least number that it can be.
        high: the greatest.
        step: by which a widget changes it.
        words: its values, and what a page calls them.
        written: whether it holds a person's own words, which may be rude or long.
        origin: what people call the number that the view counts as 0.
    """
    metadata = {"link": link, "low": low, "high": high, "step": step, "words": words}
    return field(default=default, metadata=metadata | {"written": written, "origin": origin})


def part(default: Any, prefix: str = "") -> Any:
    """A field that is a plan, or picks, of its own; `prefix` stands before the names that its fields have in a link."""
    return field(default=default, metadata={"prefix": prefix})
