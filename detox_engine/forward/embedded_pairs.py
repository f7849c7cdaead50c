"""What an embedding pass leaves: a sentence embedding for each layer, pair and side.

By itself, so that a study is read without what a model needs: the import of transformers alone takes seconds.
"""

from dataclasses import dataclass

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
