"""What a direction card shows beside its tokens: its pairs, its neurons, its kin in other layers."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from scipy.special import betaincinv
from torch import Tensor

from detox_engine.model.load import OpenModel
from detox_engine.reading.lens import Reading, read_tokens

ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class ValueVector:
    """One neuron's row of a block's MLP value matrix, in a mixture of one expert's.

    It is what the neuron writes into the residual stream when it fires.
    """

    neuron: int
    cosine: float
    """With the direction."""
    length: float
    """Norm of the row."""
    reading: Reading
    """The row itself through the logit lens."""
    expert: str = ""
    """Which of a mixture's experts it belongs to, a number or `shared`; empty where there are none."""

    @property
    def label(self) -> str:
        """The neuron by its number, of a mixture within its expert."""
        return f"{self.expert}:{self.neuron}" if self.expert else str(self.neuron)


@dataclass(frozen=True)
class ValueVectors:
    """The neurons of a layer that write most along a direction, for a positive activation."""

    toward: tuple[ValueVector, ...]
    """Nearest to the direction, largest cosine first."""
    away: tuple[ValueVector, ...]
    """Nearest to its opposite, smallest cosine first; where a gate can make activations negative, as in Llama's
    MLPs, these write toward the direction as well."""
    chance: float
    """What the largest cosine would be among as many random vectors; see `expect_largest_cosine`."""


@torch.inference_mode()
def find_value_vectors(
    model: OpenModel,
    layer: int,
    direction: Tensor,
    top: int = 10,
    tokens: int = 10,
) -> ValueVectors:
    """The `top` neurons of `layer` whose value vectors point most along `direction` `[hidden]`, and against it.

    Value vectors that promote toxic tokens are those of Lee et al. 2024 (arXiv 2401.01967, section 3), found there
    with a trained probe. Where a norm's gain follows the value layer (Gemma), a row counts as what arrives in the
    residual stream of it. What attention writes is no part of it.
    """
    value = model.anatomy.value_at(layer)
    along = direction.to(value.device).float()
    gain = torch.ones_like(along) if value.gain is None else value.gain.to(value.device).float()
    products, lengths, matrices = [], [], []
    for weight in value.matrices():
        matrices.append(weight)
        # A few rows at a time: as a whole the matrix is never copied to float32.
        for start in range(0, len(weight), ROWS_AT_ONCE):
            rows = weight[start : start + ROWS_AT_ONCE].to(along.device).float() * gain
            products.append(rows @ along)
            lengths.append(rows.norm(dim=1))
    length = torch.cat(lengths)
    cosines = torch.cat(products) / (length * along.norm()).clamp(min=1e-12)
    order = cosines.argsort(descending=True).tolist()
    starts = [0, *accumulate(len(weight) for weight in matrices)]
    names = value.list_names()

    def describe(rows: Sequence[int]) -> tuple[ValueVector, ...]:
        places = [(bisect_right(starts, row) - 1, row) for row in rows]
        vectors = torch.stack([matrices[which][row - starts[which]].to(along.device) for which, row in places])
        readings = read_tokens(vectors.float() * gain, model, tokens)
        return tuple(
            ValueVector(row - starts[which], float(cosines[row]), float(length[row]), reading, names[which])
            for (which, row), reading in zip(places, readings, strict=True)
        )

    chance = expect_largest_cosine(len(cosines), len(along))
    return ValueVectors(describe(order[:top]), describe(order[::-1][:top]), chance)


def expect_largest_cosine(vectors: int, hidden: int) -> float:
    """About the largest cosine of a direction with so many random vectors of width `hidden`.

    The median of the largest: (1 + cosine) / 2 of a random vector follows the beta distribution with both parameters
    (hidden − 1) / 2.
    """
    half = max(1, hidden - 1) / 2
    return float(2 * betaincinv(half, half, 0.5 ** (1 / vectors)) - 1)
