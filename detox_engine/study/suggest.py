"""Settings that are known to work: published ones, read from the authors' configuration files, and the rest's rule."""

import json
from dataclasses import dataclass
from statistics import median_low

from detox_engine.data.bundled import BUNDLED_MODEL
from detox_engine.errors import InputError
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.layers import parse_layers
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import BUNDLED, TextSpec


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

PAPER_PAIRS = 500
"""How many pairs the published edits are fitted on."""

PAPER_EVALUATION = EvaluationPlan(
    scorers=("classifier", "perplexity", "capability"),
    prompts="allenai/real-toxicity-prompts",
    sampling=SamplingPlan(max_new_tokens=10, greedy=True),
    neutral=TextSpec("Salesforce/wikitext", "wikitext-2-raw-v1", "test", layout="text", window=2048, stride=512),
    control="plain",
)
"""The published evaluation, whose classifier and tasks are those that these scorers have by themselves;
docs/reproduction.md lists how it differs from the authors' own code."""

FIRST_LAYER_SHARE = 0.4
"""The published edits begin between a third and a half of the way up, and go to the last layer."""


def suggest(model_name: str, layers: int, dominant_ranks: tuple[int, ...]) -> Preset:
    """Where to begin with a model of `layers` layers, given how many directions dominate each of them.

    The bundled model has the setting its card was measured with, published models have the paper's; for any
    other, the upper part of the layers and the middle of what dominates them, 1 to 10.
    """
    if model_name == BUNDLED:
        return bundled_preset(layers)
    published = PUBLISHED.get(_last_part(model_name))
    if published is not None and published.layers[-1] < layers:
        return published
    chosen = tuple(range(min(round(FIRST_LAYER_SHARE * layers), layers - 1), layers))
    middle = median_low(dominant_ranks[layer] for layer in chosen)
    return Preset(chosen, min(max(1, middle), LARGEST_PUBLISHED_RANK))


def find_published(model_name: str) -> Preset:
    """The paper's layers and rank for a model, by the last part of its Hub id or folder.

    Raises:
        InputError: the paper has no edit of this model.
    """
    published = PUBLISHED.get(_last_part(model_name))
    if published is None:
        raise InputError(
            f"The paper has no edit of “{model_name}”, only of {', '.join(PUBLISHED)}: leave the preset out, or name "
            "one of these models."
        )
    return published


def _last_part(model_name: str) -> str:
    return model_name.rstrip("/").rsplit("/", 1)[-1].lower()


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
