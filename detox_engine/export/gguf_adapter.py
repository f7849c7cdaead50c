"""An edit as a LoRA adapter for llama.cpp: one GGUF file, put on a GGUF of the base model with `--lora`.

The factors are those of the PEFT adapter under llama.cpp's names of the tensors, as its own converter writes them
(`convert_lora_to_gguf.py`); it scales by `adapter.lora.alpha` over the rank.
"""

from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError
from detox_engine.export.adapter import make_factors, require_adapter
from detox_engine.model.load import OpenModel

FILE = "adapter.gguf"
ARCHITECTURES = {
    "bloom": gguf.MODEL_ARCH.BLOOM,
    "falcon": gguf.MODEL_ARCH.FALCON,
    "gemma2": gguf.MODEL_ARCH.GEMMA2,
    "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
    "gpt2": gguf.MODEL_ARCH.GPT2,
    "gpt_neox": gguf.MODEL_ARCH.GPTNEOX,
    "gptj": gguf.MODEL_ARCH.GPTJ,
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "phi": gguf.MODEL_ARCH.PHI2,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}
"""What llama.cpp calls an architecture, by what transformers calls it."""


def write_gguf_adapter(model: OpenModel, edit: LowRankEdit, folder: Path) -> None:
    """Write the adapter's file into `folder`.

    Raises:
        InputError: llama.cpp does not know the architecture, or the edit changes a bias.
    """
    architecture = find_architecture(model)
    factors = name_factors(model, edit)
    largest = max(tensor.shape[0] for name, tensor in factors.items() if name.endswith(".lora_a"))
    writer = gguf.GGUFWriter(folder / FILE, gguf.MODEL_ARCH_NAMES[architecture])
    try:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(largest))
        for name, tensor in sorted(factors.items()):
            writer.add_tensor(name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def find_architecture(model: OpenModel) -> gguf.MODEL_ARCH:
    kind = model.network.config.model_type
    if kind not in ARCHITECTURES:
        raise InputError(
            f"llama.cpp's name of the architecture “{kind}” is not known here: take the adapter for PEFT (--as "
            "adapter) or the whole model (--as model)."
        )
    return ARCHITECTURES[kind]


def name_factors(model: OpenModel, edit: LowRankEdit) -> dict[str, NDArray[np.float32]]:
    """The factors under llama.cpp's names: A `[rank, inner]` and B `[hidden, rank]`, float32."""
    require_adapter(model.anatomy, edit)
    names = gguf.get_tensor_name_map(find_architecture(model), model.anatomy.layers)
    tensors = {}
    for module, (a, b) in make_factors(model.anatomy, edit).items():
        name = names.get_name(module)
        if name is None or a.dim() == 3:
            raise InputError(
                f"llama.cpp's name of {module} is not known here: take the adapter for PEFT (--as adapter)."
            )
        tensors[f"{name}.weight.lora_a"] = np.ascontiguousarray(a.cpu().numpy())
        tensors[f"{name}.weight.lora_b"] = np.ascontiguousarray(b.cpu().numpy())
    return tensors


def read_gguf_adapter(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The factors in the adapter's file, by name.

    Raises:
        InputError: it is missing or broken.
    """
    try:
        reader = gguf.GGUFReader(folder / FILE)
        return {
            tensor.name: np.array(tensor.data, dtype=np.float32).reshape(tuple(reversed(tensor.shape.tolist())))
            for tensor in reader.tensors
        }
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"{folder / FILE} is missing or broken ({error}): get the folder again.") from error
