"""Token ids back to the exact text that they add to a prompt, and to the piece of it that each token is."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that are no whole character, or not yet."""


def spell(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], ids: Sequence[int]
) -> tuple[str, tuple[str, ...]]:
    """The text that `ids` add after `prompt`, and its pieces, one a token, which join to that text.

    A character made of several tokens belongs to the last of them; special tokens have an empty piece.
    """

    def decode(count: int) -> str:
        # With the prompt in front, as decoders treat the first token of a text in a way of its own.
        return tokenizer.decode(
            [*prompt, *ids[:count]], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

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
