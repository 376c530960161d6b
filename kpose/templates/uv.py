"""Texture coordinates for meshes that come without."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["spherical_uv"]


def spherical_uv(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]
) -> tuple[Float[Tensor, "T 2"], Int[Tensor, "F 3"]]:
    """Lay texture coordinates on a mesh by the direction of its vertices from the middle of their bounding box.

    The layout is that of the built-in bird: u goes once around the y axis, from the belly's middle over the left
    flank, the back and the right flank to the belly again, v from front (-y) to rear. No face spans the seam: faces
    that cross it reach beyond it, into a margin that repeats the other side (u is shrunk to make room). Surfaces
    that a ray from the middle meets twice share texture.

    Args:
        vertices: Positions.
        faces: Vertex indices.

    Returns:
        Texture coordinates in [0, 1], and for each face corner its row in them.

    Example:
        >>> corners = torch.tensor([[0.0, -1.0, 0.0], [1.0, 1.0, -1.0], [-1.0, 1.0, -1.0], [0.0, 1.0, 1.0]])
        >>> uv, uv_faces = spherical_uv(corners, torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))
        >>> uv_faces.shape
        torch.Size([4, 3])
    """
    middle = (vertices.amax(0) + vertices.amin(0)) / 2
    x, y, z = (vertices - middle).double().unbind(-1)
    radius = torch.hypot(x, z)
    v = torch.atan2(radius, -y) / math.pi
    at_pole = (radius <= 1e-6 * radius.max())[faces]
    u = 0.5 - torch.atan2(x, z)[faces] / (2 * math.pi)
    # Corners follow the face's own side of the seam.
    towards = (vertices.double()[faces, 0] - middle[0]).mean(-1, keepdim=True) >= 0
    spread = torch.where(at_pole, 0.5, u)
    crosses = spread.amax(-1, keepdim=True) - spread.amin(-1, keepdim=True) > 0.5
    u = torch.where(crosses & towards & (u > 0.5), u - 1, u)
    u = torch.where(crosses & ~towards & (u < 0.5), u + 1, u)
    others = torch.where(at_pole, 0.0, u).sum(-1, keepdim=True) / (~at_pole).sum(-1, keepdim=True).clamp_min(1)
    u = torch.where(at_pole, others, u)
    # A face around a pole may reach across the whole circle: it does not widen the margin.
    around_pole = u.amax(-1) - u.amin(-1) > 0.5
    regular = u[~around_pole] if (~around_pole).any() else u.new_tensor([0.0, 1.0])
    margin = torch.maximum(-regular.min(), regular.max() - 1).clamp(0, 0.25)
    u = ((u.clamp(-margin, 1 + margin) + margin) / (1 + 2 * margin)).round(decimals=9)
    corner_rows = torch.stack((faces.double(), u), -1).reshape(-1, 2)
    rows: Tensor
    rows, uv_faces = torch.unique(corner_rows, dim=0, return_inverse=True)
    uv = torch.stack((rows[:, 1], v[rows[:, 0].long()]), -1)
    return uv.clamp(0, 1).to(vertices.dtype), uv_faces.view_as(faces)
