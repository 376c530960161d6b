"""What keeps a deformed shape plausible: small offsets from the mean shape, and smooth surfaces."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from kpose.geometry._mesh import edges

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

    neighbors: Tensor
    starts: Tensor
    degree: Tensor

    def __init__(
        self, faces: Int[Tensor, "F 3"], num_vertices: int, *, normalized: bool = False, squared: bool = False
    ) -> None:
        super().__init__()
        self.normalized = normalized
        self.squared = squared
        pairs = edges(faces)
        own, neighbors = torch.cat((pairs, pairs.flip(-1))).unbind(-1)
        count = torch.bincount(own, minlength=num_vertices)
        # The neighbors of all vertices in one list, and where those of each begin.
        self.register_buffer("neighbors", neighbors[own.argsort(stable=True)], persistent=False)
        self.register_buffer("starts", torch.cat((count.new_zeros(1), count.cumsum(0))), persistent=False)
        self.register_buffer("degree", count.float()[:, None], persistent=False)

    def forward(self, vertices: Float[Tensor, "*batch V 3"]) -> Float[Tensor, "*batch"]:
        """Measure shapes: one value for each."""
        return _mean_length(self.differences(vertices), squared=self.squared)

    def differences(self, vertices: Float[Tensor, "*batch V 3"]) -> Float[Tensor, "*batch V 3"]:
        """Apply the graph Laplacian, ``D - A`` or, if normalized, ``I - D⁻¹ A``.

        Args:
            vertices: Positions, in object units.

        Returns:
            How far each vertex is from the mean of its neighbors, times their number unless normalized; zero for a
            vertex without any.

        Source:
            Goel et al., ECCV 2020 (released code), for the one that is not normalized.
        """
        columns = vertices.movedim(-2, 0)
        flat = columns.reshape(len(columns), -1)
        degree = self.degree.to(flat)
        # As a sparse matrix would, but any device has it.
        sums = embedding_bag(self.neighbors, flat, self.starts, mode="sum", include_last_offset=True)
        rows = degree * flat - sums
        if self.normalized:
            rows = rows / degree.clamp_min(1)
        return rows.view(columns.shape).movedim(0, -2)


def _mean_length(rows: Tensor, *, squared: bool) -> Tensor:
    length: Tensor = rows.square().sum(-1) if squared else torch.linalg.vector_norm(rows, dim=-1)
    return length.mean(-1)
