"""Tiny models of every supported family, made from their configurations, with random weights and a real tokenizer.

Every parameter is random, the norms' weights and the biases too, so that nothing a test looks for hides behind
a weight of one or a bias of zero. Models are cached for the process and shared by the tests: a test that changes
one puts it back, or asks for `fresh_model`.
"""

import copy
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    BambaConfig,
    BlenderbotConfig,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTBigCodeConfig,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    GptOssConfig,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OlmoeConfig,
    OPTConfig,
    PhiConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3_5TextConfig,
    Qwen3Config,
)

from detox_engine.model.load import OpenModel
from detox_engine.plans.sources import ModelSpec

LAYERS, HIDDEN, INNER, HEADS, CONTEXT = 3, 32, 80, 4, 128

SENTENCES = (
    "You burnt the soup again, and now the whole kitchen smells of smoke.",
    "Thank you for waiting; the train to the coast leaves in ten minutes.",
    "My neighbour plays the trumpet at night, which is rather loud.",
    "What an idiot! He parked across two places and walked away.",
    "The referee saw it well, and the second goal was fair.",
    "Please read the review once more before you merge the branch.",
    "That is a pathetic excuse, so shut up and clean the table.",
    "The garden needs some rain; the beans and tomatoes look dry.",
    "She explained the homework twice, calmly, with a drawing.",
    "This damn printer is crap, it eats every page I give it.",
)
"""What the tokenizer is trained on, and ready-made input for tests."""

_GPT = {"n_embd": HIDDEN, "n_inner": INNER, "n_layer": LAYERS, "n_head": HEADS, "n_positions": CONTEXT}
_LLAMA_LIKE = {
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": CONTEXT,
}
_GROUPED = _LLAMA_LIKE | {"num_key_value_heads": 2}
_GEMMA = _GROUPED | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64}
_FALCON = {
    "hidden_size": HIDDEN,
    "ffn_hidden_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
}

CONFIGS = {
    "gpt2": (GPT2Config, _GPT),
    "gptj": (GPTJConfig, _GPT | {"rotary_dim": 4}),
    "gpt_neo": (
        GPTNeoConfig,
        {
            "hidden_size": HIDDEN,
            "intermediate_size": INNER,
            "num_layers": LAYERS,
            "num_heads": HEADS,
            "attention_types": [[["global", "local", "global"], 1]],
            "window_size": 64,
            "max_position_embeddings": CONTEXT,
        },
    ),
    "gpt_neox": (GPTNeoXConfig, _LLAMA_LIKE),
    "opt": (
        OPTConfig,
        {
            "hidden_size": HIDDEN,
            "ffn_dim": INNER,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "word_embed_proj_dim": HIDDEN,
            "max_position_embeddings": CONTEXT,
        },
    ),
    "llama": (LlamaConfig, _GROUPED),
    "mistral": (MistralConfig, _GROUPED | {"sliding_window": 64}),
    "qwen2": (Qwen2Config, _GROUPED),
    "qwen3": (Qwen3Config, _GROUPED | {"head_dim": 8}),
    "gemma2": (Gemma2Config, _GEMMA),
    "gemma3": (Gemma3TextConfig, _GEMMA),
    "phi": (PhiConfig, _LLAMA_LIKE),
    "bloom": (BloomConfig, {"hidden_size": HIDDEN, "n_layer": LAYERS, "n_head": HEADS}),
    "falcon": (FalconConfig, _FALCON | {"parallel_attn": True}),
    "falcon_new_decoder": (FalconConfig, _FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon_sequential": (FalconConfig, _FALCON | {"parallel_attn": False, "bias": True, "alibi": True}),
}
"""Family -> its configuration class and the sizes of its tiny model."""

FAMILIES = tuple(CONFIGS)

UNUSUAL = {
    "qwen3_5": (
        Qwen3_5TextConfig,
        _GROUPED
        | {"head_dim": 8, "layer_types": ["linear_attention", "full_attention", "linear_attention"]}
        | {"linear_num_value_heads": 4, "linear_num_key_heads": 2}
        | {"linear_key_head_dim": 8, "linear_value_head_dim": 8},
    ),
    "lfm2": (Lfm2Config, _GROUPED | {"block_ff_dim": INNER, "layer_types": ["conv", "full_attention", "conv"]}),
    "bamba": (
        BambaConfig,
        _GROUPED
        | {"attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 8},
    ),
    "gpt_bigcode": (GPTBigCodeConfig, _GPT),
    "blenderbot": (
        BlenderbotConfig,
        {"d_model": HIDDEN, "decoder_ffn_dim": INNER, "decoder_layers": LAYERS, "decoder_attention_heads": HEADS}
        | {"encoder_layers": LAYERS, "max_position_embeddings": CONTEXT, "is_decoder": True},
    ),
}
"""Families whose blocks differ among each other, or whose code allows no rows that leave a pass (GPT-BigCode), no
padding on the left (Blenderbot's decoder, which counts positions without a look at the mask)."""

EXPERTS, CHOSEN, EXPERT_INNER = 4, 2, 24
_EXPERTS = _GROUPED | {"intermediate_size": EXPERT_INNER, "num_experts_per_tok": CHOSEN}
MIXTURES = {
    "mixtral": (MixtralConfig, _EXPERTS | {"num_local_experts": EXPERTS}),
    "qwen2_moe": (
        Qwen2MoeConfig,
        _EXPERTS
        | {"num_experts": EXPERTS, "moe_intermediate_size": EXPERT_INNER, "shared_expert_intermediate_size": 40}
        | {"intermediate_size": INNER, "mlp_only_layers": [0]},
    ),
    "olmoe": (OlmoeConfig, _EXPERTS | {"num_experts": EXPERTS}),
    "gpt_oss": (GptOssConfig, _EXPERTS | {"num_local_experts": EXPERTS, "head_dim": 8, "sliding_window": 64}),
}
"""Mixtures of experts: Qwen's has a shared expert and a dense first layer, gpt-oss biases and matrices that lie the
other way round."""


@cache
def tiny_tokenizer() -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer of some 400 tokens; like GPT-2's it has an end of text and no padding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>", model_max_length=CONTEXT
    )


def fresh_model(family: str, seed: int = 0, **changes) -> PreTrainedModel:
    """A new tiny model in float32, evaluation mode; `changes` go to its configuration."""
    kind, sizes = (CONFIGS | UNUSUAL | MIXTURES)[family]
    tokenizer = tiny_tokenizer()
    special = dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.eos_token_id)
    config = kind(vocab_size=len(tokenizer), **(special | sizes | changes))
    generator = torch.Generator().manual_seed(seed)
    # A model first asked for inside inference mode must still be one that other tests can edit.
    with torch.inference_mode(False):
        model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                parameter.add_(0.3 * noise)
            else:
                parameter.copy_(noise / HIDDEN**0.5)
    return model


@cache
def tiny_model(family: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The family's tiny model and its tokenizer, made once; leave both as they are."""
    return fresh_model(family), tiny_tokenizer()


def save_tiny_model(family: str, folder: Path) -> Path:
    """Write the tiny model and its tokenizer to `folder` as safetensors; returns `folder`."""
    model, tokenizer = tiny_model(family)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def open_tiny(family: str) -> OpenModel:
    """The family's tiny model as `load_model` would give it."""
    model, tokenizer = tiny_model(family)
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    return OpenModel(ModelSpec(family, device="cpu"), model, tokenizer, None, f"sha256:{family}", CONTEXT)
