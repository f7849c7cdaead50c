"""Logit lens: what a direction of the residual stream means in tokens (method, step 6)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from detox_engine.anatomy import Anatomy

Measure = Literal["product", "cosine"]


@dataclass(frozen=True)
class TokenScore:
    """A token of the vocabulary and how far it lies along a direction."""

    id: int
    token: str
    """As shown to people: a space is ·, a line break ↵, a byte that is no character of its own <0xE2>."""
    score: float


@dataclass(frozen=True)
class Reading:
    """The two ends of a direction, in tokens."""

    toxic_pole: tuple[TokenScore, ...]
    """The tokens with the largest scores, largest first."""

    civil_pole: tuple[TokenScore, ...]
    """The tokens with the smallest scores, smallest first."""


@torch.inference_mode()
def score_tokens(
    directions: Tensor, anatomy: Anatomy, measure: Measure = "product", through_norm: bool = False
) -> Tensor:
    """Scores `[directions, vocab]` of every token along each of `directions` `[directions, hidden]`, float32.

    Args:
        measure: the product of the direction with the token's unembedding row, or their cosine.
        through_norm: multiply the direction with the final normalisation's weight first, as the model does
            with the residual stream before the unembedding.
    """
    unembedding = anatomy.unembedding.weight
    rows = directions.to(unembedding.device).float()
    if through_norm:
        rows = rows * anatomy.norm_gain.to(rows.device).float()
    if measure == "product":
        # The unembedding can be the largest matrix of all: it is read in its own dtype, never copied to float32.
        return (rows.to(unembedding.dtype) @ unembedding.T).float().cpu()
    lengths = torch.linalg.vector_norm(unembedding, dim=1, dtype=torch.float32).clamp(min=1e-12)
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return ((rows.to(unembedding.dtype) @ unembedding.T).float() / lengths).cpu()


def read_tokens(
    directions: Tensor,
    anatomy: Anatomy,
    tokenizer: PreTrainedTokenizerBase,
    top: int = 10,
    measure: Measure = "product",
    through_norm: bool = False,
) -> tuple[Reading, ...]:
    """Both poles of each of `directions` `[directions, hidden]`, `top` tokens each.

    Rows of the unembedding beyond the tokenizer's vocabulary, which some models have as padding, are left out.
    """
    scores = score_tokens(directions, anatomy, measure, through_norm)[:, : len(tokenizer)]
    top = min(top, scores.shape[1])
    highest, lowest = scores.topk(top), scores.topk(top, largest=False)

    def listed(values: Sequence[float], ids: Sequence[int]) -> tuple[TokenScore, ...]:
        return tuple(TokenScore(id, show_token(tokenizer, id), value) for value, id in zip(values, ids, strict=True))

    return tuple(
        Reading(
            listed(highest.values[row].tolist(), highest.indices[row].tolist()),
            listed(lowest.values[row].tolist(), lowest.indices[row].tolist()),
        )
        for row in range(len(scores))
    )


@lru_cache(maxsize=1)
def _bytes_of_characters() -> dict[str, int]:
    """The printable character that byte-level tokenizers write for each byte (Radford et al. 2019), reversed."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + rank): byte for rank, byte in enumerate(others)}


def show_token(tokenizer: PreTrainedTokenizerBase, id: int) -> str:
    """A token so that every space and byte of it can be seen: `·idiot`, `↵`, `<0xE2><0x80>`."""
    piece = tokenizer.convert_ids_to_tokens(id)
    if piece is None:
        return f"<{id}>"
    if id in tokenizer.all_special_ids:
        return piece
    if _is_byte_level(tokenizer):
        table = _bytes_of_characters()
        try:
            raw = bytes(table[character] for character in piece)
        except KeyError:
            raw = piece.encode()
        try:
            piece = raw.decode()
        except UnicodeDecodeError:
            return "".join(f"<0x{byte:02X}>" for byte in raw)
    piece = piece.replace("▁", " ")
    return "".join(_visible(character) for character in piece)


def _visible(character: str) -> str:
    if character == " ":
        return "·"
    if character == "\n":
        return "↵"
    if character == "\t":
        return "⇥"
    return character if character.isprintable() else f"<U+{ord(character):04X}>"


def _is_byte_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend is not None and "ByteLevel" in repr(backend.decoder)
