"""A plan in words and as a record: one of each, for every face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detox_engine.plans.edit import EditPlan
from detox_engine.plans.layers import format_layers
from detox_engine.plans.sources import BUNDLED, ModelSpec, PairSpec


def record_edit(plan: EditPlan) -> dict[str, Any]:
    """All of an edit, such that it can be repeated from JSON."""
    return {
        "layers": format_layers(plan.layers),
        "rank": plan.rank,
        "strength": plan.strength,
        "switched_off": sorted(map(list, plan.switched_off)),
        "edit_bias": plan.edit_bias,
    }


def describe_edit(plan: EditPlan) -> str:
    """An edit in a few words, to stand within a sentence."""
    layers = ("layer " if len(plan.layers) == 1 else "layers ") + format_layers(plan.layers)
    off = f", {len(plan.switched_off)} switched off" if plan.switched_off else ""
    bias = ", biases too" if plan.edit_bias else ""
    return f"{layers}, rank {plan.rank}, strength {plan.strength:g}{off}{bias}"


def name_model(spec: ModelSpec) -> str:
    """A model within a sentence: a folder by its last part."""
    if spec.name == BUNDLED:
        return "the bundled model"
    return Path(spec.name).name if Path(spec.name).expanduser().is_dir() else spec.name


def name_pairs(spec: PairSpec) -> str:
    """Pairs within a sentence: a file by its name."""
    if spec.source == BUNDLED:
        return "the bundled pairs"
    return Path(spec.source).name if Path(spec.source).expanduser().is_file() else spec.source
