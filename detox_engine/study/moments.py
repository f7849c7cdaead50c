"""Sums over pairs from which a layer's subspace follows: they add up, so memory does not grow with the pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from detox_engine.errors import InputError


@dataclass(eq=False)
class Moments:
    """What the pairs seen so far add up to, at one layer."""

    count: Tensor
    """`[1]` pairs."""
    civil: Tensor
    """`[hidden, hidden]` float64, EᵀE of the civil embeddings."""
    civil_sum: Tensor
    """`[hidden]` float64."""
    differences: Tensor
    """`[hidden, hidden]` float64, TᵀT of the differences toxic − civil."""
    differences_sum: Tensor
    """`[hidden]` float64."""
    loudest: Tensor
    """`[≤ hidden / 2, hidden]` float32, the largest differences themselves, largest first: the null of parallel
    analysis depends on how they stand out (see `draw_null_spectra_of`)."""

    @classmethod
    def empty(cls, hidden: int) -> "Moments":
        wide = {"dtype": torch.float64}
        square, line = (hidden, hidden), (hidden,)
        return cls(
            torch.zeros(1, dtype=torch.int64),
            torch.zeros(square, **wide),
            torch.zeros(line, **wide),
            torch.zeros(square, **wide),
            torch.zeros(line, **wide),
            torch.empty(0, hidden),
        )

    @property
    def hidden(self) -> int:
        return len(self.civil)

    def add(self, toxic: Tensor, civil: Tensor) -> None:
        """Count in more pairs, by the embeddings `[pairs, hidden]` of both sides."""
        wide = civil.double()
        differences = toxic.double() - wide
        self.count += len(wide)
        self.civil.addmm_(wide.T, wide)
        self.civil_sum += wide.sum(0)
        self.differences.addmm_(differences.T, differences)
        self.differences_sum += differences.sum(0)
        self.loudest = find_loudest(torch.cat([self.loudest, differences.float()]))

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of both ones' pairs."""
        sums = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)[:-1]}
        return Moments(**sums, loudest=find_loudest(torch.cat([self.loudest, other.loudest])))


def find_loudest(differences: Tensor) -> Tensor:
    """The largest half as many as they are wide, at most, of differences `[pairs, hidden]`; largest first."""
    room = min(differences.shape[1] // 2, len(differences))
    return differences[differences.norm(dim=1).topk(room).indices]


def find_mean_direction_of(moments: Moments) -> Tensor:
    """As `subspace.find_mean_direction`: `[hidden]`, unit length, float64."""
    eigenvalues, eigenvectors = torch.linalg.eigh(moments.civil)
    if eigenvalues[-1] <= 0:
        raise InputError("The civil texts have embeddings of zero: no mean direction can be taken from them.")
    direction = eigenvectors[:, -1]
    return direction if moments.civil_sum @ direction >= 0 else -direction


def centre_gram(gram: Tensor, mean_direction: Tensor) -> Tensor:
    """TᵀT `[hidden, hidden]` of the differences once they are centred, from what it is before."""
    along = gram @ mean_direction
    once = torch.outer(mean_direction, along - 0.5 * (along @ mean_direction) * mean_direction)
    return gram - once - once.T


def save_moments(moments: Sequence[Moments], file: Path) -> None:
    save_file(
        {
            f"layers.{layer}.{field.name}": getattr(one, field.name).contiguous()
            for layer, one in enumerate(moments)
            for field in fields(one)
        },
        file,
    )


def load_moments(file: Path, layers: int) -> tuple[Moments, ...]:
    """What `save_moments` wrote; the file is mapped, so that nothing is read before it is used."""
    tensors = load_file(file)
    return tuple(
        Moments(**{field.name: tensors[f"layers.{layer}.{field.name}"] for field in fields(Moments)})
        for layer in range(layers)
    )
