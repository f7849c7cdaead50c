"""An edit as a PEFT LoRA adapter: two files that PEFT, vLLM and others put on the base model.

A change of rank r is exactly a LoRA of rank r, so nothing is lost: W + scale · (B A) with A = V Wᵀ and B = −α Vᵀ for
the matrix W of an output projection, orthonormal rows V and strength α (Hu et al. 2021, section 4.1, for the form; step
7 of the method, arXiv 2405.13967, for the change); of an oblique edit A = R Wᵀ. PEFT scales by `lora_alpha` over the
rank, which is 1 here, so that `lora_alpha` is a dial of the strength.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from detox_engine.edit.as_adapter import lora_factors
from detox_engine.edit.in_weights import list_written
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError
from detox_engine.model.adapter import CONFIG, WEIGHTS
from detox_engine.model.anatomy import Anatomy


def write_adapter(anatomy: Anatomy, edit: LowRankEdit, base: str, revision: str | None, folder: Path) -> None:
    """Write the adapter's two files into `folder`.

    Args:
        base: what the configuration calls the base model, such as its id on the Hub.

    Raises:
        InputError: the edit changes a bias, which is no part of a LoRA.
    """
    require_adapter(anatomy, edit)
    factors = make_factors(anatomy, edit)
    ranks = {name: a.shape[-2] for name, (a, _) in factors.items()}
    rank = max(ranks.values())
    tensors = [each for _, written in list_written(anatomy, edit) for each in written.tensors if each.name in factors]
    parts = {each.name: f"{each.name}.{each.part}" for each in tensors if each.experts > 1}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": revision,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "fan_in_fan_out": not any(each.transposed or each.experts > 1 for each in tensors),
        "target_modules": sorted(factors.keys() - parts.keys()),
        **({"target_parameters": sorted(parts.values())} if parts else {}),
        "rank_pattern": {name: own for name, own in sorted(ranks.items()) if own != rank},
        "alpha_pattern": {},
        "modules_to_save": None,
        "layers_to_transform": None,
        "layers_pattern": None,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file(name_factors(factors), folder / WEIGHTS, {"format": "pt"})


def require_adapter(anatomy: Anatomy, edit: LowRankEdit) -> None:
    """Raise an InputError that names the way out, where a LoRA cannot carry the edit."""
    biased = [written.name for _, written in list_written(anatomy, edit) if written.bias is not None]
    if edit.edit_bias and biased:
        raise InputError(
            f"An adapter carries no change of a bias, and this edit changes that of {biased[0]}: leave the biases "
            "alone (--no-edit-bias), or take the whole model (--as model) where it is a folder of safetensors."
        )
    for _, written in list_written(anatomy, edit):
        for each in written.tensors:
            # PEFT reads from the module which way round its experts lie.
            if each.experts > 1 and getattr(each.module, "is_transposed", False) is each.transposed:
                raise InputError(
                    f"PEFT does not know how the experts lie in {each.name}, so that an adapter would be put on them "
                    "the wrong way round: take the whole model (--as model)."
                )


@torch.no_grad()
def make_factors(anatomy: Anatomy, edit: LowRankEdit) -> dict[str, tuple[Tensor, Tensor]]:
    """Module -> A `[rank, inner]` and B `[hidden, rank]`, float32, for a `lora_alpha` that is the largest rank of all.

    Where experts lie in one tensor, A is theirs, `[experts, rank, inner]`, and B the same for all.

    PEFT multiplies B A by `lora_alpha` over the module's own rank; where that is lower, B is smaller by as much, so
    that one number dials the strength of all modules.
    """
    found = {name: pair for layer in edit.layers for name, pair in lora_factors(anatomy, edit, layer).items()}
    found = {name: (a, b) for name, (a, b) in found.items() if a.shape[-2]}
    largest = max(a.shape[-2] for a, _ in found.values())
    # Of experts in one tensor PEFT takes the largest rank alone: they are filled with zeros.
    return {
        name: (functional.pad(a, (0, 0, 0, largest - len(b.T))), functional.pad(b, (0, largest - len(b.T))))
        if a.dim() == 3
        else (a, b * (len(a) / largest))
        for name, (a, b) in found.items()
    }


def name_factors(factors: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The factors under the names that PEFT gives them in a file."""
    tensors = {}
    for name, (a, b) in factors.items():
        if a.dim() == 3:
            # Of all experts in one: A expert by expert, B with the expert as the innermost of (rank, expert).
            b = b[..., None].expand(-1, -1, len(a)).flatten(1)
            a = a.flatten(0, 1)
        tensors[f"base_model.model.{name}.lora_A.weight"] = a.cpu().contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = b.cpu().contiguous()
    return tensors
