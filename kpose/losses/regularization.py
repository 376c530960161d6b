"""What keeps a deformed shape plausible: small offsets from the mean shape, and smooth surfaces."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kpose.geometry import edges

__all__ = ["GraphLaplacianLoss", "deformation_loss"]


def deformation_loss(offsets: Float[Tensor, "*batch V 3"], *, squared: bool = False) -> Float[Tensor, "*batch"]:
    """Measure how far vertices are from those of the mean shape.

    Args:
        offsets: Offsets of the vertices, in object units.
        squared: Mean squared length instead of mean length. The paper writes a norm of all offsets at once, which
            U-CMR's released code takes as the mean length.

    Returns:
        One value for each shape; its gradient is zero at offsets of zero.

    Source:
        Gharaee et al. 2022, Eq. 1 (L_def); Goel et al., ECCV 2020 (released code).

    Example:
        >>> offsets = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
        >>> deformation_loss(offsets), deformation_loss(offsets, squared=True)
        (tensor(2.5000), tensor(12.5000))
    """
    return _mean_length(offsets, squared=squared)


class GraphLaplacianLoss(nn.Module):
    """Measure how far the vertices of shapes that share their faces are from what their neighbors suggest.

    Args:
        faces: Vertex indices.
        num_vertices: Number of vertices.
        normalized: Divide by the number of neighbors, as the paper does; the released code does not, which weighs
            a vertex by its degree, about six times as much.
        squared: Mean squared length, as the paper has it; the released code has the mean length.

    Source:
        Gharaee et al. 2022, section 3 (L_lap); Goel et al., ECCV 2020 (released code).

    Example:
        >>> loss = GraphLaplacianLoss(torch.tensor([[0, 1, 2]]), 3, normalized=True)
        >>> loss(torch.tensor([[0.0, 0, 0], [2, 0, 0], [1, 0, 0]]))
        tensor(1.)
    """

    indices: Tensor
    values: Tensor

    def __init__(
        self, faces: Int[Tensor, "F 3"], num_vertices: int, *, normalized: bool = False, squared: bool = False
    ) -> None:
        super().__init__()
        self.squared = squared
        self.num_vertices = num_vertices
        operator = _laplacian(faces, num_vertices, normalized=normalized, dtype=torch.float32)
        # Sparse buffers cannot be broadcast between processes nor mapped by every backend; their parts can.
        self.register_buffer("indices", operator.indices(), persistent=False)
        self.register_buffer("values", operator.values(), persistent=False)

    def forward(self, vertices: Float[Tensor, "*batch V 3"]) -> Float[Tensor, "*batch"]:
        """Measure shapes: one value for each."""
        size = (self.num_vertices, self.num_vertices)
        operator = torch.sparse_coo_tensor(
            self.indices, self.values, size, check_invariants=False, is_coalesced=True
        )
        columns = vertices.movedim(-2, 0)
        with torch.autocast(vertices.device.type, enabled=False):
            rows = torch.sparse.mm(operator.to(vertices), columns.reshape(len(columns), -1))
        return _mean_length(rows.view(columns.shape).movedim(0, -2), squared=self.squared)


def _mean_length(rows: Tensor, *, squared: bool) -> Tensor:
    length: Tensor = rows.square().sum(-1) if squared else torch.linalg.vector_norm(rows, dim=-1)
    return length.mean(-1)


def _laplacian(
    faces: Int[Tensor, "F 3"], num_vertices: int, *, normalized: bool, dtype: torch.dtype | None = None
) -> Float[Tensor, "V V"]:
    """Build the graph Laplacian of a mesh as a sparse matrix: ``D - A``, or ``I - D⁻¹ A`` if normalized.

    The latter takes vertices to what each is off the mean of its neighbors; a vertex without any has a zero row.
    Source: unnormalized as in Goel et al., ECCV 2020 (released code).
    """
    pairs = edges(faces)
    rows, columns = torch.cat((pairs, pairs.flip(-1))).unbind(-1)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    degree = torch.bincount(rows, minlength=num_vertices).to(dtype)
    diagonal = torch.arange(num_vertices, device=faces.device)
    if normalized:
        off, on = -1 / degree[rows], (degree > 0).to(dtype)
    else:
        off, on = degree.new_full((len(rows),), -1.0), degree
    index = torch.stack((torch.cat((rows, diagonal)), torch.cat((columns, diagonal))))
    values = torch.cat((off, on))
    size = (num_vertices, num_vertices)
    return torch.sparse_coo_tensor(index, values, size, check_invariants=False).coalesce()
