"""Layers and directions as people write them."""

import re
from collections.abc import Iterable

from detox_engine.errors import InputError
from detox_engine.plans.option import Form

MOST_LAYERS = 1000
"""No model has more; layers are often read before their model is known."""


def parse_layers(text: str, count: int) -> tuple[int, ...]:
    """Layers written `4-7`, `3`, `all` or `2,5-7`, both ends included, for a model of `count` layers.

    Raises:
        InputError: the text is no list of layers, or names a layer outside `0..count - 1`.
    """
    if text.strip().lower() == "all":
        return tuple(range(count))
    layers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,16})\s*(?:[-–]\s*(\d{1,16})\s*)?", part)
        if match is None:
            raise InputError(f"“{text}” is no list of layers: write 4-7, 3, all or 2,5-7.")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise InputError(f"The layer range {first}-{last} runs backwards: write {last}-{first}.")
        check_layers((last,), count)
        layers.update(range(first, last + 1))
    return tuple(sorted(layers))


def check_layers(layers: Iterable[int], count: int) -> None:
    """Raise an InputError that names the first of `layers` outside a model of `count` layers."""
    for layer in layers:
        if not 0 <= layer < count:
            raise InputError(f"Layer {layer} is outside the model: its layers are 0-{count - 1}.")


def parse_directions(text: str) -> tuple[tuple[int, int], ...]:
    """Directions written `5.0,6.1` as (layer, direction), both from 0, in the order written.

    Raises:
        InputError: the text is no list of directions.
    """
    places = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})\.(\d{1,6})\s*", part)
        if match is None:
            raise InputError(f"“{text}” is no list of directions: write layer.direction, both from 0, such as 5.0,6.1.")
        places.append((int(match[1]), int(match[2])))
    return tuple(places)


def format_directions(places: Iterable[tuple[int, int]]) -> str:
    """The text that `parse_directions` reads back as these directions."""
    return ",".join(f"{layer}.{direction}" for layer, direction in places)


def format_layers(layers: Iterable[int]) -> str:
    """The shortest text that `parse_layers` reads back as these layers."""
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in find_runs(layers))


def find_runs(layers: Iterable[int]) -> list[list[int]]:
    """Consecutive layers by the first and the last of each run."""
    runs: list[list[int]] = []
    for layer in sorted(set(layers)):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return runs


EVERY_LAYER = tuple(range(MOST_LAYERS))
"""What “all” stands for until the model is known."""
LAYERS = Form(
    lambda layers: "all" if layers == EVERY_LAYER else format_layers(layers),
    lambda text: parse_layers(text, MOST_LAYERS),
)
SET_OF_DIRECTIONS = Form(
    lambda places: format_directions(sorted(places)),
    lambda text: frozenset(parse_directions(text)) if text.strip() else frozenset(),
)
