"""A folder that holds a LoRA and no model: what it was made for, and both in one."""

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from detox_engine.disk import hash_file
from detox_engine.errors import InputError, first_line

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LONGEST_NAME = 1000
INSTALL = "pip install peft==0.21.2"


@dataclass(frozen=True)
class Adapter:
    """A LoRA in a folder, checked before its base is looked for."""

    folder: Path
    shown: str
    """What it is called in a sentence."""
    base: str
    """A Hub id, a folder or a file."""
    revision: str | None
    """Of the base on the Hub."""

    @property
    def shown_base(self) -> str:
        return f"“{self.base}”, the base of {self.shown},"

    def hash_weights(self, base: str) -> str:
        """`sha256:…` of the base's weights and the adapter's."""
        both = f"{base}\n{hash_file(self.folder / WEIGHTS)}\n{hash_file(self.folder / CONFIG)}\n"
        return "sha256:" + hashlib.sha256(both.encode()).hexdigest()


def find_adapter(place: Path, shown: str, from_hub: bool = False) -> Adapter | None:
    """The LoRA in the folder `place`; None where this is a model of its own.

    Args:
        from_hub: it is a stranger's, and leads to no folder of this machine.

    Raises:
        InputError: it is an adapter that cannot be put into a model, or PEFT is not installed.
    """
    if not (place / CONFIG).is_file() or any(place.glob("model*.safetensors*")):
        return None
    try:
        record = json.loads((place / CONFIG).read_text(encoding="utf-8"))
        kind, base, revision = (record.get(key) for key in ("peft_type", "base_model_name_or_path", "revision"))
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{shown} has a broken {CONFIG} ({first_line(error)}): get the file again.") from error
    if not isinstance(base, str) or not 0 < len(base) <= LONGEST_NAME or "\0" in base:
        raise InputError(
            f"{shown} is an adapter and no whole model, and its {CONFIG} names no base model: merge it into its base "
            "and give the result."
        )
    if kind != "LORA":
        raise InputError(
            f"{shown} is an adapter for “{base}” of a kind that is no part of the weights ({str(kind)[:40]}): give its "
            "base, or a LoRA."
        )
    if from_hub and Path(base).expanduser().exists():
        raise InputError(
            f"{shown} is an adapter for a folder of the machine that it was made on: merge it into its base and give "
            "the result."
        )
    if not (place / WEIGHTS).is_file():
        raise InputError(
            f"{shown} is an adapter for “{base}” without {WEIGHTS}: write it again with save_pretrained, which makes "
            "safetensors, or give its base."
        )
    try:
        with safe_open(place / WEIGHTS, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        told = f"{shown} has a broken weights file, {WEIGHTS} ({first_line(error)}): get the file again."
        raise InputError(told) from error
    if importlib.util.find_spec("peft") is None:
        raise InputError(
            f"{shown} is an adapter for “{base}” and no whole model: install PEFT ({INSTALL}) to load both, or merge "
            "it into its base and give the result."
        )
    return Adapter(place, shown, base, revision if isinstance(revision, str) else None)


def add_adapter(model: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    """The model with the adapter in its weights.

    Raises:
        InputError: the adapter does not fit this model.
    """
    from peft import PeftModel

    try:
        wrapped = PeftModel.from_pretrained(model, str(adapter.folder), is_trainable=False)
        loaded = {name for name, _ in wrapped.named_parameters() if "lora_" in name}
        merged = wrapped.merge_and_unload(safe_merge=True)
    except Exception as error:  # PEFT raises errors of many kinds
        raise InputError(
            f"{adapter.shown} cannot be put into “{adapter.base}” ({first_line(error)}): give the base that it was "
            "made for."
        ) from error
    if not loaded:
        raise InputError(f"{adapter.shown} changes nothing in “{adapter.base}”: give the base that it was made for.")
    return merged.eval().requires_grad_(False)
