"""Linear algebra of small symmetric matrices in elementary operations: no wait for the device, and any exporter."""

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.geometry._eigenvector import dominant_eigenvector

__all__: list[str] = []

# Squarings of a matrix before its columns are taken for an eigenvector.
_SQUARINGS = 8


def eliminate(
    matrix: Float[Tensor, "N N *batch"],
) -> tuple[Float[Tensor, "N N *batch"], Float[Tensor, "*batch"]]:
    """Invert symmetric matrices by Gauss-Jordan elimination, and return the smallest pivot of each.

    A matrix is positive definite where that is positive; elsewhere the inverse means nothing. The pivots are the
    squares of the diagonal of the Cholesky factor.
    """
    size = len(matrix)
    eye = torch.eye(size, dtype=matrix.dtype, device=matrix.device).view(size, size, *(1,) * (matrix.dim() - 2))
    pivots = []
    for k in range(size):
        pivot = matrix[k, k]
        pivots.append(pivot)
        # A rank-one change that leaves the column of the inverse in the place of the one that is eliminated.
        row = (matrix[k] + eye[k]) / pivot
        matrix = torch.addcmul(matrix, (matrix[:, k] - eye[k])[:, None], row, value=-1)
    return matrix, torch.stack(pivots).amin(0)


def thinnest_axis(spread: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Compute the eigenvector of the smallest eigenvalue of symmetric matrices without negative eigenvalues.

    Where two eigenvalues differ by less than about one hundredth it is a vector between the two.
    """
    tiny = torch.finfo(spread.dtype).tiny
    spread = spread / spread.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None].clamp_min(tiny)
    # The adjugate has the products of the two other eigenvalues; what is added tells axes apart also on a line.
    adjugate: Tensor = torch.linalg.cross(spread.roll(-1, -2), spread.roll(-2, -2))
    power = adjugate + 1e-5 * (torch.eye(3, dtype=spread.dtype, device=spread.device) - spread)
    return dominant_eigenvector(power, _SQUARINGS)
