"""Where in a text a direction lights up: every token's residual stream after each block, along chosen directions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor

from detox_engine.data.columns import Pair
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import Progress, ignore_progress
from detox_engine.forward.sinks import Sinks
from detox_engine.forward.tokens import LensText, encode_text, project_rows
from detox_engine.model.load import OpenModel

SCALE_SHARE = 0.99
TOKEN = ("position", "id", "token", "layer", "before", "after", "sink")
"""What a row of `list_tokens` holds."""


@dataclass(frozen=True, eq=False)
class TokenProjections:
    """How far each token of a text lies along the directions, after each of some layers."""

    text: LensText
    layers: tuple[int, ...]
    before: Tensor
    """`[layers, tokens, directions]` float32 on the CPU: products of the residual stream with unit directions."""
    after: Tensor | None
    """The same of the edited model, really run; None without an edit."""
    sinks: Tensor | None = None
    """`[layers, tokens]` bool, where the state before the edit is an attention sink's; None where sinks are kept."""

    def along(self, direction: int, after: bool = False) -> Tensor:
        """`[layers, tokens]` signed projection on one direction; above 0 is toward toxic text."""
        return self._side(after)[..., direction]

    def norms(self, rank: int, after: bool = False) -> Tensor:
        """`[layers, tokens]` length of the projection on the subspace of the first `rank` directions."""
        return self._side(after)[..., :rank].norm(dim=-1)

    def _side(self, after: bool) -> Tensor:
        if after and self.after is None:
            raise ValueError("These projections were taken without an edit.")
        return self.after if after else self.before


@dataclass(frozen=True, eq=False)
class ProjectionScale:
    """Where colours end, from a study's own texts, so that any two texts can be compared."""

    directions: Tensor
    """`[layers, directions]` the 99th percentile of the absolute projection on each direction."""
    norms: Tensor
    """`[layers, directions]` the 99th percentile of the norm on the first 1, 2, … directions."""


def project_text(
    model: OpenModel,
    text: str,
    bases: Mapping[int, Tensor],
    edit: LowRankEdit | None = None,
    read: Callable[[bool, int, Tensor], None] | None = None,
    sinks: Sinks | None = None,
) -> TokenProjections:
    """Project every token of `text` on directions of each layer, before and, with an `edit`, after it.

    Args:
        bases: layer -> `[directions, hidden]` orthonormal rows, as many for each layer.
        read: is given what else passes by: whether after the edit, the layer, and its states `[tokens, hidden]`.
        sinks: the model's, by which tokens are known as such.

    Raises:
        InputError: see `encode_text`; a state is not finite, or the memory does not suffice.
    """
    encoded = encode_text(model, text)
    sides = [(encoded.ids, None)] + ([(encoded.ids, edit)] if edit is not None else [])
    at_sinks: dict[int, Tensor] = {}

    def hear(row: int, layer: int, states: Tensor) -> None:
        if sinks is not None and row == 0:
            at_sinks[layer] = ~sinks.spare(layer, states).cpu()
        if read is not None:
            read(row == 1, layer, states)

    found = project_rows(model, sides, bases, read=hear)
    known = None if sinks is None else torch.stack([at_sinks[layer] for layer in bases])
    return TokenProjections(encoded, tuple(bases), found[0], found[1] if edit is not None else None, known)


def find_scale(
    model: OpenModel,
    pairs: Sequence[Pair],
    bases: Mapping[int, Tensor],
    sample: int = 64,
    longest: int = 128,
    seed: int = 0,
    progress: Progress = ignore_progress,
    sinks: Sinks | None = None,
) -> ProjectionScale:
    """The colour scale that the texts of `pairs` set: of `sample` of them, drawn by `seed`, both sides.

    Attention sinks do not count. Where `sinks` does not tell them, the first token of a text is taken for one.
    """
    drawn = Random(seed).sample(list(pairs), min(sample, len(pairs)))
    texts = [encode_text(model, text, longest) for pair in drawn for text in (pair.toxic_text, pair.civil_text)]
    counted = [torch.ones(len(bases), len(text.ids), dtype=torch.bool) for text in texts]
    places = {layer: place for place, layer in enumerate(bases)}

    def leave_out(row: int, layer: int, states: Tensor) -> None:
        spare = sinks.spare(layer, states).cpu() if sinks is not None else torch.arange(len(states)) > 0
        # A text of nothing but a sink counts after all.
        counted[row][places[layer]] = spare if spare.any() else True

    found = project_rows(model, [(text.ids, None) for text in texts], bases, progress, leave_out)
    by_layer = [
        torch.cat([states[place][kept[place]] for states, kept in zip(found, counted, strict=True)])
        for place in range(len(bases))
    ]
    return ProjectionScale(
        torch.stack([_percentile(tokens.abs()) for tokens in by_layer]),
        torch.stack([_percentile(tokens.square().cumsum(-1).sqrt()) for tokens in by_layer]),
    )


def _percentile(values: Tensor) -> Tensor:
    """Along the tokens of `[tokens, directions]`; by sorting, as torch's quantile refuses large inputs."""
    return values.sort(dim=0).values[int(SCALE_SHARE * (len(values) - 1))]


def list_tokens(
    found: "TokenProjections", before: list[list[float]], after: list[list[float]] | None
) -> list[tuple[Any, ...]]:
    """A row for each token and layer."""
    return [
        (
            place,
            id,
            token,
            layer,
            before[row][place],
            None if after is None else after[row][place],
            found.sinks is not None and bool(found.sinks[row, place]),
        )
        for place, (id, token) in enumerate(zip(found.text.ids, found.text.tokens, strict=True))
        for row, layer in enumerate(found.layers)
    ]
