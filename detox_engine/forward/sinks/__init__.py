"""Attention sinks, and the massive dimensions that they live in: a property of a model, found before it is fitted.

Some tokens, mostly the first of a text, serve attention as a place to rest (Xiao et al. 2024, arXiv 2309.17453): their
states are a hundred times as long as all others, in a few dimensions that are the same for every text (massive
activations, Sun et al. 2024, arXiv 2402.17762). They say nothing about the text. In a mean over tokens they weigh
“sink / number of tokens”, so that directions of texts of unequal length follow that length; and a direction that
overlaps their dimensions spoils what later layers write to cancel them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

FACTOR = 5.0
"""A state whose norm is above this many medians of its layer is a sink's."""


@dataclass(frozen=True, eq=False)
class Sinks:
    """What the states of a model are at a sink and elsewhere, layer by layer; `find_sinks` finds them."""

    medians: Tensor
    """`[layers]` median norm of a token's state."""
    sizes: Tensor
    """`[layers]` norm of the largest state of a text, in medians: the median over texts. Below `FACTOR` the layer has
    no sink."""
    centres: Tensor
    """`[layers, hidden]` mean of the states that are no text's largest: where token states lie."""
    dimensions: tuple[int, ...]
    """The massive dimensions, in rising order."""
    writers: tuple[int, ...]
    """Layers that write what is in the massive dimensions, or cancel it: with them it changes by more than half."""

    def spare(self, layer: int, states: Tensor) -> Tensor:
        """Which of `states` `[..., hidden]` after `layer` are no sink's, `[...]` bool; all where the layer has none."""
        limit = FACTOR * float(self.medians[layer]) if float(self.sizes[layer]) > FACTOR else torch.inf
        return torch.linalg.vector_norm(states, dim=-1, dtype=torch.float32) <= limit

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers after which there are sinks."""
        return tuple((self.sizes > FACTOR).nonzero()[:, 0].tolist())

    def as_tensors(self) -> dict[str, Tensor]:
        """Every part under its name, for a file; `of_tensors` reads them."""
        return {
            "medians": self.medians,
            "sizes": self.sizes,
            "centres": self.centres,
            "dimensions": torch.tensor(self.dimensions, dtype=torch.int64),
            "writers": torch.tensor(self.writers, dtype=torch.int64),
        }

    @staticmethod
    def of_tensors(parts: Mapping[str, Tensor]) -> "Sinks":
        places = {name: tuple(parts[name].tolist()) for name in ("dimensions", "writers")}
        return Sinks(parts["medians"], parts["sizes"], parts["centres"], **places)
