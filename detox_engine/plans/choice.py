"""One of a folder of kinds, such as a scorer or a method, and its options.

A kind is a file of its folder that describes itself. A plan names one and holds its options, and knows no folder: which
kinds there are is looked up where the plan meets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

from detox_engine.errors import InputError
from detox_engine.plans.option import Form, split


@dataclass(frozen=True)
class Choice:
    """A kind by its name, with options of its own."""

    name: str
    options: Any = None
    """As the kind's class of options has them; None stands for its defaults, and these become None."""

    def __post_init__(self) -> None:
        # So that choices of the same are equal, whoever made them.
        if self.options is not None and self.options == type(self.options)():
            object.__setattr__(self, "options", None)

    def among(self, options: Mapping[str, Any]) -> Choice:
        """The same with its options out of those of every kind, by name."""
        return Choice(self.name, options.get(self.name))


CHOICES = Form(
    lambda choices: ",".join(choice.name for choice in choices), lambda text: tuple(map(Choice, split(text)))
)
"""The names alone; options are written beside them."""


def choice_of(given: Choice | str) -> Choice:
    return given if isinstance(given, Choice) else Choice(given)


@dataclass(frozen=True)
class NoOptions:
    """The options of a kind that has none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Kind:
    """What a file of a folder of kinds says of itself."""

    name: str
    title: str
    sentence: str
    """What it does, as an entry in a list: no capital in front, no full stop behind."""
    options: type = NoOptions
    """A frozen dataclass whose fields are options with a default: they become flags, widgets and parts of a link."""
    place: int = 1000
    """Where it stands in lists of its folder."""

    def options_of(self, choice: Choice) -> Any:
        """The options that a choice of this kind stands for."""
        return self.options() if choice.options is None else choice.options


AnyKind = TypeVar("AnyKind", bound=Kind)


def collect(folder: str, constant: str) -> dict[str, Any]:
    """Every kind of a package by its name, as lists of them go: a module there that has the `constant` is one.

    The modules are light: what is heavy is imported where it is used.
    """
    found = (import_module(f"{folder}.{entry.name}") for entry in iter_modules(import_module(folder).__path__))
    kinds = [getattr(module, constant) for module in found if hasattr(module, constant)]
    return {kind.name: kind for kind in sorted(kinds, key=lambda kind: (kind.place, kind.name))}


def find(kinds: Mapping[str, AnyKind], choice: Choice, what: str) -> AnyKind:
    """The kind that was chosen.

    Raises:
        InputError: there is none of its name; `what` it is to be.
    """
    if choice.name not in kinds:
        raise InputError(f"There is no {what} “{choice.name}”: choose among {', '.join(kinds)}.")
    return kinds[choice.name]


def usual_options(kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """The options of each kind, by its name, as they are where nobody asks for others."""
    return {name: kind.options() for name, kind in kinds.items()}


def list_in_words(kinds: Mapping[str, Kind]) -> str:
    """What a flag says after its sentence of the kinds that it can name."""
    return f" {'; '.join(f'{name}: {kind.sentence}' for name, kind in kinds.items())}."
