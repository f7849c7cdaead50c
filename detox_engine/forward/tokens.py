"""The states of a text's tokens, layer by layer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from detox_engine.data.columns import holds_half_character
from detox_engine.edit.in_pass import edited
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.model.batches import run_in_batches
from detox_engine.model.load import OpenModel
from detox_engine.model.tokens import show_token, spell, tokenize_text
from detox_engine.model.trunk import run_trunk, watched
from detox_engine.plans.layers import check_layers

LONGEST = 1024
"""Tokens of a text that are looked at unless asked otherwise: more than a page can show."""


@dataclass(frozen=True)
class LensText:
    """A text as the model reads it and as people see it."""

    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    """Each token so that every space and byte can be seen: `·idiot`."""
    pieces: tuple[str, ...]
    """What each token is of the text; they join to the part that was read. Empty for tokens that the tokenizer added
    and for all but the last token of a character that is made of several."""
    cut: int
    """Tokens at the end that were left out."""


def encode_text(model: OpenModel, text: str, longest: int = LONGEST) -> LensText:
    """The tokens of `text`, cut at its end to `longest` and to the model's context.

    Raises:
        InputError: there is nothing to read, or the text holds half of a character.
    """
    if not text.strip():
        raise InputError("The text is empty: write some words to look at.")
    if holds_half_character(text):
        raise InputError("The text is not UTF-8: it holds half of a character; copy it again from its source.")
    if longest < 1:
        raise InputError(f"The longest text must have 1 token or more, not {longest}.")
    tokenizer = model.tokenizer
    encoded = tokenize_text(tokenizer, text)
    own = [not by_itself for by_itself in encoded.added]
    if not any(own):
        raise InputError("The model's tokenizer finds no token in the text: write some words to look at.")
    kept = min(longest, model.context or longest, len(own))
    ids = encoded.ids[:kept]
    tokens = tuple(show_token(tokenizer, id) for id in ids)
    if not tokenizer.is_fast:
        return LensText(ids, tokens, spell(tokenizer, (), ids)[1], len(own) - kept)
    pieces = _split_text(text, encoded.spans, own, kept)
    return LensText(ids, tokens, pieces, len(own) - kept)


def _split_text(text: str, spans: Sequence[tuple[int, int]], own: Sequence[bool], kept: int) -> tuple[str, ...]:
    """The piece of `text` that each of the first `kept` tokens stands for; each reaches to the next one's start."""
    starts = accumulate((start for (start, _), mine in zip(spans, own, strict=True) if mine), max)
    bounds = [0, *list(starts)[1:], len(text)]
    pieces = (text[first:last] for first, last in pairwise(bounds))
    return tuple(next(pieces) if mine else "" for mine in own[:kept])


def project_rows(
    model: OpenModel,
    rows: Sequence[tuple[Sequence[int], LowRankEdit | None]],
    bases: Mapping[int, Tensor],
    progress: Progress = ignore_progress,
    read: Callable[[int, int, Tensor], None] | None = None,
) -> list[Tensor]:
    """`[layers, tokens, directions]` for each row: token ids, and the edit that its pass carries or None.

    Args:
        read: is given what else passes by: the row, the layer, and its states `[tokens, hidden]`.
    """
    device = model.device
    check_layers(bases, model.anatomy.layers)
    blocks = {layer: model.anatomy.blocks[layer] for layer in bases}
    placed = {layer: basis.to(device).float().T for layer, basis in bases.items()}

    def width(row: int) -> int:
        return len(rows[row][0])

    def run(batch: Sequence[int]) -> list[Tensor]:
        found: dict[int, Tensor] = {}

        def project(layer: int, states: Tensor) -> None:
            found[layer] = (states.float() @ placed[layer].to(states.device)).to(device)
            if read is not None:
                for place, row in enumerate(batch):
                    read(row, layer, states[place, : width(row)])

        with model.turns, edited(model.anatomy, [rows[row][1] for row in batch]), watched(blocks, project):
            run_trunk(model, [rows[row][0] for row in batch])
        stacked = torch.stack([found[layer] for layer in bases]).cpu()
        results = [stacked[:, place, : width(row)].clone() for place, row in enumerate(batch)]
        for result in results:
            _check_finite(result, tuple(bases))
        return results

    projected: dict[int, Tensor] = {}
    progress("Reading tokens", 0, len(rows))
    try:
        for row, result in run_in_batches(range(len(rows)), width, run, device):
            projected[row] = result
            progress("Reading tokens", len(projected), len(rows))
    except MemoryError as error:
        raise InputError(f"There is not enough memory for this text ({error}): shorten it.") from None
    return [projected[row] for row in range(len(rows))]


def _check_finite(projections: Tensor, layers: Sequence[int]) -> None:
    broken = ~projections.isfinite().flatten(1).all(1)
    if broken.any():
        layer = layers[int(broken.nonzero()[0])]
        raise InputError(
            f"The states after layer {layer} are not finite (NaN or infinity): load the model in float32 or bfloat16, "
            "lower the strength of the edit, or check the model's weights."
        )
