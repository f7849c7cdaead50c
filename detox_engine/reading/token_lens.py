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
from detox_engine.forward.tokens import LensText, encode_text, project_rows
from detox_engine.model.load import OpenModel

SCALE_SHARE = 0.99
TOKEN = ("position", "id", "token", "layer", "before", "after")
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
) -> TokenProjections:
    """Project every token of `text` on directions of each layer, before and, with an `edit`, after it.

    Args:
        bases: layer -> `[directions, hidden]` orthonormal rows, as many for each layer.
        read: is given what else passes by: whether after the edit, the layer, and its states `[tokens, hidden]`.

    Raises:
        InputError: see `encode_text`; a state is not finite, or the memory does not suffice.
    """
    encoded = encode_text(model, text)
    sides = [(encoded.ids, None)] + ([(encoded.ids, edit)] if edit is not None else [])
    hear = None if read is None else lambda row, layer, states: read(row == 1, layer, states)
    found = project_rows(model, sides, bases, read=hear)
    return TokenProjections(encoded, tuple(bases), found[0], found[1] if edit is not None else None)


def find_scale(
    model: OpenModel,
    pairs: Sequence[Pair],
    bases: Mapping[int, Tensor],
    sample: int = 64,
    longest: int = 128,
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> ProjectionScale:
    """The colour scale that the texts of `pairs` set: of `sample` of them, drawn by `seed`, both sides.

    The first token of a text does not count: many models park attention there, in states of enormous norm.
    """
    drawn = Random(seed).sample(list(pairs), min(sample, len(pairs)))
    texts = [encode_text(model, text, longest) for pair in drawn for text in (pair.toxic_text, pair.civil_text)]
    found = project_rows(model, [(text.ids, None) for text in texts], bases, progress)
    later = torch.cat([states[:, 1:] if states.shape[1] > 1 else states for states in found], dim=1)
    norms = later.square().cumsum(-1).sqrt()
    return ProjectionScale(_percentile(later.abs()), _percentile(norms))


def _percentile(values: Tensor) -> Tensor:
    """Along the tokens of `[layers, tokens, directions]`; by sorting, as torch's quantile refuses large inputs."""
    return values.sort(dim=1).values[:, int(SCALE_SHARE * (values.shape[1] - 1))]


def list_tokens(
    found: "TokenProjections", before: list[list[float]], after: list[list[float]] | None
) -> list[tuple[Any, ...]]:
    """A row for each token and layer."""
    return [
        (place, id, token, layer, before[row][place], None if after is None else after[row][place])
        for place, (id, token) in enumerate(zip(found.text.ids, found.text.tokens, strict=True))
        for row, layer in enumerate(found.layers)
    ]
