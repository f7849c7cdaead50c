"""Models of real shapes with random weights, and texts with a real mix of lengths, made on the spot and seeded."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from detox_engine.data.columns import Pair
from detox_engine.model.load import OpenModel, pick_device, pick_dtype
from detox_engine.plans.sources import ModelSpec

_SMALL = {
    "vocab_size": 32000,
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
}
SHAPES: dict[str, PreTrainedConfig] = {
    "gpt2": GPT2Config(n_layer=12, n_embd=768, n_head=12),
    "gpt2-medium": GPT2Config(n_layer=24, n_embd=1024, n_head=16),
    "small-llama": LlamaConfig(
        vocab_size=32000,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
    ),
    "dense": LlamaConfig(**_SMALL, intermediate_size=1536),
    "mixture": MixtralConfig(**_SMALL, intermediate_size=768, num_local_experts=8, num_experts_per_tok=2),
}
"""GPT-2, GPT-2 medium, a Llama of SmolLM-135M's shape; a Llama and a Mixtral in which as many weights see a token."""

WORDS = 20_000
"""The tokenizer knows this many words `w0`, `w1`, …, one token each, so a text's length in tokens is exact."""

SHORTEST, MEDIAN, LONGEST = 5, 24, 128


def make_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"<|endoftext|>": 0} | {f"w{number}": number + 1 for number in range(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Fuse()
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end, pad_token=end)


def make_model(shape: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> OpenModel:
    """A model of that shape with random weights, as `load_model` would give it."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(SHAPES[shape], dtype=dtype).eval().requires_grad_(False)
    model.generation_config.eos_token_id = None
    context = model.config.max_position_embeddings
    return OpenModel(ModelSpec(shape, device="cpu"), model, make_tokenizer(), None, f"sha256:{shape}", context)


def place_model(shape: str) -> OpenModel:
    """The same on the device and in the number format that the tool takes of itself: a GPU where there is one."""
    device = pick_device("auto")
    model = make_model(shape, pick_dtype("auto", device, SHAPES[shape]))
    model.network.to(device)
    return model


def make_lengths(count: int, seed: int = 0) -> list[int]:
    """Lengths in tokens from 5 to 128 with a median of 24: log-normal, as the lengths of sentences are."""
    generator = torch.Generator().manual_seed(seed)
    drawn = MEDIAN * torch.exp(0.75 * torch.randn(count, generator=generator))
    return drawn.round().clamp(SHORTEST, LONGEST).int().tolist()


def make_text(length: int, generator: torch.Generator) -> str:
    return " ".join(f"w{number}" for number in torch.randint(WORDS, (length,), generator=generator).tolist())


def make_pairs(count: int, seed: int = 0) -> tuple[Pair, ...]:
    """Pairs of whole texts of independent lengths."""
    generator = torch.Generator().manual_seed(seed)
    lengths = make_lengths(2 * count, seed)
    texts = [make_text(length, generator) for length in lengths]
    return tuple(Pair("", toxic, civil) for toxic, civil in zip(texts[::2], texts[1::2], strict=True))


def make_prompts(count: int, length: int = 12, seed: int = 1) -> list[str]:
    generator = torch.Generator().manual_seed(seed)
    return [make_text(length, generator) for _ in range(count)]
