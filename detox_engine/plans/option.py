"""An option of a plan, declared once, for the command line, links and widgets alike.

A plan is a frozen dataclass whose fields are options. A plan may stand in another; its options then are the outer
plan's too, and are named by their path, such as `sampling.top_p`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from detox_engine.errors import InputError

Plan = TypeVar("Plan")
LARGEST = 2**53 - 1
"""The largest whole number that a browser holds."""
ALL = "all"
"""How a limit that is lifted is written."""


@dataclass(frozen=True)
class Form:
    """How a value that is no plain number, word or switch is written as text, and read back.

    `read` raises InputError where the text stands for no such value.
    """

    write: Callable[[Any], str]
    read: Callable[[str], Any]


@dataclass(frozen=True)
class Option:
    """What every face knows of an option."""

    sentence: str
    flag: str | None = None
    """Its flag on the command line; of a switch both, as `--greedy/--no-greedy`."""
    link: str | None = None
    """Its parameter in a link."""
    low: float | None = None
    high: float | None = None
    """The range of its widget and its link; the plan's own checks hold for every face."""
    step: float | None = None
    words: Mapping[Any, str] | None = None
    """The titles of its choices."""
    offers: tuple[Any, ...] = ()
    """Values that a widget proposes where others are possible too."""
    form: Form | None = None
    prefix: str = ""
    """Of a plan in a plan: what its flags and links begin with there."""
    usual: str | None = None
    """What stands in for it where nothing is said, if the default alone does not tell."""
    title: str = ""
    """What its widget is called, where neither a page nor its own name says it."""
    empty: str | None = None
    """What its widget shows where nothing is written."""
    may_be_file: bool = False
    """Whether it can name a file of this machine: a link neither tells where that lies nor has one opened."""


def option(default: Any, sentence: str, flag: str | None = None, **settings: Any) -> Any:
    """A field of a plan; `settings` are those of `Option`."""
    return field(default=default, metadata={"option": Option(sentence, flag, **settings)})


@cache
def option_of(plan: type, name: str) -> Option | None:
    """What is known of option `name` of a spec or plan; None of a plan that stands in it without a word."""
    return next(entry.metadata.get("option") for entry in fields(plan) if entry.name == name)


def sentence(plan: type, name: str) -> str:
    """The one sentence that describes option `name` of a spec or plan."""
    return option_of(plan, name).sentence


@dataclass(frozen=True)
class Leaf:
    """An option of a plan, or of a plan in it, with its value there."""

    path: str
    value: Any
    kind: Any
    """The type of the value; of `int | None` only `int`."""
    optional: bool
    """Whether the value can be None."""
    option: Option
    flag: str | None
    link: str | None
    """Both with the prefixes of the plans around them."""

    @property
    def title(self) -> str:
        """What its widget is called."""
        return self.option.title or self.path.rpartition(".")[2].replace("_", " ").capitalize()

    @property
    def choices(self) -> tuple[Any, ...]:
        """All values of an option that is one of, or some of, a few."""
        kind = get_args(self.kind)[0] if get_origin(self.kind) is tuple else self.kind
        return get_args(kind) if get_origin(kind) is Literal else ()

    @property
    def form(self) -> Form | None:
        """How a value that is not plain is written and read."""
        if self.option.form is None and get_origin(self.kind) is tuple:
            return some_of(self.choices) if self.choices else NAMES
        return self.option.form

    def write(self, value: Any) -> str:
        """The text that `read` reads back as `value`."""
        if value is None:
            return ALL if self.kind in (int, float) else ""
        if self.form is not None:
            return self.form.write(value)
        return str(int(value)) if self.kind is bool else shortest(value)

    def read(self, text: str) -> Any:
        """The value that a text stands for, within the option's range.

        Raises:
            InputError: it stands for none.
        """
        if self.optional and text == self.write(None):
            return None
        if self.form is not None:
            return self.form.read(text)
        if self.kind is bool:
            return one_of(text, ("0", "1")) == "1"
        if self.kind is int:
            return read_whole(text, self.option.low, self.option.high)
        if self.kind is float:
            return read_number(text, self.option.low, self.option.high)
        return one_of(text, self.choices) if self.choices else text


def leaves(plan: Any, prefix: str = "", path: str = "") -> Iterator[Leaf]:
    """The options of a plan and of the plans in it, in their order; `prefix` comes before their flags and links."""
    for name, (kind, optional) in kinds(type(plan)).items():
        entry, value = option_of(type(plan), name), getattr(plan, name)
        inner = "_".join(part for part in (prefix, entry.prefix if entry else "") if part)
        if get_origin(kind) is Mapping and entry is not None:
            for key, part in value.items():
                yield from leaves(part, inner, f"{path}{name}.{key}.")
        elif is_dataclass(kind) and (entry is None or entry.form is None):
            yield from leaves(kind() if value is None else value, inner, f"{path}{name}.")
        elif entry is not None:
            flag = entry.flag and prefixed(entry.flag, prefix)
            link = entry.link and (f"{prefix}_{entry.link}" if prefix else entry.link)
            yield Leaf(path + name, value, kind, optional, entry, flag, link)


def fill(plan: Plan, values: Mapping[str, Any]) -> Plan:
    """`plan` with other values at these paths; it is checked when all of them are in place.

    Raises:
        InputError: the plan cannot be so.
    """
    own: dict[str, Any] = {}
    inside: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        name, _, rest = path.partition(".")
        if rest:
            inside.setdefault(name, {})[rest] = value
        else:
            own[name] = value
    for name, found in inside.items():
        part = getattr(plan, name)
        own[name] = fill(kinds(type(plan))[name][0]() if part is None else part, found)
    return replace(plan, **own)


@cache
def kinds(plan: type) -> dict[str, tuple[Any, bool]]:
    """The type of each field of a plan, and whether it can be None as well."""
    hints = get_type_hints(plan)
    found = {}
    for entry in fields(plan):
        kind = hints[entry.name]
        several = [part for part in get_args(kind) if part is not NoneType]
        optional = NoneType in get_args(kind)
        found[entry.name] = (several[0] if optional else kind, optional)
    return found


@cache
def prefixed(flag: str, prefix: str) -> str:
    """`--a/--no-a` with a prefix: `--prefix-a/--no-prefix-a`."""
    begin = f"{prefix.replace('_', '-')}-" if prefix else ""
    return "/".join(re.sub("^--(no-)?", rf"--\g<1>{begin}", part) for part in flag.split("/"))


def shortest(value: Any) -> str:
    """A number or word as short as it can be read back: 1.0 is `1`."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def read_whole(text: str, low: float | None, high: float | None) -> int:
    least, most = (-LARGEST if low is None else int(low)), (LARGEST if high is None else int(high))
    if not (re.fullmatch(r"-?\d{1,16}", text) and least <= int(text) <= most):
        above = "" if high is None else f" and at most {most:,}"
        raise InputError(f"it must be a whole number, {least:,} or more{above}")
    return int(text)


def read_number(text: str, low: float | None, high: float | None) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (-math.inf if low is None else low) <= value <= (math.inf if high is None else high):
        raise InputError(f"it must be a finite number from {low:g} to {high:g}")
    return value


def one_of(text: str, values: Iterable[str]) -> str:
    if text not in values:
        raise InputError(f"it can be {', '.join(values)}")
    return text


def split(text: str) -> tuple[str, ...]:
    """The parts of a list with commas; empty ones are none."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def some_of(values: tuple[str, ...]) -> Form:
    """Some of a few words, with commas."""
    return Form(",".join, lambda text: tuple(one_of(part, values) for part in split(text)))


def numbers(kind: type, what: str) -> Form:
    """A list of numbers with commas, such as `1,2,4`; `what` they are called."""

    def read(text: str) -> tuple[Any, ...]:
        try:
            return tuple(kind(part) for part in split(text))
        except ValueError:
            raise InputError(f"“{text}” is no list of {what}: write numbers with commas, such as 1,2.") from None

    return Form(lambda values: ",".join(map(shortest, values)), read)


NAMES = Form(",".join, split)
"""A list of names with commas."""
