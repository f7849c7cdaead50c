"""Token ids back to the exact text that they add to a prompt, and to the piece of it that each token is."""

from collections.abc import Sequence
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that are no whole character, or not yet."""


def spell(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], ids: Sequence[int]) -> tuple[str, tuple[str, ...]]:
    """The text that `ids` add after `prompt`, and its pieces, one a token, which join to that text.

    A character made of several tokens belongs to the last of them; special tokens have an empty piece.
    """

    def decode(count: int) -> str:
        # With the prompt in front, as decoders treat the first token of a text in a way of its own.
        return tokenizer.decode([*prompt, *ids[:count]], skip_special_tokens=True, clean_up_tokenization_spaces=False)

    start, whole = len(decode(0)), decode(len(ids))
    ends = [start]
    for count in range(1, len(ids)):
        text = decode(count)
        # An unfinished character at the end waits for the token that finishes it.
        settled = len(text.rstrip(INCOMPLETE)) if text.endswith(INCOMPLETE) else len(text)
        ends.append(min(max(settled, ends[-1]), len(whole)))
    ends.append(len(whole))
    pieces = tuple(whole[first:last] for first, last in zip(ends, ends[1:], strict=False))
    return whole[start:], pieces[: len(ids)]


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
