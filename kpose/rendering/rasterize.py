"""Which faces touch which pixels, and the nearest of them: the part without gradients.

Faces and pixels are counted through the whole batch: face ``f`` of mesh ``b`` is ``b F + f``, pixel ``(i, j)`` of
image ``b`` is ``(b h + i) w + j``. Only pairs inside the faces' bounding boxes are ever looked at.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__: list[str] = []


class Pairs(NamedTuple):
    """Pairs of a face and a pixel."""

    face: Tensor
    """Face of each pair."""
    pixel: Tensor
    """Pixel of each pair."""
    position: Tensor
    """Centre of that pixel, ``(P, 2)``."""


class ZBuffer(NamedTuple):
    """Nearest face of each pixel."""

    face: Tensor
    """Face counted through the batch, -1 where there is none."""
    depth: Tensor
    """Depth of its surface at the pixel's centre, +inf where there is none."""


def find_pairs(
    corners: Tensor, num_images: int, size: tuple[int, int], radius: float, max_pairs: int
) -> Iterator[Pairs]:
    """Yield the pairs in the faces' bounding boxes grown by ``radius``, ``max_pairs`` or one face at a time."""
    height, width = size
    num_faces = corners.shape[0] // max(num_images, 1)
    resolution = corners.new_tensor([width, height])
    low, high = corners[..., :2].aminmax(dim=1)
    first = ((low - radius + 1) / 2 * resolution - 0.5).ceil().clamp_min(0)
    last = torch.minimum(((high + radius + 1) / 2 * resolution - 0.5).floor(), resolution - 1)
    extent = (last - first + 1).clamp_min(0).nan_to_num(0)
    count = extent.prod(-1).long()
    ends = count.cumsum(0)
    total, finite = torch.stack((ends[-1] if len(ends) else count.sum(), corners.isfinite().all())).tolist()
    if not finite:
        raise ValueError(
            "Rendering needs finite vertices and cameras; got NaN or infinity. Check what computed them."
        )
    first, columns = first.long(), extent[:, 0].long()
    for start, stop in _chunks(ends, total, max_pairs):
        face = torch.repeat_interleave(
            torch.arange(start, stop, device=corners.device),
            count[start:stop],
            output_size=total if stop - start == len(ends) else None,
        )
        offset = (
            torch.arange(len(face), device=corners.device) - (ends - count - (ends[start] - count[start]))[face]
        )
        row = torch.div(offset, columns[face], rounding_mode="floor")
        column = offset - row * columns[face] + first[face, 0]
        row = row + first[face, 1]
        position = (2 * torch.stack((column, row), -1) + 1) / resolution - 1
        yield Pairs(
            face, (torch.div(face, num_faces, rounding_mode="floor") * height + row) * width + column, position
        )


def _chunks(ends: Tensor, total: int, max_pairs: int) -> list[tuple[int, int]]:
    if total == 0:
        return []
    if total <= max_pairs:
        return [(0, len(ends))]
    targets = torch.arange(max_pairs, total, max_pairs, device=ends.device)
    cuts = torch.searchsorted(ends, targets, right=True).tolist()
    bounds = sorted({0, *cuts, len(ends)})
    return list(itertools.pairwise(bounds))


def barycentrics(corners: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    """Give barycentric coordinates ``(..., 3)`` of positions in triangles, and twice the signed area.

    A face without area has barycentrics (0, 0, 0).
    """
    a, b, c = corners[..., :2].unbind(-2)
    parts = torch.stack((_cross(b, c, position), _cross(c, a, position), _cross(a, b, position)), -1)
    area = _cross(a, b, c)
    return parts / torch.where(area == 0, torch.inf, area).unsqueeze(-1), area


def _cross(origin: Tensor, first: Tensor, second: Tensor) -> Tensor:
    u, v = first - origin, second - origin
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]


@torch.no_grad()
def z_buffer(corners: Tensor, num_images: int, size: tuple[int, int], max_pairs: int, cull: bool) -> ZBuffer:
    """Find the nearest face at every pixel; of faces at equal depth the first."""
    total = num_images * size[0] * size[1]
    nearest = corners.new_full((total,), torch.inf)
    winner = torch.full((total,), -1, device=corners.device)
    for pairs in find_pairs(corners, num_images, size, 0.0, max_pairs):
        weights, area = barycentrics(corners[pairs.face], pairs.position)
        inside = (weights >= 0).all(-1) & ((area < 0) if cull else (area != 0))
        face, pixel = pairs.face[inside], pairs.pixel[inside]
        depth = (weights[inside] * corners[face][..., 2]).sum(-1)
        best = nearest.scatter_reduce(0, pixel, depth, "amin")
        tied = depth == best[pixel]
        face, pixel = face[tied], pixel[tied]
        found = torch.full_like(winner, len(corners)).scatter_reduce(0, pixel, face, "amin")
        winner = torch.where((best < nearest) & (found < len(corners)), found, winner)
        nearest = best
    return ZBuffer(winner, nearest)
