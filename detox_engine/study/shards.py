"""A shard of pairs on its way into the sums of a fit, wherever it is embedded: each layer's sums can be taken away and
added elsewhere, and no more than one layer need lie in one piece.

Which pairs are kept as the sample is decided where the pairs are read, in their order; a shard carries the places. So
neither the sample nor the sums depend on who embeds a shard, or on when.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detox_engine.data.columns import Pair
from detox_engine.errors import Progress, ignore_progress
from detox_engine.forward.embed import embed_pairs
from detox_engine.forward.embedded_pairs import Embeddings, TokenMoments
from detox_engine.forward.sinks import Sinks
from detox_engine.model.load import OpenModel
from detox_engine.model.threads import run_side_by_side
from detox_engine.plans.fit import Pooling
from detox_engine.study.moments import Moments, find_loudest

LayerSums = Mapping[str, NDArray]
"""What pairs come to at one layer: `MOMENTS` and `TOKENS` add up; of the sample `places` `[kept]` with their embeddings
`toxic` and `civil`, `[kept, hidden]` each, stand one after the other."""

MOMENTS = tuple(field.name for field in fields(Moments))
TOKENS = ("token_count", "token_sums", "token_products")
SAMPLE = ("places", "toxic", "civil_rows")
MAPPED_FROM = 2**32
"""Bytes of the sums of all layers from which on they lie in a file that is mapped, for the system to hold as much of in
memory as there is room for."""


@dataclass(frozen=True)
class Work:
    """What is done with every shard of a fit."""

    max_length: int
    pooling: Pooling
    sinks: Sinks | None
    room: int
    """Places of the sample."""
    sums_pairs: bool = True
    """Whether the moments of pairs are wanted, and not only the sample."""
    sums_tokens: bool = False
    """Whether those of civil tokens are."""


@dataclass(frozen=True)
class Shard:
    """Pairs that stand together in their source."""

    number: int
    pairs: tuple[Pair, ...]
    placed: Mapping[int, int]
    """Place in the sample -> index of the pair that goes there."""
    held_out: frozenset[int] = frozenset()
    """Indices of pairs whose tokens are not counted."""


@dataclass(frozen=True, eq=False)
class Counted:
    """What is known of a shard's texts besides sums: small, whatever the model."""

    tokens: int
    cut: frozenset[int]
    """Indices of pairs that lost the end of a text."""
    special: int
    sinks: tuple[int, ...]
    lengths: Tensor | None
    """`[2, pairs]`"""

    @staticmethod
    def of(embeddings: Embeddings) -> "Counted":
        told = embeddings
        return Counted(told.tokens, frozenset(told.cut), told.special, told.sinks, told.lengths)


class Sums:
    """What shards come to at every layer."""

    def __init__(self, layers: int, hidden: int, work: Work, mapped: bool = False) -> None:
        """
        Args:
            mapped: whether what has `[hidden, hidden]` numbers a layer may lie in a file.
        """
        squares = 8 * layers * hidden**2 * (2 * work.sums_pairs + work.sums_tokens)
        self._zeros = map_zeros if mapped and squares >= MAPPED_FROM else _make_zeros
        shape = layers, hidden, hidden
        self.moments: list[Moments] | None = None
        if work.sums_pairs:
            civil, differences = self._zeros(shape), self._zeros(shape)
            self.moments = [_start_moments(*squares) for squares in zip(civil, differences, strict=True)]
        self.tokens: TokenMoments | None = None
        if work.sums_tokens:
            centres = torch.zeros(layers, hidden) if work.sinks is None else work.sinks.centres
            counts, sums = torch.zeros(layers, dtype=torch.int64), torch.zeros(layers, hidden, dtype=torch.float64)
            self.tokens = TokenMoments(centres, counts, sums, self._zeros(shape))
        self.sides = torch.zeros(2, layers, work.room, hidden)
        """Toxic and civil embeddings of the sample."""
        self._owners: dict[int, int] = {}
        """Place -> the shard whose pair stands there."""

    def add(self, model: OpenModel, work: Work, shard: Shard, progress: Progress = ignore_progress) -> Counted:
        """Embed a shard and count it in.

        Raises:
            InputError: as `embed_pairs`.
        """
        embeddings = embed_pairs(
            model,
            shard.pairs,
            work.max_length,
            work.pooling,
            progress=progress,
            sinks=work.sinks,
            moments=self.tokens,
            held_out=shard.held_out,
        )
        if self.moments is not None:
            add_to_all(self.moments, embeddings)
        # A shard that is done again comes after later ones, whose pairs have taken its places.
        placed = {place: index for place, index in shard.placed.items() if self._owners.get(place, -1) < shard.number}
        self._owners |= dict.fromkeys(placed, shard.number)
        places, indices = list(placed), list(placed.values())
        for side, states in zip(self.sides, (embeddings.toxic, embeddings.civil), strict=True):
            side[:, places] = states[:, indices]
        return Counted.of(embeddings)

    def take(self, layer: int, places: Sequence[int]) -> LayerSums:
        """The sums of a layer, and these places of its sample."""
        found: dict[str, NDArray] = {"places": np.array(places, dtype=np.int64)}
        found["toxic"], found["civil_rows"] = (side[layer, list(places)].numpy() for side in self.sides)
        if self.moments is not None:
            found |= {name: getattr(self.moments[layer], name).numpy() for name in MOMENTS}
        if self.tokens is not None:
            found |= dict(zip(TOKENS, (part.numpy() for part in self._of_tokens(layer)), strict=True))
        return found

    def put(self, layer: int, part: LayerSums) -> None:
        """Count in what was taken elsewhere."""
        for side, name in zip(self.sides, SAMPLE[1:], strict=True):
            side[layer].numpy()[part["places"]] = part[name]
        if self.moments is not None:
            own = self.moments[layer]
            for name in MOMENTS[:-1]:
                getattr(own, name).numpy()[...] += part[name]
            own.loudest = join_loudest(own.loudest.numpy(), part["loudest"])
        if self.tokens is not None:
            for own, name in zip(self._of_tokens(layer), TOKENS, strict=True):
                own.numpy()[...] += part[name]

    def _of_tokens(self, layer: int) -> tuple[Tensor, ...]:
        whole = self.tokens.count[layer : layer + 1], self.tokens.sums[layer], self.tokens.products[layer]
        return tuple(part.detach() for part in whole)


def add_layer_sums(one: LayerSums, other: LayerSums) -> LayerSums:
    """What both came to."""
    found = {name: np.concatenate([one[name], other[name]]) for name in SAMPLE}
    if "loudest" in one:
        found["loudest"] = join_loudest(one["loudest"], other["loudest"]).numpy()
    return found | {name: one[name] + other[name] for name in one.keys() - found.keys()}


def join_loudest(one: NDArray, other: NDArray) -> Tensor:
    return find_loudest(torch.from_numpy(np.concatenate([one, other])))


def add_to_all(moments: Sequence[Moments], embeddings: Embeddings) -> None:
    """Count embeddings in at every layer."""
    run_side_by_side(lambda layer: moments[layer].add(embeddings.toxic[layer], embeddings.civil[layer]), len(moments))


def map_zeros(shape: Sequence[int]) -> Tensor:
    """Float64 zeros in a file that goes with them: memory that the system may write out and read back."""
    size = int(np.prod(shape))
    with tempfile.NamedTemporaryFile(prefix="detox-sums-", delete=False) as file:
        file.truncate(8 * size)
    try:
        return torch.from_file(file.name, shared=True, size=size, dtype=torch.float64).view(*shape)
    finally:
        Path(file.name).unlink()


def _make_zeros(shape: Sequence[int]) -> Tensor:
    return torch.zeros(*shape, dtype=torch.float64)


def _start_moments(civil: Tensor, differences: Tensor) -> Moments:
    hidden = len(civil)
    lines = (torch.zeros(hidden, dtype=torch.float64) for _ in range(2))
    return Moments(
        torch.zeros(1, dtype=torch.int64), civil, next(lines), differences, next(lines), torch.empty(0, hidden)
    )
