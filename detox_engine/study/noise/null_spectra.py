"""How many directions are more than chance: parallel analysis with deflation, where it is asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy
import torch
from torch import Tensor

from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.forward.embedded_pairs import Embeddings
from detox_engine.model.threads import run_side_by_side
from detox_engine.study.subspace import ToxicSubspace, centre

STAGE = "Drawing null spectra"

DEVIATIONS = 3.0
"""How far above the null's mean, in its standard deviations, a singular value must lie to be called real.

The largest singular value of noise follows the Tracy–Widom law, which exceeds this in 0.45 of 100 draws; with mean and
deviation estimated from 20 draws, in about 1 of 100.
"""


@dataclass(frozen=True, eq=False)
class NullSpectrum:
    """What the singular values of one layer would be if, past the real directions, there were no structure."""

    draws: Tensor
    """`[draws, kept]` float32. From the first rank that is not real on: the singular values of the null of what is
    left once the real directions are removed. At a real rank: the largest singular value of the null that this rank
    was held against, that of what was left when the ranks before it had been removed."""

    @property
    def threshold(self) -> Tensor:
        """`[kept]` what a singular value must exceed to count: mean + `DEVIATIONS` standard deviations of the null."""
        return _threshold(self.draws)

    def band(self) -> Tensor:
        """`[3, kept]` 5th, 50th and 95th percentile of the null over its draws, for a chart beside the spectrum."""
        return self.draws.quantile(torch.tensor((0.05, 0.5, 0.95)), dim=0)

    def count_real(self, singular_values: Tensor) -> int:
        """How many leading singular values lie above the threshold: 0 where none does, `kept` where all do."""
        threshold = self.threshold
        above = singular_values[: len(threshold)] > threshold
        return int(above.cumprod(0).sum())


class Residual(Protocol):
    """What is left of one layer's centred differences without their first directions."""

    def draw_null(self, noise: Tensor) -> Tensor:
        """A matrix whose singular values are those of a draw of the null, from the randomness of that draw."""


@dataclass(frozen=True, eq=False)
class _Residual:
    """What is left of one layer's centred differences without their first directions."""

    matrix: Tensor
    """`[hidden, pairs]` float32, transposed so that a column of the differences lies together."""
    left: Tensor
    """`[removed, pairs]` orthonormal rows that the residual has nothing along."""
    right: Tensor
    """`[1 + removed, hidden]` likewise: the mean direction and the removed directions."""

    def draw_null(self, noise: Tensor) -> Tensor:
        """The same sizes with random signs, without structure, nothing along what the residual has nothing along."""
        null = self.matrix * noise
        null -= self.right.T @ (self.right @ null)
        null -= (null @ self.left.T) @ self.left
        for side in (1, 0):
            null *= self.matrix.norm(dim=side, keepdim=True) / null.norm(dim=side, keepdim=True).clamp(min=1e-30)
        return null


def draw_null_spectra(
    embeddings: Embeddings,
    subspaces: Sequence[ToxicSubspace],
    draws: int = 20,
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> tuple[NullSpectrum, ...]:
    """The null spectrum of every layer, for the ranks that its subspace keeps. Progress counts draws.

    A draw of the null gives every entry of the centred differences a random sign of its own. That destroys what the
    rows share and their mean, which is the toxic direction itself, and leaves the size of every entry. (Flipping
    whole rows would leave the singular values as they are.)

    This departs from Horn's analysis as the method describes it (permute each column, flip signs, 95th percentile)
    in four ways, each measured on the synthetic factor model of the tests:

    - Deflation (Dobriban and Owen 2019): strong directions swell the null and hide weak ones (planted 5: 3 or 4
      found). Whatever exceeds the largest null value is removed and the null drawn of the rest, until nothing does.
    - The null loses its part along the mean direction and all removed directions, as the residual has, and regains
      the residual's column and row norms; otherwise it fills more dimensions than the residual, with other sizes.
      (Planted 5, differences with noise 0.24, 200 pairs, 64 hidden: right in 73 of 100 draws without, 98 with.)
    - No permutation, only signs (Hong, Sheng and Dobriban 2020). Permuting mixes loud rows with quiet ones, and
      short texts are louder; with noise of the rows spread by exp(normal / 2), planted 0: 0 of 100, then 100. The
      row norms cure that, but with noise of the columns so spread 53 of 100 are right with permuting, 95 without.
    - Mean plus three deviations instead of the 95th percentile, which is wrong in 5 of 100 draws by definition and
      in more where 20 draws estimate it. (Planted 0, the first and third ways apart: 32 of 40.)

    Together: planted 0, 1, 2 and 5 at noise 0.02 and 0.3, with 200 pairs and 64 hidden, 60 and 96, 300 and 48, 100
    and 200: right in 195 to 200 of 200 draws each. Where the noise of the columns is spread as above, one direction
    too many is common (planted 5: 75 of 100 right). Texts have no flat noise: on the bundled model and on SmolLM2-135M
    all 32 kept directions are more than chance in every layer, or nearly. So what a study shows is how many stand out
    (`find_noise_threshold`), and this is drawn where it is asked for.
    """
    _, pairs, hidden = embeddings.toxic.shape
    return run_parallel_analysis(
        subspaces,
        lambda layer, count: _deflate(embeddings, layer, subspaces[layer], count),
        lambda draw: _draw_signs(hidden, pairs, (seed, draw)),
        draws,
        progress,
    )


def run_parallel_analysis(
    subspaces: Sequence[ToxicSubspace],
    deflate: Callable[[int, int], Residual],
    draw_noise: Callable[[int], Tensor],
    draws: int,
    progress: Progress,
) -> tuple[NullSpectrum, ...]:
    """The null spectrum of every layer, removing what is real until nothing is.

    Args:
        deflate: what is left of a layer without so many of its first directions.
        draw_noise: the randomness of a draw, which all layers share.
    """
    if draws < 2:
        raise InputError(f"Parallel analysis needs 2 draws of the null or more, not {draws}; 20 are usual.")
    spectra = [torch.empty(draws, subspace.kept) for subspace in subspaces]
    removed = {layer: 0 for layer, subspace in enumerate(subspaces) if subspace.kept}
    done = 0
    while removed:
        residuals = {layer: deflate(layer, count) for layer, count in removed.items()}

        def draw_null(draw: int, residuals: dict[int, Residual] = residuals) -> dict[int, Tensor]:
            noise = draw_noise(draw)
            return {layer: _singular_values(residual.draw_null(noise)) for layer, residual in residuals.items()}

        nulls = run_side_by_side(draw_null, draws, STAGE, progress, done)
        done += draws
        for layer, count in tuple(removed.items()):
            kept = subspaces[layer].kept
            null = torch.stack([draw[layer][: kept - count] for draw in nulls])
            spectra[layer][:, count:] = null
            real = int((subspaces[layer].singular_values[count:kept] > _threshold(null[:, 0])).sum())
            spectra[layer][:, count : count + real] = null[:, :1]
            removed[layer] = count + real
            if real == 0 or count + real == kept:
                del removed[layer]
    return tuple(NullSpectrum(spectrum) for spectrum in spectra)


def _threshold(draws: Tensor) -> Tensor:
    return draws.mean(0) + DEVIATIONS * draws.std(0)


def _deflate(embeddings: Embeddings, layer: int, subspace: ToxicSubspace, count: int) -> _Residual:
    mean_direction = subspace.mean_direction.double()
    differences = centre(embeddings.toxic[layer], embeddings.civil[layer], mean_direction)
    basis = subspace.basis[:count].double()
    projections = differences @ basis.T
    left = (projections / subspace.singular_values[:count].double()).T
    right = torch.cat([mean_direction[None], basis])
    return _Residual((differences - projections @ basis).T.float().contiguous(), left.float(), right.float())


def _draw_signs(hidden: int, pairs: int, seed: Sequence[int]) -> Tensor:
    """`[hidden, pairs]` of 1 and -1; all layers of a draw share them."""
    bits = numpy.random.default_rng(seed).integers(0, 2, (hidden, pairs), dtype=numpy.int8)
    return torch.from_numpy(bits).float().mul_(2).sub_(1)


def _singular_values(matrix: Tensor) -> Tensor:
    """All singular values in falling order, by the smaller Gram matrix."""
    rows, columns = matrix.shape
    gram = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
    return torch.linalg.eigvalsh(gram).flip(0).clamp(min=0).sqrt()
