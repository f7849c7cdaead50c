"""How many directions are real: Horn's parallel analysis of the centred differences (method, "Choosing the rank")."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detox_engine.embeddings import Embeddings
from detox_engine.specs import Progress, ignore_progress
from detox_engine.subspace import ToxicSubspace, centre

QUANTILE = 0.95


@dataclass(frozen=True, eq=False)
class NullSpectrum:
    """Singular values of data with the same entries as the differences of one layer, but no structure."""

    draws: Tensor
    """`[draws, kept]` the leading singular values of each draw, in falling order."""

    @property
    def threshold(self) -> Tensor:
        """`[kept]` the 95th percentile over the draws, for each rank."""
        return self.draws.double().quantile(QUANTILE, dim=0).float()

    def suggest_rank(self, singular_values: Tensor) -> int:
        """The number of leading singular values above the null's 95th percentile; 0 where none stands out."""
        threshold = self.threshold
        above = singular_values[: len(threshold)] > threshold
        return int(above.cumprod(0).sum())


def draw_null_spectra(
    embeddings: Embeddings,
    subspaces: Sequence[ToxicSubspace],
    draws: int = 20,
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> tuple[NullSpectrum, ...]:
    """The null spectrum of every layer, for the ranks that the layer's subspace keeps.

    Each draw permutes every column of the centred differences and gives every entry a random sign: that keeps
    the size of the entries and destroys both what the rows share and their mean, which is the toxic direction
    itself. (Flipping whole rows would leave the singular values as they are.) All layers share a draw's
    permutations; each layer's null is valid by itself. Progress counts draws.
    """
    generator = torch.Generator().manual_seed(seed)
    layers, pairs, hidden = embeddings.toxic.shape
    differences = [
        centre(embeddings.toxic[layer], embeddings.civil[layer], subspaces[layer].mean_direction.double()).float()
        for layer in range(layers)
    ]
    spectra = [torch.empty(draws, subspace.kept) for subspace in subspaces]
    for draw in range(draws):
        progress("null spectra", draw, draws)
        order = torch.rand(pairs, hidden, generator=generator).argsort(dim=0)
        signs = torch.randint(0, 2, (pairs, hidden), generator=generator).mul_(2).sub_(1).float()
        for layer, matrix in enumerate(differences):
            shuffled = matrix.gather(0, order).mul_(signs)
            gram = shuffled @ shuffled.T if pairs <= hidden else shuffled.T @ shuffled
            values = torch.linalg.eigvalsh(gram).flip(0)[: subspaces[layer].kept]
            spectra[layer][draw] = values.clamp(min=0).sqrt()
    progress("null spectra", draws, draws)
    return tuple(NullSpectrum(spectrum) for spectrum in spectra)
