"""Tiny GGUF files as llama.cpp's converter writes them, made with the gguf library's own writer."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tests.models import tiny_model, tiny_tokenizer

NORMAL, CONTROL = 1, 3


def save_tiny_gguf(
    file: Path,
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    pre: str = "smollm",
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    file_type: gguf.LlamaFileType | None = gguf.LlamaFileType.ALL_F32,
    architecture: str = "llama",
    states_vocabulary: bool = True,
    more: Mapping[str, Any] = {},  # noqa: B006
    divisors: Sequence[float] = (),
) -> Path:
    """Write a tiny Llama to `file`, its matrices stored as `kind`; returns `file`.

    Args:
        model: the tiny Llama of the tests where none is given.
        tokenizer: byte-level; the one of the tests where none is given.
        states_vocabulary: whether it says how many tokens the model has.
        more: further metadata, text or numbers by key.
        divisors: of the frequencies of rotary positions.
    """
    model, tokenizer = model or tiny_model("llama")[0], tokenizer or tiny_tokenizer()
    writer = gguf.GGUFWriter(file, architecture)
    write_sizes(writer, model)
    if states_vocabulary:
        writer.add_vocab_size(model.config.vocab_size)
    write_tokenizer(writer, tokenizer, pre)
    if file_type is not None:
        writer.add_file_type(file_type)
    for key, value in more.items():
        writer.add_string(key, value) if isinstance(value, str) else writer.add_uint32(key, value)
    if len(divisors):
        writer.add_tensor("rope_freqs.weight", np.array(divisors, dtype=np.float32))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        stem, _, suffix = name.rpartition(".")
        values = order_heads(stem, tensor, model).numpy()
        stored = gguf.quantize(values, kind) if values.ndim > 1 else values
        packed = kind not in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16) and values.ndim > 1
        writer.add_tensor(f"{names.get_name(stem)}.{suffix}", stored, raw_dtype=kind if packed else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def order_heads(stem: str, tensor: torch.Tensor, model: PreTrainedModel) -> torch.Tensor:
    """Rows of queries and keys as llama.cpp has them: the two halves that rotate together beside each other."""
    heads = {"q_proj": model.config.num_attention_heads, "k_proj": model.config.num_key_value_heads}
    count = heads.get(stem.rpartition(".")[2])
    if count is None:
        return tensor
    return tensor.reshape(count, 2, -1, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)


def write_sizes(writer: gguf.GGUFWriter, model: PreTrainedModel) -> None:
    config = model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)


def write_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase, pre: str) -> None:
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL if token in tokenizer.all_special_tokens else NORMAL for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)


def spoil(file: Path, old: bytes, new: bytes) -> Path:
    """`file` with these bytes of its header in place of the first such."""
    assert len(old) == len(new)
    content = file.read_bytes()
    assert old in content
    file.write_bytes(content.replace(old, new, 1))
    return file


def store_as(values: np.ndarray, kind: gguf.GGMLQuantizationType) -> torch.Tensor:
    """What is left of values after they were stored as `kind`."""
    return torch.from_numpy(gguf.dequantize(gguf.quantize(values, kind), kind))
