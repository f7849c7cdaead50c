"""What a direction card shows beside its tokens: its pairs, its neurons, its kin in other layers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.special import betaincinv
from torch import Tensor

from detox_engine.model.load import OpenModel
from detox_engine.reading.lens import Reading, read_tokens

ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class ValueVector:
    """One neuron's row of a block's MLP value matrix: what it writes into the residual stream when it fires."""

    neuron: int
    cosine: float
    """With the direction."""
    length: float
    """Norm of the row."""
    reading: Reading
    """The row itself through the logit lens."""


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
    weight = value.rows
    along = direction.to(weight.device).float()
    gain = torch.ones_like(along) if value.gain is None else value.gain.to(weight.device).float()
    products, lengths = torch.empty(2, len(weight), device=weight.device)
    # A few rows at a time: as a whole the matrix is never copied to float32.
    for start in range(0, len(weight), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        rows = weight[part].float() * gain
        products[part], lengths[part] = rows @ along, rows.norm(dim=1)
    cosines = products / (lengths * along.norm()).clamp(min=1e-12)
    order = cosines.argsort(descending=True).tolist()

    def describe(neurons: Sequence[int]) -> tuple[ValueVector, ...]:
        readings = read_tokens(weight[list(neurons)].float() * gain, model, tokens)
        return tuple(
            ValueVector(neuron, float(cosines[neuron]), float(lengths[neuron]), reading)
            for neuron, reading in zip(neurons, readings, strict=True)
        )

    chance = expect_largest_cosine(*weight.shape)
    return ValueVectors(describe(order[:top]), describe(order[::-1][:top]), chance)


def expect_largest_cosine(vectors: int, hidden: int) -> float:
    """About the largest cosine of a direction with so many random vectors of width `hidden`.

    The median of the largest: (1 + cosine) / 2 of a random vector follows the beta distribution with both parameters
    (hidden − 1) / 2.
    """
    half = max(1, hidden - 1) / 2
    return float(2 * betaincinv(half, half, 0.5 ** (1 / vectors)) - 1)
