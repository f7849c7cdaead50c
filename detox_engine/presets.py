"""Settings that are known to work: published ones, read from the authors' configuration files, and the rest's rule."""

import json
from dataclasses import dataclass
from statistics import median_low

from detox_engine.errors import InputError
from detox_engine.loading import BUNDLED_MODEL
from detox_engine.specs import BUNDLED, parse_layers


@dataclass(frozen=True)
class Preset:
    """A rank and layers to begin with."""

    layers: tuple[int, ...]
    rank: int


PUBLISHED = {
    "gpt2-medium": Preset(tuple(range(10, 24)), 2),
    "gpt-j-6b": Preset(tuple(range(10, 27)), 10),
    "mistral-7b-v0.1": Preset(tuple(range(15, 32)), 10),
    "mistral-7b-sft-beta": Preset(tuple(range(15, 32)), 10),
    "opt-6.7b": Preset(tuple(range(10, 32)), 10),
}
"""The paper's rank and layers, by the last part of the model's Hub id."""

LARGEST_PUBLISHED_RANK = 10
"""Many directions can be real; the paper never removes more than these, and each one removed costs fluency."""

FIRST_LAYER_SHARE = 0.4
"""The published edits begin between a third and a half of the way up, and go to the last layer."""


def suggest(model_name: str, layers: int, suggested_ranks: tuple[int, ...]) -> Preset:
    """Where to begin with a model of `layers` layers, given the rank that stands out in each of them.

    The bundled model has the setting its card was measured with, published models have the paper's; for any
    other, the upper part of the layers and the middle of their suggested ranks, 1 to 10.
    """
    if model_name == BUNDLED:
        return bundled_preset(layers)
    published = PUBLISHED.get(model_name.rstrip("/").rsplit("/", 1)[-1].lower())
    if published is not None and published.layers[-1] < layers:
        return published
    chosen = tuple(range(min(round(FIRST_LAYER_SHARE * layers), layers - 1), layers))
    middle = median_low(suggested_ranks[layer] for layer in chosen)
    return Preset(chosen, min(max(1, middle), LARGEST_PUBLISHED_RANK))


def bundled_preset(layers: int) -> Preset:
    """The setting that the bundled model's figures were measured with."""
    file = BUNDLED_MODEL.parent / "defaults.json"
    try:
        defaults = json.loads(file.read_text(encoding="utf-8"))
        return Preset(parse_layers(defaults["layers"], layers), int(defaults["rank"]))
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} is missing or broken; restore it from the repository.") from None
