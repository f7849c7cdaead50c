"""What a person asks for: frozen, hashable inputs, each option declared once with its sentence.

The command line and the pages show the same sentence for an option: `sentence(FitPlan, "keep")`.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from detox_engine.errors import InputError

BUNDLED = "bundled"

Pooling = Literal["mean", "continuation", "last"]

Progress = Callable[[str, int, int], None]
"""Called as `progress(stage, done, total)`, from the thread that works; raises `Cancelled` to stop the work."""


def ignore_progress(stage: str, done: int, total: int) -> None:
    """The progress of a caller that does not watch."""


def option(default: Any, sentence: str) -> Any:
    return field(default=default, metadata={"sentence": sentence})


def sentence(plan: type, name: str) -> str:
    """The one sentence that describes option `name` of a spec or plan."""
    return next(entry.metadata["sentence"] for entry in fields(plan) if entry.name == name)


@dataclass(frozen=True)
class ModelSpec:
    """Which causal language model, and where it runs."""

    name: str = option(BUNDLED, "The bundled model, a Hugging Face Hub id, or a folder that holds a model.")
    revision: str | None = option(None, "Branch, tag or commit of the model on the Hub.")
    device: str = option("auto", "Where the model runs: auto, cpu, cuda, cuda:1, mps.")
    dtype: str = option("auto", "Number format of the weights: auto, float32, bfloat16, float16.")


@dataclass(frozen=True)
class PairSpec:
    """Which pairs of toxic and civil texts, and how many of them."""

    source: str = option(BUNDLED, "The bundled pairs, a JSONL, CSV or Parquet file, or a Hub data set.")
    toxic: str | None = option(None, "Column that holds the toxic text, where it is not recognised by itself.")
    civil: str | None = option(None, "Column that holds the civil text, where it is not recognised by itself.")
    prompt: str | None = option(None, "Column that holds the prompt that both texts continue, if there is one.")
    subset: str | None = option(None, "Configuration of a Hub data set.")
    split: str = option("train", "Split of a Hub data set.")
    revision: str | None = option(None, "Branch, tag or commit of a Hub data set.")
    limit: int | None = option(None, "Draw at most this many pairs, as pairs, at random.")
    seed: int = option(0, "Seed of that draw.")

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 2:
            raise InputError(f"A fit needs at least two pairs; the limit is {self.limit}: raise it to 2 or more.")


@dataclass(frozen=True)
class FitPlan:
    """How embeddings are taken and how many directions of each layer are kept."""

    pairs: PairSpec = option(PairSpec(), "The pairs to fit on.")
    max_length: int = option(128, "Longest text in tokens; what is longer is cut at its end.")
    pooling: Pooling = option(
        "mean", "What stands for a text: the mean over its tokens, over its continuation's tokens, or its last token."
    )
    keep: int = option(32, "Directions kept for each layer, the largest rank an edit can have.")
    keep_embeddings: bool = option(True, "Keep the embeddings with the study, for the map and the probes.")

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise InputError(f"The longest text must have 1 token or more, not {self.max_length}.")
        if self.keep < 1:
            raise InputError(f"The number of kept directions must be 1 or more, not {self.keep}.")
        if self.pooling not in ("mean", "continuation", "last"):
            raise InputError(f"Pooling is mean, continuation or last, not “{self.pooling}”.")


@dataclass(frozen=True)
class EditPlan:
    """Which directions of which layers are removed, and how much of them."""

    layers: tuple[int, ...] = option((), "Layers to edit, such as 4-7, 3, all or 2,5-7; both ends are included.")
    rank: int = option(1, "Directions to remove in each layer, strongest first.")
    strength: float = option(1.0, "How much of each direction is removed: 0 nothing, 1 all, as in the paper.")
    switched_off: frozenset[tuple[int, int]] = option(
        frozenset(), "Directions left in place although the rank covers them, as layer.direction from 0: 5.0,6.1."
    )
    edit_bias: bool = option(False, "Also project the bias of the value layers; the paper leaves it alone.")

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"The rank must be 1 or more, not {self.rank}.")
        if not math.isfinite(self.strength):
            raise InputError(f"The strength must be a finite number, not {self.strength}; 1 is the paper's edit.")


@dataclass(frozen=True)
class SamplingPlan:
    """How continuations are written; before and after share all of it, the luck included."""

    max_new_tokens: int = option(20, "Longest continuation in tokens.")
    samples: int = option(1, "Continuations written for each prompt.")
    greedy: bool = option(False, "Always take the most probable token instead of drawing one.")
    temperature: float = option(1.0, "Below 1 the draw favours probable tokens, above 1 it evens them out.")
    top_p: float = option(1.0, "Draw only from the most probable tokens that together have this probability.")
    seed: int = option(0, "Seed of the draws; the same seed gives before and after the same luck.")

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.samples < 1:
            raise InputError("A continuation needs at least 1 new token and 1 sample for each prompt.")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise InputError(f"The temperature must be a finite number above 0, not {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise InputError(f"Top-p must lie above 0 and at most at 1, not {self.top_p}.")


def parse_layers(text: str, count: int) -> tuple[int, ...]:
    """Layers written `4-7`, `3`, `all` or `2,5-7`, both ends included, for a model of `count` layers.

    Raises:
        InputError: the text is no list of layers, or names a layer outside `0..count - 1`.
    """
    if text.strip().lower() == "all":
        return tuple(range(count))
    layers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:[-–]\s*(\d+)\s*)?", part)
        if match is None:
            raise InputError(f"“{text}” is no list of layers: write 4-7, 3, all or 2,5-7.")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise InputError(f"The layer range {first}-{last} runs backwards: write {last}-{first}.")
        if last >= count:
            raise InputError(f"Layer {last} is outside the model: its layers are 0-{count - 1}.")
        layers.update(range(first, last + 1))
    return tuple(sorted(layers))


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
    runs: list[list[int]] = []
    for layer in sorted(set(layers)):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
