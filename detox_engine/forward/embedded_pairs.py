"""What an embedding pass leaves: a sentence embedding for each layer, pair and side, and sums over token states.

By itself, so that a study is read without what a model needs: the import of transformers alone takes seconds.
"""

from dataclasses import dataclass, field
from threading import Lock

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Sentence embeddings of both sides of every pair, at every layer."""

    toxic: Tensor
    """`[layers, pairs, hidden]` float32 on the CPU."""

    civil: Tensor
    """`[layers, pairs, hidden]` float32 on the CPU; row i is the twin of row i of `toxic`."""

    tokens: int
    """Real tokens that went through the trunk; padding does not count."""

    cut: tuple[int, ...]
    """Indices of the pairs with a text that was longer than the longest length and lost its end."""

    lengths: Tensor | None = None
    """`[2, pairs]` int64, how many tokens stand for the toxic and the civil text, sinks included; None in studies of
    earlier versions."""

    sinks: tuple[int, ...] = ()
    """By layer, how many tokens were left out as sinks; none where sinks are kept."""

    special: int = 0
    """Texts that hold special tokens of the model, which are read and not counted."""


@dataclass(eq=False)
class TokenMoments:
    """What the states of tokens add up to at every layer: their covariance follows, and they add up over batches."""

    centres: Tensor
    """`[layers, hidden]` float32, near where the states lie: it is taken off them, so that float32 products suffice."""
    count: Tensor
    """`[layers]` int64 tokens."""
    sums: Tensor
    """`[layers, hidden]` float64, of the states less their centre."""
    products: Tensor
    """`[layers, hidden, hidden]` float64, XᵀX of the states less their centre; float32 as read from a file."""
    _lock: Lock = field(default_factory=Lock, repr=False)

    @classmethod
    def empty(cls, centres: Tensor) -> "TokenMoments":
        layers, hidden = centres.shape
        wide = {"dtype": torch.float64}
        products = torch.zeros(layers, hidden, hidden, **wide)
        return cls(centres, torch.zeros(layers, dtype=torch.int64), torch.zeros(layers, hidden, **wide), products)

    def add(self, layer: int, states: Tensor) -> None:
        """Count in the states `[tokens, hidden]` of a layer; threads may do so side by side."""
        shifted = states - self.centres[layer].to(states.device)
        # The product of a batch in float32, where it is fast; what batches come to in any order, in float64.
        product, total = (shifted.T @ shifted).cpu(), shifted.sum(0).cpu()
        with self._lock:
            self.count[layer] += len(states)
            self.sums[layer] += total
            self.products[layer] += product

    def covariance(self, layer: int) -> Tensor:
        """`[hidden, hidden]` float64 covariance of the layer's token states, about their own mean."""
        count = self.count[layer].clamp(min=1)
        mean = self.sums[layer] / count
        return self.products[layer].double() / count - torch.outer(mean, mean)

    def __add__(self, other: "TokenMoments") -> "TokenMoments":
        """The moments of both ones' tokens; both have the same centres."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("count", "sums", "products"))
        return TokenMoments(self.centres, *(one + two for one, two in pairs))

    def as_tensors(self) -> dict[str, Tensor]:
        """Every part under its name, for a file; the products in float32, which is half as large."""
        parts = {name: getattr(self, name) for name in ("centres", "count", "sums")}
        return parts | {"products": self.products.float()}
