"""The toxic subspace of a layer, and what methods find it with: centring, decomposing, angles between subspaces."""

from dataclasses import dataclass

import torch
from torch import Tensor

from detox_engine.errors import InputError

SMALLEST_KEPT = 1e-6
"""A direction whose singular value is below this share of the largest is rounding, not text, and is not kept."""


@dataclass(frozen=True, eq=False)
class ToxicSubspace:
    """Directions of one layer along which toxic texts part from their civil twins."""

    basis: Tensor
    """`[kept, hidden]` orthonormal float32 rows, strongest first, oriented toward toxic text."""

    singular_values: Tensor
    """`[min(pairs, hidden)]` float32, of the directions in their order, then what is left, in falling order; of a
    method with one direction its own, and then all that is left in one number."""

    mean_direction: Tensor
    """`[hidden]` unit vector that centring removes: the first right singular vector of the civil embeddings."""

    polarity: Tensor
    """`[kept]` |mean(Tv)| / rms(Tv), 0 to 1: near 0 a direction varies within toxic text, near 1 between the sides."""

    reads: Tensor | None = None
    """`[kept, hidden]` float32 rows that read what is removed along each row of `basis`: reads @ basisᵀ is the
    identity. None where the basis reads for itself, which makes the removal orthogonal."""

    @property
    def kept(self) -> int:
        return len(self.basis)

    @property
    def shares(self) -> Tensor:
        """Each direction's share of the square of the differences, as the singular values go; they sum to 1."""
        variances = self.singular_values.double().square()
        return (variances / variances.sum()).float()


def require_difference(mean: Tensor, scale: Tensor) -> None:
    """Raise an InputError where the mean difference `[hidden]` is only rounding beside embeddings of size `scale`."""
    if mean.norm() <= 1e-7 * scale:
        raise InputError("The toxic and civil texts have the same mean embedding: there is no direction between them.")


def describe_direction(
    direction: Tensor, total: Tensor, along: Tensor, size: Tensor, pairs: int, mean_direction: Tensor
) -> ToxicSubspace:
    """The subspace of one direction `[hidden]`, turned so that toxic text lies on its positive side.

    Args:
        total: `[hidden]` sum of the differences T over pairs.
        along: ‖T v‖ along the direction v.
        size: ‖T‖².
    """
    mean = total @ direction / pairs
    left = (size - along.square()).clamp(min=0).sqrt()
    polarity = mean.abs() * pairs**0.5 / along
    basis = direction if mean >= 0 else -direction
    return ToxicSubspace(
        basis.float()[None], torch.stack([along, left]).float(), mean_direction.float(), polarity.float()[None]
    )


def find_mean_direction(civil: Tensor) -> Tensor:
    """The first right singular vector of civil embeddings `[pairs, hidden]`, unit length, float64, turned toward them.

    What frequent tokens share lies along it; the paper keeps it out of the subspace (section 4.2).
    """
    wide = civil.double()
    if len(wide) <= wide.shape[1]:
        direction = torch.linalg.eigh(wide @ wide.T).eigenvectors[:, -1] @ wide
    else:
        direction = torch.linalg.eigh(wide.T @ wide).eigenvectors[:, -1]
    length = direction.norm()
    if length == 0:
        raise InputError("The civil texts have embeddings of zero: no mean direction can be taken from them.")
    direction = direction / length
    return direction if (wide @ direction).mean() >= 0 else -direction


def centre(toxic: Tensor, civil: Tensor, mean_direction: Tensor) -> Tensor:
    """Differences toxic − civil without their part along the mean direction: `[pairs, hidden]`, float64."""
    differences = toxic.double() - civil.double()
    return differences - torch.outer(differences @ mean_direction, mean_direction)


def decompose(matrix: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """Singular values `[min(rows, columns)]` and the first right singular vectors `[kept, columns]` of a matrix.

    Goes through the Gram matrix of the smaller side in float64, whose rounding leaves singular values down to
    a millionth of the largest exact to 1e-4. `kept` is at most `keep` and leaves out what is only rounding.
    """
    rows, columns = matrix.shape
    wide = matrix.double()
    eigenvalues, eigenvectors = torch.linalg.eigh(wide @ wide.T if rows <= columns else wide.T @ wide)
    values = eigenvalues.flip(0).clamp(min=0).sqrt()
    kept = min(keep, int((values > SMALLEST_KEPT * values[0]).sum()))
    leading = eigenvectors.flip(1)[:, :kept]
    if rows <= columns:
        # Dividing by small singular values magnifies rounding; QR makes the rows orthonormal again.
        spanning, triangle = torch.linalg.qr((leading.T @ wide / values[:kept, None]).T)
        leading = spanning * triangle.diagonal().sign()
    return values, leading.T


def principal_angles(first: Tensor, second: Tensor) -> Tensor:
    """Principal angles in degrees, `[min(ranks)]` in rising order, between the row spaces of two orthonormal bases.

    From cosines above 0.7 the angle is taken from the sine, which keeps small angles exact (Björck and Golub 1973).
    """
    first, second = first.double(), second.double()
    if len(first) < len(second):
        first, second = second, first
    cosines = torch.linalg.svdvals(second @ first.T).clamp(max=1)
    sines = torch.linalg.svdvals(second - (second @ first.T) @ first).flip(0).clamp(max=1)
    return torch.rad2deg(torch.where(cosines > 0.7, sines.asin(), cosines.acos()))
