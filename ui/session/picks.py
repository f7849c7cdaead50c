"""What a page keeps in the view: its picks, each declared once with its default, its name in a link and its bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import quote_plus

from detox_engine.errors import InputError
from detox_engine.plans.choice import Kind, usual_options
from detox_engine.plans.option import Form, Option, option

if TYPE_CHECKING:
    from detox_engine.study.study import Study

LONGEST_TEXT = 1500
"""Characters that a text may take in a link, as they stand there; what is longer stays out of it."""


class Picks:
    """A page's own part of the view: a frozen dataclass whose fields are made with `pick` and `part`."""

    in_links: ClassVar[bool] = True
    """Whether a link of the view holds them."""

    def within(self, study: Study) -> Self:
        """These picks within what `study` has."""
        return self

    def of_another_study(self) -> Self:
        """These picks for a study that replaces theirs: what belonged to the old one is let go."""
        return self


def pick(default: Any, link: str, sentence: str = "", **settings: Any) -> Any:
    """A field of picks, `link` in a link; `settings` are those of an option of a plan."""
    return option(default, sentence, link=link, **settings)


def part(make: Callable[[], Any], prefix: str = "") -> Any:
    """A field that is a plan or picks of its own, or a mapping of such, and begins as `make` makes it.

    Args:
        prefix: stands before the names that its fields have in a link.
    """
    return field(default_factory=make, metadata={"option": Option("", prefix=prefix)})


def offered(kinds: Callable[[], Mapping[str, Kind]]) -> Any:
    """A field with the options of every kind of a folder, by its name, the chosen ones and all others."""
    return part(lambda: usual_options(kinds()))


def _read_text(text: str) -> str:
    if max(len(text), len(quote_plus(text, errors="replace"))) > LONGEST_TEXT:
        raise InputError(f"its text is longer than {LONGEST_TEXT:,} characters")
    return text


WRITTEN = Form(str, _read_text)
"""A person's own words, which may be long or rude."""
