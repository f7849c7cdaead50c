"""What a direction card shows beside its tokens: its pairs, its neurons, its kin in other layers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from detox_engine.anatomy import Anatomy
from detox_engine.embeddings import tokenize
from detox_engine.errors import InputError
from detox_engine.lens import Reading, read_tokens
from detox_engine.loading import LoadedModel
from detox_engine.pairs import Pair
from detox_engine.specs import FitPlan, Progress, ignore_progress
from detox_engine.subspace import ToxicSubspace
from detox_engine.token_lens import LensText, encode_text, project_rows

ROWS_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class CarriedText:
    """What each token adds to a text's place along a direction."""

    text: LensText
    projections: Tensor
    """`[tokens]` signed, of each token's own state."""
    contributions: Tensor
    """`[tokens]` the part of each in the sentence embedding's projection, which is their sum."""


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


def carry_pairs(
    loaded: LoadedModel,
    anatomy: Anatomy,
    pairs: Sequence[Pair],
    layer: int,
    direction: Tensor,
    plan: FitPlan,
    progress: Progress = ignore_progress,
) -> tuple[tuple[CarriedText, CarriedText], ...]:
    """For each pair, toxic side first: what each token adds to its place along `direction` `[hidden]` after `layer`.

    Texts are cut and pooled as `plan` says, so that contributions add up to the study's sentence embeddings.
    """
    longest = min(plan.max_length, loaded.context or plan.max_length)
    sides = [(pair.prompt, text) for pair in pairs for text in (pair.toxic_text, pair.civil_text)]
    pooled = [tokenize(loaded, prompt, text, longest, plan.pooling) for prompt, text in sides]
    found = project_rows(loaded, anatomy, [(text.ids, None) for text in pooled], {layer: direction[None]}, progress)
    carried = []
    for (_, text), weighted, projections in zip(sides, pooled, found, strict=True):
        own = projections[0, :, 0]
        carried.append(CarriedText(encode_text(loaded, text, longest), own, own * torch.tensor(weighted.weights)))
    return tuple(zip(carried[0::2], carried[1::2], strict=True))


@torch.inference_mode()
def find_value_vectors(
    anatomy: Anatomy,
    tokenizer: PreTrainedTokenizerBase,
    layer: int,
    direction: Tensor,
    top: int = 10,
    tokens: int = 10,
) -> ValueVectors:
    """The `top` neurons of `layer` whose value vectors point most along `direction` `[hidden]`, and against it.

    Value vectors that promote toxic tokens are those of Lee et al. 2024 (arXiv 2401.01967, section 3), found there
    with a trained probe. Where a norm's gain follows the value layer (Gemma), a row counts as what arrives in the
    residual stream of it.
    """
    if not 0 <= layer < anatomy.layers:
        raise InputError(f"Layer {layer} is outside the model: its layers are 0-{anatomy.layers - 1}.")
    value = anatomy.values[layer]
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
        readings = read_tokens(weight[list(neurons)].float() * gain, anatomy, tokenizer, tokens)
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


def measure_angles(subspaces: Sequence[ToxicSubspace], rank: int = 1) -> Tensor:
    """`[layers, layers, rank]` principal angles in degrees between the first `rank` directions of every two layers.

    In rising order: with rank 1 the angle between the first directions, whatever their signs.
    """
    kept = min(subspace.kept for subspace in subspaces)
    if not 1 <= rank <= kept:
        raise InputError(f"The rank must be 1 to {kept}, the directions kept at every layer, not {rank}.")
    stacked = torch.stack([subspace.basis[:rank].double() for subspace in subspaces])
    # Orthonormal to float64, so that 1 − cos² still holds small angles, to a millionth of a degree.
    rows = torch.linalg.qr(stacked.mT).Q.mT
    layers = len(subspaces)
    flat = rows.reshape(layers * rank, -1)
    one, other = torch.tril_indices(layers, layers, -1)
    products = (flat @ flat.T).reshape(layers, rank, layers, rank).transpose(1, 2)[one, other]
    squares = torch.linalg.eigvalsh(products @ products.mT).flip(-1).clamp(0, 1)
    found = torch.rad2deg(torch.atan2((1 - squares).sqrt(), squares.sqrt())).float()
    angles = torch.zeros(layers, layers, rank)
    angles[one, other] = angles[other, one] = found
    return angles


def measure_cosines(subspaces: Sequence[ToxicSubspace], direction: Tensor) -> Tensor:
    """`[layers, directions]` cosines of a pinned unit `direction` `[hidden]` with every direction all layers kept."""
    kept = min(subspace.kept for subspace in subspaces)
    return torch.stack([functional.linear(subspace.basis[:kept], direction.float()) for subspace in subspaces])
