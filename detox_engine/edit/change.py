"""What a row of a batch can carry besides the model as it is: a change of it, or of what is asked of it.

Directions that are removed are the project's own (`low_rank`); the others are what they are held against: a trained
adapter, words that are barred, an instruction in front of the prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor


class Change:
    """What rows of one forward pass may differ in. Two changes are equal only if they are the same object."""

    strength: float
    """How much of it is done: 0 nothing."""
    usual: ClassVar[float] = 1.0
    """The strength with which one of a certain cost begins to be looked for."""
    strongest: ClassVar[float] = 8.0
    """The strongest at which it is looked for; the usual one where it cannot be done by halves."""
    prefix: tuple[int, ...] = ()
    """Tokens that stand in front of every text."""

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers in which it changes the pass, in rising order."""
        return ()

    def at_layer(self, layer: int) -> Self | None:
        """The part of it that changes `layer`."""
        return None

    def at_strength(self, strength: float) -> Self:
        return replace(self, strength=strength)


@dataclass(frozen=True, eq=False)
class Adapter(Change):
    """A low-rank change of linear modules of the blocks, such as DPO trains: out ← out + α (x Aᵀ) Bᵀ."""

    factors: Mapping[int, Mapping[str, tuple[Tensor, Tensor]]]
    """Layer -> a module's name within its block -> A `[rank, in]` and B `[out, rank]`; B holds the LoRA's scale."""
    strength: float = 1.0

    usual: ClassVar[float] = 0.25
    strongest: ClassVar[float] = 4.0

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(sorted(self.factors))

    def at_layer(self, layer: int) -> "Adapter | None":
        return replace(self, factors={layer: self.factors[layer]}) if layer in self.factors else None


@dataclass(frozen=True, eq=False)
class Penalty(Change):
    """Tokens made less probable: their logits are lowered by `NATS` times the strength, and barred at ∞."""

    tokens: tuple[int, ...]
    strength: float = 1.0

    usual: ClassVar[float] = 0.5
    NATS: ClassVar[float] = 10.0

    def lower(self, logits: Tensor) -> Tensor:
        """Logits `[..., vocab]` as it leaves them."""
        lowered = logits.clone()
        lowered[..., list(self.tokens)] -= self.NATS * self.strength
        return lowered


@dataclass(frozen=True, eq=False)
class Instruction(Change):
    """Tokens in front of every prompt and every text, which the model reads as they are."""

    prefix: tuple[int, ...]
    strength: float = 1.0

    strongest: ClassVar[float] = 1.0


def adjust_logits(logits: Tensor, changes: Sequence[Change | None]) -> Tensor:
    """Logits `[rows, ..., vocab]`, each row's as its change leaves them; the same tensor where none changes any."""
    lowering = dict.fromkeys(each for each in changes if isinstance(each, Penalty) and each.strength != 0)
    if lowering:
        logits = logits.clone()
    for change in lowering:
        rows = [row for row, each in enumerate(changes) if each is change]
        logits[rows] = change.lower(logits[rows])
    return logits
