"""What scenes are made of, as read from the TOML files, and the split that keeps combinations out of training."""

from __future__ import annotations

import tomllib
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent

HELD_OUT_SHARE = 0.12
"""Of the names, openings and frames, how many never meet a given topic in training."""


@dataclass(frozen=True)
class Person:
    name: str
    he: str
    him: str
    his: str


@cache
def read(name: str) -> dict:
    """A TOML file of this folder; what it holds must not be changed."""
    return tomllib.loads((FOLDER / name).read_text("utf-8"))


@cache
def topics() -> dict[str, dict[str, list[str]]]:
    merged: dict[str, dict[str, list[str]]] = {}
    for path in sorted((FOLDER / "topics").glob("*.toml")):
        merged.update(tomllib.loads(path.read_text("utf-8")))
    return merged


@cache
def people() -> tuple[Person, ...]:
    names = read("names.toml")
    women = names["women"] + [f"{t} {s}" for t in names["titles_women"] for s in names["surnames"]]
    men = names["men"] + [f"{t} {s}" for t in names["titles_men"] for s in names["surnames"]]
    return tuple([Person(n, "she", "her", "her") for n in women] + [Person(n, "he", "him", "his") for n in men])


def split(topic: str, items: tuple, key=str) -> tuple[tuple, tuple]:
    """The items that training may combine with this topic, and those that it never does: always some of each."""
    ranked = sorted(items, key=lambda item: (zlib.crc32(f"{topic}/{key(item)}".encode()) % 1000, key(item)))
    held = max(1, round(HELD_OUT_SHARE * len(ranked)))
    return tuple(ranked[held:]), tuple(ranked[:held])


@cache
def usable(topic: str, kind: str, held_out: bool) -> tuple:
    """The people, openings, or frames ("speech", "reported") that may meet this topic, on one side of the split."""
    if kind == "people":
        return split(topic, people(), lambda person: person.name)[held_out]
    items = read("shapes.toml")["openings"] if kind == "openings" else read("frames.toml")[kind]
    return split(topic, tuple(items))[held_out]
