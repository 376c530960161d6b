"""Triangle meshes: normals, edges, volume and mirror symmetry.

Faces are rows of vertex indices, counter-clockwise seen from outside. Everything takes any leading dimensions of
the vertices; the faces are shared by the batch.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kpose.geometry.rotation import mirror_points

__all__ = [
    "edges",
    "face_normals",
    "is_closed",
    "mirror_pairs",
    "vertex_normals",
    "volume",
]


def face_normals(
    vertices: Float[Tensor, "*batch V 3"], faces: Int[Tensor, "F 3"], *, unit: bool = True
) -> Float[Tensor, "*batch F 3"]:
    """Compute the outward normals of the faces.

    Args:
        vertices: Positions.
        faces: Vertex indices, counter-clockwise seen from outside.
        unit: Scale to length one; otherwise a normal is as long as twice the face's area.

    Returns:
        Normals. A face without area gets the zero vector, and a zero gradient.

    Example:
        >>> corners = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> face_normals(corners, torch.tensor([[0, 1, 2]]))
        tensor([[0., 0., 1.]])
    """
    first, second, third = (vertices[..., faces[:, k], :] for k in range(3))
    normal = torch.linalg.cross(second - first, third - first)
    return _unit(normal) if unit else normal


def vertex_normals(vertices: Float[Tensor, "*batch V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "*batch V 3"]:
    """Compute the outward unit normals at the vertices: face normals averaged with the faces' areas.

    Args:
        vertices: Positions.
        faces: Vertex indices, counter-clockwise seen from outside.

    Returns:
        Unit normals. A vertex of no face, or of faces whose normals cancel, gets the zero vector.

    Example:
        >>> corners = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> vertex_normals(corners, torch.tensor([[0, 1, 2]]))[0]
        tensor([0., 0., 1.])
    """
    normal = face_normals(vertices, faces, unit=False)
    total = torch.zeros_like(vertices)
    for k in range(3):
        total = total.index_add(-2, faces[:, k], normal)
    return _unit(total)


def _unit(vector: Tensor) -> Tensor:
    squared = vector.square().sum(-1, keepdim=True)
    tiny = squared < torch.finfo(vector.dtype).tiny
    return torch.where(tiny, 0.0, vector * torch.where(tiny, 1.0, squared).rsqrt())


def volume(vertices: Float[Tensor, "*batch V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "*batch"]:
    """Measure the signed volume that a closed mesh encloses.

    Args:
        vertices: Positions.
        faces: Vertex indices of a closed mesh.

    Returns:
        Volumes: positive where the faces are counter-clockwise seen from outside. Of a mesh that is not closed the
        number depends on the origin and means nothing.

    Example:
        >>> corners = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> volume(corners, torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))
        tensor(0.1667)
    """
    first, second, third = (vertices[..., faces[:, k], :] for k in range(3))
    total: Tensor = (first * torch.linalg.cross(second, third)).sum((-2, -1))
    return total / 6


def edges(faces: Int[Tensor, "F 3"]) -> Int[Tensor, "E 2"]:
    """List the edges of a mesh, each once.

    Args:
        faces: Vertex indices.

    Returns:
        Pairs of vertex indices, the smaller first, in lexicographic order.

    Example:
        >>> edges(torch.tensor([[0, 1, 2], [2, 1, 3]])).tolist()
        [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    """
    pairs = torch.cat((faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]))
    return _distinct(pairs.sort(-1).values)


def is_closed(faces: Int[Tensor, "F 3"]) -> bool:
    """Check whether a mesh has no border and one orientation.

    Args:
        faces: Vertex indices.

    Returns:
        True if every edge is passed exactly once in each direction. A mesh without faces is not closed.

    Example:
        >>> is_closed(torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))
        True
        >>> is_closed(torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2]]))
        False
    """
    if not len(faces):
        return False
    ahead = torch.cat((faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]))
    there = _distinct(ahead)
    return len(there) == len(ahead) and torch.equal(there, _distinct(ahead.flip(-1)))


def _distinct(pairs: Int[Tensor, "N 2"]) -> Int[Tensor, "M 2"]:
    """List pairs in lexicographic order, each once."""
    if not len(pairs):
        return pairs
    # As one number each: `torch.unique` along a dimension takes twenty times as long.
    low = pairs.min().long()
    first, second = (pairs.long() - low).unbind(-1)
    count = torch.maximum(first, second).max() + 1
    numbers: Tensor = torch.unique(first * count + second)
    return torch.stack((numbers // count + low, numbers % count + low), -1).to(pairs.dtype)


def mirror_pairs(vertices: Float[Tensor, "V 3"], tolerance: float = 1e-5) -> Int[Tensor, "V"]:
    """Find each vertex's partner under the mirror ``x -> -x``.

    Args:
        vertices: Positions.
        tolerance: Largest distance between a mirrored vertex and its partner, relative to the longest side of the
            bounding box.

    Returns:
        Index of the partner of each vertex, itself on the symmetry plane; an involution.

    Raises:
        ValueError: If a vertex has no partner, or partners are not one-to-one.

    Example:
        >>> mirror_pairs(torch.tensor([[0.5, 0.0, 0.0], [0.0, 1.0, 0.0], [-0.5, 0.0, 0.0]]))
        tensor([2, 1, 0])
    """
    if not len(vertices):
        return torch.zeros(0, dtype=torch.long, device=vertices.device)
    mirrored = mirror_points(vertices)
    # Matrix products would lose half of the digits that tell near neighbors apart.
    distance = torch.cdist(mirrored, vertices, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distance.min(-1)
    reach = tolerance * float((vertices.amax(0) - vertices.amin(0)).max())
    lonely = nearest.values > reach
    if lonely.any():
        first = int(lonely.nonzero()[0, 0])
        raise ValueError(
            f"mirror_pairs needs vertices symmetric about x = 0 to {reach:.2g}; got {int(lonely.sum())} of "
            f"{len(vertices)} without a partner, the first is vertex {first} at {vertices[first].tolist()}. "
            "Center the mesh in x, symmetrize it, or raise the tolerance."
        )
    partner: Tensor = nearest.indices
    if not torch.equal(partner[partner], torch.arange(len(partner), device=partner.device)):
        raise ValueError(
            "mirror_pairs needs one partner for each vertex; got several vertices that share one. "
            "Merge duplicate vertices or lower the tolerance."
        )
    return partner
