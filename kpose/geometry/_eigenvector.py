"""Eigenvectors of small symmetric matrices in elementary operations: no wait for the device, and any exporter."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__: list[str] = []


def dominant_eigenvector(matrix: Float[Tensor, "*batch N N"], squarings: int) -> Float[Tensor, "*batch N"]:
    """Compute the eigenvector of the largest eigenvalue of symmetric matrices without negative eigenvalues.

    Where the two largest differ by less than about one part in ``2**squarings`` it is a vector between theirs.
    """
    tiny = torch.finfo(matrix.dtype).tiny
    for _ in range(squarings):
        trace = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)
        matrix = matrix / trace[..., None, None].clamp_min(tiny)
        matrix = matrix @ matrix
    longest = matrix.diagonal(dim1=-2, dim2=-1).argmax(-1)
    column = matrix.gather(-1, longest[..., None, None].expand(*matrix.shape[:-1], 1))[..., 0]
    return column / column.square().sum(-1, keepdim=True).sqrt().clamp_min(tiny)


def nearest_quaternion(raw: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Compute the quaternions ``(w, x, y, z)`` of the rotations nearest to matrices.

    Source:
        Horn, Closed-form solution of absolute orientation using unit quaternions, JOSA A 1987, section 4.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in raw.unbind(-2))
    w, x, y, z = xx + yy + zz, xx - yy - zz, yy - xx - zz, zz - xx - yy
    rows = (
        torch.stack((w, zy - yz, xz - zx, yx - xy), -1),
        torch.stack((zy - yz, x, xy + yx, xz + zx), -1),
        torch.stack((xz - zx, xy + yx, y, yz + zy), -1),
        torch.stack((yx - xy, xz + zx, yz + zy, z), -1),
    )
    # No eigenvalue is below minus the sum of the three singular values.
    bound = (3 * raw.square().sum((-2, -1))).sqrt()[..., None, None]
    eye = torch.eye(4, dtype=raw.dtype, device=raw.device)
    return dominant_eigenvector(torch.stack(rows, -2) + bound * eye, squarings=24)
