"""Which directions an edit removes; the plan in words and as a record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from detox_engine.errors import InputError
from detox_engine.plans.fit import PAPER
from detox_engine.plans.layers import LAYERS, SET_OF_DIRECTIONS, format_layers, parse_layers
from detox_engine.plans.option import option, sentence

Site = Literal["mlp", "attention"]
"""What writes into the residual stream of a block."""
Sites = Literal["mlp", "attention", "both"]
SITES = {"mlp": "MLP", "attention": "Attention", "both": "MLP and attention"}
"""Where an edit acts, in words."""
ExportForm = Literal["adapter", "model", "gguf-adapter"]
EXPORT_FORMS = {
    "adapter": "a PEFT LoRA adapter of kilobytes to a few megabytes, which is put on the base model when it is loaded",
    "model": "a whole checkpoint, the base's own files with nothing changed but the edited tensors",
    "gguf-adapter": "the same adapter for llama.cpp, one GGUF file that is put on a GGUF of the base model",
}
"""What an edit is taken away as, in words."""
SUGGESTION = "the study's suggestion"
NO_EDIT = "no edit; a study's suggestion where only one of layers and rank is given"


STRONGEST = 1_000_000
"""No edit is of use that is far stronger than the paper's; beyond this its numbers would overflow."""


@dataclass(frozen=True)
class EditPlan:
    """Which directions of which layers are removed, and how much of them."""

    layers: tuple[int, ...] = option(
        (),
        "Layers to edit, such as 4-7, 3, all or 2,5-7; both ends are included.",
        "--layers",
        link="layers",
        form=LAYERS,
        usual=SUGGESTION,
    )
    rank: int = option(
        1, "Directions to remove in each layer, strongest first.", "--rank", link="rank", low=1, usual=SUGGESTION
    )
    strength: float = option(
        1.0,
        "How much of each direction is removed: 0 nothing, 1 all, as in the paper.",
        "--strength",
        link="strength",
        low=-10,
        high=10,
        step=0.05,
        usual=SUGGESTION,
    )
    switched_off: frozenset[tuple[int, int]] = option(
        frozenset(),
        "Directions left in place although the rank covers them, as layer.direction from 0: 5.0,6.1.",
        "--switch-off",
        link="off",
        form=SET_OF_DIRECTIONS,
    )
    edit_bias: bool = option(
        False,
        "Also project the bias of the layers that are edited; the paper leaves it alone.",
        "--edit-bias/--no-edit-bias",
        link="edit_bias",
    )
    sites: Sites = option(
        "mlp",
        "What the directions are removed from: what the MLP writes, as in the paper, what attention writes, or both.",
        "--sites",
        link="sites",
        words=SITES,
        usual=SUGGESTION,
    )
    method: str = option(
        PAPER,
        "The method whose directions are removed, by its name.",
        "--method",
        link="method",
        usual=SUGGESTION,
    )

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"The rank must be 1 or more, not {self.rank}.")
        if not math.isfinite(self.strength):
            raise InputError(f"The strength must be a finite number, not {self.strength}; 1 is the paper's edit.")
        if abs(self.strength) > STRONGEST:
            raise InputError(f"The strength lies within ±{STRONGEST:,}, not at {self.strength}; 1 is the paper's edit.")
        if self.sites not in get_args(Sites):
            raise InputError(f"The sites of an edit are mlp, attention or both, not “{self.sites}”.")

    @property
    def removes_nothing(self) -> bool:
        """Whether all of its directions are switched off."""
        return len(self.switched_off) >= len(self.layers) * self.rank


@dataclass(frozen=True)
class EditBeside(EditPlan):
    """The edit of a command that asks for layers of its own: none, unless layers or a rank are given for it."""

    layers: tuple[int, ...] = option((), sentence(EditPlan, "layers"), "--edit-layers", form=LAYERS, usual=NO_EDIT)
    rank: int = option(1, sentence(EditPlan, "rank"), "--edit-rank", low=1, usual=NO_EDIT)
    method: str = option(PAPER, sentence(EditPlan, "method"), "--edit-method", usual=SUGGESTION)


def effective(edit: EditPlan) -> EditPlan:
    """`edit` without switches that its layers and rank do not reach, so that plans which do the same are equal."""
    within = frozenset(
        (layer, direction) for layer, direction in edit.switched_off if layer in edit.layers and direction < edit.rank
    )
    return replace(edit, switched_off=within)


def record_edit(plan: EditPlan) -> dict[str, Any]:
    """All of an edit, such that it can be repeated from JSON."""
    return {
        "layers": format_layers(plan.layers),
        "rank": plan.rank,
        "strength": plan.strength,
        "switched_off": sorted(map(list, plan.switched_off)),
        "edit_bias": plan.edit_bias,
        "sites": plan.sites,
        "method": plan.method,
    }


def read_edit(record: Mapping[str, Any], layers: int) -> EditPlan:
    """What `record_edit` wrote, for a model of `layers` layers."""
    off = frozenset((layer, direction) for layer, direction in record["switched_off"])
    return EditPlan(**{**record, "layers": parse_layers(record["layers"], layers), "switched_off": off})


def describe_edit(plan: EditPlan) -> str:
    """An edit in a few words, to stand within a sentence."""
    layers = ("layer " if len(plan.layers) == 1 else "layers ") + format_layers(plan.layers)
    off = f", {len(plan.switched_off)} switched off" if plan.switched_off else ""
    bias = ", biases too" if plan.edit_bias else ""
    sites = {"mlp": "", "attention": ", attention only", "both": ", attention too"}[plan.sites]
    method = "" if plan.method == EditPlan.method else f"{plan.method}, "
    return f"{method}{layers}, rank {plan.rank}, strength {plan.strength:g}{off}{bias}{sites}"
