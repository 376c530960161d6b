"""Which faces touch which pixels, and the nearest of them: the part without gradients.

A face touches the pixels whose centres lie within a radius of it: on each row of pixels that is an interval, as the
face grown by the radius is convex. Only those pairs of a face and a pixel are ever made. Faces and pixels are
counted through the whole batch: face ``f`` of mesh ``b`` is ``b F + f``, pixel ``(i, j)`` of image ``b`` is
``(b h + i) w + j``.

Tensors are laid out with the long dimension last and masks are products rather than ``where``: both are worth a
factor of several on a CPU.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__: list[str] = []


class Edges(NamedTuple):
    """Edges of the faces' projections, from corner k to corner k + 1, each ``(3, N)``."""

    x: Tensor
    """Start."""
    y: Tensor
    """Start."""
    along_x: Tensor
    """Direction, unit length; zero for an edge without length."""
    along_y: Tensor
    """Direction."""
    length: Tensor
    """Length."""
    inward: Tensor
    """Twice the signed area's sign, ``(N,)``: turns the left normal ``(-along_y, along_x)`` to the inside."""


class Rows(NamedTuple):
    """Intervals of pixels, each on one row of pixels and of one face."""

    face: Tensor
    """Face, ``(R,)``."""
    pixel: Tensor
    """First pixel, ``(R,)``."""
    x: Tensor
    """Centre of the first pixel, ``(R,)``."""
    y: Tensor
    """Centre of the first pixel, ``(R,)``."""


class Pairs(NamedTuple):
    """Pairs of a face and a pixel."""

    rows: Rows
    """Intervals that the pairs come from, in this order."""
    row: Tensor
    """Interval of each pair, ``(P,)``."""
    pixel: Tensor
    """Pixel of each pair, ``(P,)``."""
    step: Tensor
    """Pixels from the first of the interval, ``(P,)``, floating point."""


class ZBuffer(NamedTuple):
    """Nearest face of each pixel."""

    face: Tensor
    """Face counted through the batch, -1 where there is none."""
    depth: Tensor
    """Depth of its surface at the pixel's centre, +inf where there is none."""


def gather_corners(vertices: Tensor, faces: Tensor) -> Tensor:
    """Give the faces' corners ``(3 coordinates, 3 corners, N)`` of vertices ``(B, V, 3)``."""
    num_meshes, num_vertices = vertices.shape[:2]
    first = num_vertices * torch.arange(num_meshes, device=vertices.device)
    index = (faces.T.unsqueeze(1) + first[:, None]).flatten()
    flat = vertices.reshape(-1, 3).T
    return flat.gather(1, index.expand(3, -1)).view(3, 3, num_meshes * len(faces))


def select(table: Tensor, index: Tensor) -> Tensor:
    """Select columns of ``(K, N)``: row by row, which is the fast way on a CPU."""
    return torch.stack([row.index_select(0, index) for row in table.unbind()])


def face_edges(corners: Tensor) -> Edges:
    """Describe the edges of the faces' projections."""
    x, y = corners[0], corners[1]
    edge_x, edge_y = x.roll(-1, 0) - x, y.roll(-1, 0) - y
    length = (edge_x * edge_x + edge_y * edge_y).sqrt()
    scale = 1 / length.clamp_min(torch.finfo(length.dtype).tiny)
    return Edges(x, y, edge_x * scale, edge_y * scale, length, signed_area(corners).sign())


def signed_area(corners: Tensor) -> Tensor:
    """Give twice the signed area of the projections, negative for faces seen from the front."""
    x, y = corners[0], corners[1]
    return (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])


def find_pairs(
    corners: Tensor, num_images: int, size: tuple[int, int], *, radius: float, max_pairs: int, cull: bool
) -> Iterator[Pairs]:
    """Yield the pairs within ``radius``, for as many faces at a time as have ``max_pairs`` in their boxes."""
    height, width = size
    num_faces = corners.shape[-1] // max(num_images, 1)
    x, y = corners[0], corners[1]
    area = signed_area(corners)
    first = ((y.amin(0) - radius + 1) * (height / 2) - 0.5).ceil().clamp(0, height)
    last = ((y.amax(0) + radius + 1) * (height / 2) - 0.5).floor().clamp(-1, height - 1)
    left = ((x.amin(0) - radius + 1) * (width / 2) - 0.5).ceil().clamp(0, width)
    right = ((x.amax(0) + radius + 1) * (width / 2) - 0.5).floor().clamp(-1, width - 1)
    drawn = area < 0 if cull else area != 0
    columns = (right - left + 1).clamp_min(0) * drawn
    num_rows = ((last - first + 1).clamp_min(0) * (columns > 0)).nan_to_num(0).long()
    boxes = (num_rows * columns.nan_to_num(0).long()).cumsum(0)
    total = boxes[-1:].sum()
    finite = corners.sum().isfinite() | corners.isfinite().all()
    # The one wait for the device that every call needs also carries the check of the input.
    num_boxes, is_finite, sum_rows = torch.stack((total, finite.to(total), num_rows.sum())).tolist()
    if not is_finite:
        raise ValueError(
            "Rendering needs finite vertices and cameras; got NaN or infinity. Look for what computed them."
        )
    first_row = first.nan_to_num(0).long()
    for start, stop in _chunks(boxes, num_boxes, max_pairs):
        chunk = slice(start, stop)
        count = num_rows[chunk]
        owner, offset = _expand(count, sum_rows if stop - start == len(boxes) else int(count.sum()))
        line = first_row[chunk].index_select(0, owner) + offset
        face = owner + start
        rows, extent = _intervals(corners, face, line, num_faces, size, radius)
        row, step = _expand(extent, int(extent.sum()))
        yield Pairs(rows, row, rows.pixel.index_select(0, row) + step, step.to(corners.dtype))


def _chunks(ends: Tensor, total: int, max_pairs: int) -> list[tuple[int, int]]:
    if total == 0:
        return []
    if total <= max_pairs:
        return [(0, len(ends))]
    targets = torch.arange(max_pairs, total, max_pairs, device=ends.device)
    cuts = torch.searchsorted(ends, targets, right=True).tolist()
    return list(itertools.pairwise(sorted({0, *cuts, len(ends)})))


def _expand(count: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Repeat each index ``count`` times and number the repeats; many times faster than `repeat_interleave`."""
    start = count.cumsum(0) - count
    marks = count.new_zeros(total + 1).scatter_add_(0, start, torch.ones_like(start))
    index = marks[:total].cumsum_(0).sub_(1)
    return index, torch.arange(total, device=count.device).sub_(start.index_select(0, index))


def _intervals(
    corners: Tensor, face: Tensor, line: Tensor, num_faces: int, size: tuple[int, int], radius: float
) -> tuple[Rows, Tensor]:
    """Give, for rows of pixels of faces, the first pixel within the radius and the number of such pixels.

    The right end is that of three discs' and edges' right ends. On an edge, the point whose disc of this radius
    reaches farthest to the right on a given line is in closed form, and reach is concave along the edge, so the
    point is clamped to the edge. Edges run from their upper end, in both faces that share one: there are no cracks.
    """
    height, width = size
    x, y = corners[0], corners[1]
    end_x, end_y = x.roll(-1, 0), y.roll(-1, 0)
    upward = (end_y < y) | ((end_y == y) & (end_x < x))
    top_x, top_y = torch.where(upward, end_x, x), torch.where(upward, end_y, y)
    low_x, low_y = torch.where(upward, x, end_x), torch.where(upward, y, end_y)
    run, fall = low_x - top_x, low_y - top_y
    slope = torch.where(fall > 1e-30, run / fall, 0)
    lead = radius * run / (run * run + fall * fall).sqrt().clamp_min(torch.finfo(run.dtype).tiny)
    edge = [select(part, face) for part in (top_x, top_y, low_y, slope, lead)]
    centre = (2 * line.to(corners.dtype) + 1) / height - 1

    def end(side: int) -> Tensor:
        point = torch.minimum(torch.maximum(centre + side * edge[4], edge[1]), edge[2])
        drop = centre - point
        room = radius**2 - drop * drop
        # A line that misses the disc has negative room: its end is moved out of the way.
        reach = room.clamp_min(0).sqrt() + 1e30 * room.clamp_max(0)
        return (side * (edge[0] + (point - edge[1]) * edge[3]) + reach).amax(0) * side

    first = ((end(-1) + 1) * (width / 2) - 0.5).ceil().clamp(0, width)
    last = ((end(1) + 1) * (width / 2) - 0.5).floor().clamp(-1, width - 1)
    extent = (last - first + 1).clamp_min(0).long()
    image = torch.div(face, num_faces, rounding_mode="floor")
    pixel = (image * height + line) * width + first.long()
    return Rows(face, pixel, (2 * first + 1) / width - 1, centre), extent


@torch.no_grad()
def z_buffer(corners: Tensor, num_images: int, size: tuple[int, int], *, max_pairs: int, cull: bool) -> ZBuffer:
    """Find the nearest face at every pixel; of faces at equal depth the first."""
    num_pixels = num_images * size[0] * size[1]
    nothing = corners.shape[-1]
    nearest = corners.new_full((num_pixels,), torch.inf)
    winner = torch.full((num_pixels,), nothing, device=corners.device)
    for rows, row, pixel, step in find_pairs(corners, num_images, size, radius=0.0, max_pairs=max_pairs, cull=cull):
        depth, slope = _depth(corners, rows, size[1])
        depth = torch.addcmul(depth.index_select(0, row), slope.index_select(0, row), step)
        before = nearest
        nearest = before.scatter_reduce(0, pixel, depth, "amin")
        # Faces that do not win are counted as "nothing", which loses against every face.
        face = rows.face.index_select(0, row)
        face = face + (nothing - face) * (depth > nearest.index_select(0, pixel))
        found = torch.full_like(winner, nothing).scatter_reduce(0, pixel, face, "amin")
        winner = torch.where(nearest < before, found, winner)
    return ZBuffer(torch.where(winner < nothing, winner, -1), nearest)


def _depth(corners: Tensor, rows: Rows, width: int) -> tuple[Tensor, Tensor]:
    """Give the depth of the face's plane at the first pixel of each row, and its change to the next pixel."""
    x, y, z = corners
    area = signed_area(corners)
    scale = 1 / torch.where(area == 0, torch.inf, area)
    (x1, y1, z1), (x2, y2, z2) = ((x[k] - x[0], y[k] - y[0], z[k] - z[0]) for k in (1, 2))
    along_x = (z1 * y2 - z2 * y1) * scale
    along_y = (z2 * x1 - z1 * x2) * scale
    x0, y0, z0, along_x, along_y = select(torch.stack((x[0], y[0], z[0], along_x, along_y)), rows.face)
    return z0 + along_x * (rows.x - x0) + along_y * (rows.y - y0), along_x * (2 / width)


def barycentrics(corners: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Give barycentric coordinates ``(3, ...)`` of points in triangles ``(3, 3, ...)``, zero without area."""
    offset_x, offset_y = corners[0] - x, corners[1] - y
    next_x, next_y = offset_x.roll(-1, 0), offset_y.roll(-1, 0)
    parts = (offset_x * next_y - offset_y * next_x).roll(-1, 0)
    area = signed_area(corners)
    return parts / torch.where(area == 0, torch.inf, area)
