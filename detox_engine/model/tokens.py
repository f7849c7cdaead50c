"""A text to token ids, and token ids back to the exact text that they add to a prompt and the piece that each is."""

from collections.abc import Sequence, Set
from functools import lru_cache
from typing import NamedTuple
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from detox_engine.errors import InputError, first_line

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that are no whole character, or not yet."""


SHORTEST, SHORTEST_UNSPACED = 3, 4
"""Letters of a word that begins with a space, and of one that does not: short ones are often pieces of others."""

_FOUND: WeakKeyDictionary[PreTrainedTokenizerBase, dict[frozenset[str], tuple[int, ...]]] = WeakKeyDictionary()
"""What `find_words` has found: a vocabulary is a quarter of a million tokens, and a search for an edit asks often."""

_SPECIAL: WeakKeyDictionary[PreTrainedTokenizerBase, frozenset[int]] = WeakKeyDictionary()


class Tokens(NamedTuple):
    """A text as the model reads it."""

    ids: tuple[int, ...]
    own: tuple[bool, ...]
    """Which tokens are words of the text: not those that the tokenizer adds, nor special tokens that stand in it."""
    added: tuple[bool, ...]
    """Which tokens the tokenizer added."""
    spans: tuple[tuple[int, int], ...]
    """Where in the text each begins and ends; none of a tokenizer that does not know."""


def tokenize_text(tokenizer: PreTrainedTokenizerBase, text: str) -> Tokens:
    """All tokens of `text`; one that begins with the token that begins every text has it once."""
    encoded = tokenizer(
        text,
        return_special_tokens_mask=True,
        return_offsets_mapping=tokenizer.is_fast,
        truncation=False,
        verbose=False,
    )
    ids, added = list(encoded["input_ids"]), [mask == 1 for mask in encoded["special_tokens_mask"]]
    spans = list(encoded["offset_mapping"]) if tokenizer.is_fast else []
    if len(ids) > 1 and added[0] and not added[1] and ids[0] == ids[1]:
        ids, added, spans = ids[1:], added[1:], spans[1:]
    special = find_special(tokenizer)
    own = tuple(not by_itself and id not in special for id, by_itself in zip(ids, added, strict=True))
    return Tokens(tuple(ids), own, tuple(added), tuple(spans))


def speak(tokenizer: PreTrainedTokenizerBase, said: str) -> tuple[int, ...]:
    """The tokens of what a person says in the model's chat template, up to where the model answers.

    Raises:
        InputError: the model has no chat template, or one that takes no such text.
    """
    if not tokenizer.chat_template:
        raise InputError("This model has no chat template: leave it out, or take a model that was trained to answer.")
    turn = [{"role": "user", "content": said}]
    try:
        text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # whatever a template of a stranger raises
        raise InputError(f"The model's chat template takes no text ({first_line(error)}).") from None
    # What begins every text stands in the template itself.
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def put_before(tokenizer: PreTrainedTokenizerBase, prefix: Sequence[int], ids: Sequence[int]) -> tuple[int, ...]:
    """The tokens of a text behind a prefix; the token that begins every text stands in no middle of one."""
    starts = bool(prefix) and len(ids) > 0 and ids[0] == tokenizer.bos_token_id
    return (*prefix, *(ids[1:] if starts else ids))


def find_special(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids of the tokens that say something of a text and are none of it: where it begins, who speaks.

    The token for what the tokenizer does not know stands for a word, unless it is one of these as well.
    """
    if tokenizer not in _SPECIAL:
        roles = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.sep_token_id}
        known = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
        special = known | set(tokenizer.all_special_ids)
        _SPECIAL[tokenizer] = frozenset(special - ({tokenizer.unk_token_id} - roles))
    return _SPECIAL[tokenizer]


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


def read_word(token: str) -> str:
    """The word that a token is, in small letters, or nothing where it may be a piece of one."""
    word = token.removeprefix("·")
    spaced = word != token
    whole = len(word) >= (SHORTEST if spaced else SHORTEST_UNSPACED) and (spaced or word[:1].isupper())
    return word.lower() if word.isalpha() and whole else ""


def find_words(tokenizer: PreTrainedTokenizerBase, words: Set[str]) -> tuple[int, ...]:
    """The ids of the tokens that by themselves are one of these words, which are in small letters."""
    found, wanted = _FOUND.setdefault(tokenizer, {}), frozenset(words)
    if wanted not in found:
        ids = range(len(tokenizer))
        found[wanted] = tuple(id for id in ids if read_word(show_token(tokenizer, id)) in wanted)
    return found[wanted]
