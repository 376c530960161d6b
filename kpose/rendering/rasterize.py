"""Which faces touch which pixels, and the nearest of them: the part without gradients.

A face touches the pixels whose centers lie within a radius of it: on each row of pixels that is an interval, as the
face grown by the radius is convex. Only those pairs of a face and a pixel are ever made. Faces and pixels are
counted through the batch: face ``f`` of mesh ``b`` is ``b F + f``, pixel ``(i, j)`` of image ``b`` is
``(b h + i) w + j``.

Tensors are laid out with the long dimension last, and masks are products rather than ``where``: both are worth a
factor of several on a CPU.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MAX_COORDINATE = 1e6
"""Largest coordinate, in image units: beyond it, float32 does not tell pixels apart."""

NOT_FINITE = (
    f"Rendering needs finite vertices and cameras, within {MAX_COORDINATE:g} image units; got NaN, infinity or "
    "more. Look for what computed them."
)
"""What the error says when one is."""

MIN_AREA = 1e-16
"""Twice the area, in normalized units, under which a face is not drawn: squares of lengths stay above zero."""


class Boxes(NamedTuple):
    """Rows of pixels that the faces' boxes cover."""

    first_row: Tensor
    """First row of pixels of each face, ``(N,)``."""
    num_rows: Tensor
    """Rows of pixels of each face, ``(N,)``; zero for faces that are not drawn."""
    num_pixels: Tensor
    """Pixels in the box of each face, ``(N,)``."""
    mesh_rows: list[int]
    """Sum of ``num_rows`` for each mesh."""
    mesh_pixels: list[int]
    """Sum of ``num_pixels`` for each mesh."""

    @property
    def num_meshes(self) -> int:
        """Number of meshes."""
        return len(self.mesh_rows)

    @property
    def num_faces(self) -> int:
        """Number of faces of one mesh."""
        return len(self.num_rows) // max(self.num_meshes, 1)

    def of(self, start: int, stop: int) -> "Boxes":
        """Boxes of some of the meshes."""
        faces, meshes = slice(start * self.num_faces, stop * self.num_faces), slice(start, stop)
        first_row, num_rows, num_pixels = self.first_row[faces], self.num_rows[faces], self.num_pixels[faces]
        return Boxes(first_row, num_rows, num_pixels, self.mesh_rows[meshes], self.mesh_pixels[meshes])


class Pairs(NamedTuple):
    """Pairs of a face and a pixel, by intervals of pixels on one row of pixels and of one face."""

    face: Tensor
    """Face of each interval, counted from the first of the chunk, ``(R,)``."""
    x: Tensor
    y: Tensor
    """Center of the interval's first pixel, ``(R,)``."""
    row: Tensor
    """Interval of each pair, ``(P,)``, ascending."""
    pixel: Tensor
    """Pixel of each pair, ``(P,)``."""
    step: Tensor
    """Pixels from the first of the interval, ``(P,)``, floating point."""


class Edges(NamedTuple):
    """Edges of the faces' projections ``(3, N)``, from corner k to k + 1: start, unit direction, length."""

    x: Tensor
    y: Tensor
    along_x: Tensor
    along_y: Tensor
    """Zero for an edge without length, as is ``along_x``."""
    length: Tensor
    inward: Tensor
    """Sign of the face's area, ``(N,)``: turns the left normal ``(-along_y, along_x)`` to the inside."""


class ZBuffer(NamedTuple):
    """Nearest face of each pixel."""

    face: Tensor
    """Face counted through the batch, -1 where there is none."""
    depth: Tensor
    """Depth of its surface at the pixel's center, +inf where there is none."""


def gather_corners(values: Tensor, faces: Tensor) -> Tensor:
    """Values ``(B, V, C)`` at the faces' corners: ``(C, 3 corners, B F)``."""
    num_meshes, num_vertices, channels = values.shape
    first = num_vertices * torch.arange(num_meshes, device=values.device)
    index = (faces.T.unsqueeze(1) + first[:, None]).flatten()
    flat = values.reshape(-1, channels).T
    return flat.gather(1, index.expand(channels, -1)).view(channels, 3, num_meshes * len(faces))


def select(table: Tensor, index: Tensor) -> Tensor:
    """Select columns of ``(K, N)``: row by row, which is the fast way on a CPU, and there alone."""
    if index.device.type == "cpu":
        return torch.stack([row.index_select(0, index) for row in table.unbind()])
    return table.index_select(1, index)


def select_each(tables: Sequence[Tensor], index: Tensor) -> Sequence[Tensor]:
    """Select columns of tables of one size, on a device all at once."""
    if index.device.type == "cpu":
        return [select(table, index) for table in tables]
    return select(torch.cat(tuple(tables)), index).chunk(len(tables))


def signed_area(corners: Tensor) -> Tensor:
    """Twice the signed area of the projections, negative for faces seen from the front."""
    (x1, y1), (x2, y2) = (corners[:2, k] - corners[:2, 0] for k in (1, 2))
    area: Tensor = x1 * y2 - y1 * x2
    return area


def face_edges(corners: Tensor) -> Edges:
    """Describe the edges of the faces' projections."""
    edge = corners[:2].roll(-1, 1) - corners[:2]
    square_x, square_y = edge * edge
    length = (square_x + square_y).sqrt()
    along = edge * length.clamp_min(torch.finfo(length.dtype).tiny).reciprocal()
    return Edges(corners[0], corners[1], along[0], along[1], length, signed_area(corners).sign())


def barycentrics(corners: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Barycentric coordinates ``(3, ...)`` of points in triangles ``(3, 3, ...)``, zero without area."""
    offset_x, offset_y = corners[0] - x, corners[1] - y
    next_x, next_y = offset_x.roll(-1, 0), offset_y.roll(-1, 0)
    parts = (offset_x * next_y - offset_y * next_x).roll(-1, 0)
    area = signed_area(corners)
    return parts / torch.where(area == 0, torch.inf, area)


@torch.no_grad()
def find_boxes(corners: Tensor, num_meshes: int, size: tuple[int, int], *, radius: float, cull: bool) -> Boxes:
    """Find the boxes of pixels around the faces grown by ``radius``; raise where corners are not finite."""
    height, width = size
    area = signed_area(corners)
    (left, top), (right, low) = corners[:2].amin(1) - radius + 1, corners[:2].amax(1) + radius + 1
    first = (top * (height / 2) - 0.5).ceil().clamp(0, height)
    last = (low * (height / 2) - 0.5).floor().clamp(-1, height - 1)
    left = (left * (width / 2) - 0.5).ceil().clamp(0, width)
    right = (right * (width / 2) - 0.5).floor().clamp(-1, width - 1)
    columns = (right - left + 1).clamp_min(0) * ((-area if cull else area.abs()) > MIN_AREA)
    rows = (last - first + 1).clamp_min(0) * (columns > 0)
    rows, columns, first = torch.stack((rows, columns, first)).nan_to_num_(0).long()
    pixels = rows * columns
    # The one wait for the device that every call needs also carries the check of the input.
    valid = (corners.abs() <= MAX_COORDINATE).all()
    sums = [part.view(num_meshes, -1).sum(1) if num_meshes else part for part in (rows, pixels)]
    is_valid, *counts = torch.cat((valid.to(rows).view(1), *sums)).tolist()
    if not is_valid:
        raise ValueError(NOT_FINITE)
    return Boxes(first, rows, pixels, counts[:num_meshes], counts[num_meshes:])


class Chunk(NamedTuple):
    """Run of faces whose pairs are held at a time."""

    start: int
    """First face."""
    stop: int
    """Face after the last."""
    num_rows: int
    """Rows of pixels of these faces."""


def cut(boxes: Boxes, max_pairs: int) -> list[Chunk]:
    """Cut the faces into runs of at most ``max_pairs`` pixels in their boxes, or of one face."""
    num_faces, num_rows, num_pixels = len(boxes.num_rows), sum(boxes.mesh_rows), sum(boxes.mesh_pixels)
    if num_pixels <= max_pairs:
        return [Chunk(0, num_faces, num_rows)]
    pixels, rows = boxes.num_pixels.cumsum(0), boxes.num_rows.cumsum(0)
    targets = torch.arange(max_pairs, num_pixels, max_pairs, device=pixels.device)
    cuts = torch.searchsorted(pixels, targets, right=True)
    before = torch.where(cuts > 0, rows[cuts - 1], 0)
    marks = sorted({(0, 0), *zip(cuts.tolist(), before.tolist(), strict=True), (num_faces, num_rows)})
    return [Chunk(start, stop, up_to - done) for (start, done), (stop, up_to) in itertools.pairwise(marks)]


@torch.no_grad()
def find_pairs(corners: Tensor, boxes: Boxes, chunk: Chunk, size: tuple[int, int], radius: float) -> Pairs:
    """Find the pairs within ``radius`` of the faces of a chunk, whose corners are given."""
    faces = slice(chunk.start, chunk.stop)
    owner, offset = _expand(boxes.num_rows[faces], chunk.num_rows)
    line = boxes.first_row[faces].index_select(0, owner) + offset
    first, extent, y = _intervals(corners, owner, line, size, radius)
    image = torch.div(owner + chunk.start, max(boxes.num_faces, 1), rounding_mode="floor")
    row, step = _expand(extent, int(extent.sum()))
    start = (image * size[0] + line) * size[1] + first.long()
    pixel = start.index_select(0, row) + step
    return Pairs(owner, (2 * first + 1) / size[1] - 1, y, row, pixel, step.to(corners.dtype))


def _expand(count: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Repeat each index ``count`` times and number the repeats; many times faster than `repeat_interleave`."""
    start = count.cumsum(0) - count
    marks = count.new_zeros(total + 1).scatter_add_(0, start, torch.ones_like(start))
    index = marks[:total].cumsum_(0).sub_(1)
    return index, torch.arange(total, device=count.device).sub_(start.index_select(0, index))


def _intervals(
    corners: Tensor, face: Tensor, line: Tensor, size: tuple[int, int], radius: float
) -> tuple[Tensor, Tensor, Tensor]:
    """First column within the radius, the number of such and the height, for rows of pixels of faces.

    The right end of the interval is the rightmost reach of the discs along the three edges. On one edge, the point
    whose disc reaches farthest on a given line is in closed form, and reach is concave along the edge, so the point
    is clamped to the edge. Edges run from their upper end, in both faces that share one: there are no cracks.
    """
    height, width = size
    start = corners[:2]
    end = start.roll(-1, 1)
    upward = (end[1] < start[1]) | ((end[1] == start[1]) & (end[0] < start[0]))
    top, low = torch.where(upward, end, start), torch.where(upward, start, end)
    run, fall = low - top
    slope = torch.where(fall > 1e-30, run / fall, 0)
    lead = radius * run / (run * run + fall * fall).sqrt().clamp_min(torch.finfo(run.dtype).tiny)
    top_x, top_y, low_y, slope, lead = select_each((*top, low[1], slope, lead), face)
    center = (2 * line.to(corners.dtype) + 1) / height - 1

    # The left end and the right end.
    point = torch.minimum(torch.maximum(torch.stack((center - lead, center + lead)), top_y), low_y)
    drop = center - point
    room = radius**2 - drop * drop
    # A line that misses the disc has negative room: its end is moved out of the way.
    reach = room.clamp_min(0).sqrt_().add_(room.clamp_max_(0), alpha=1e30)
    across = torch.addcmul(top_x, point.sub_(top_y), slope)
    left, right = (across[0] - reach[0]).amin(0), (across[1] + reach[1]).amax(0)
    first = ((left + 1) * (width / 2) - 0.5).ceil_().clamp_(0, width)
    last = ((right + 1) * (width / 2) - 0.5).floor_().clamp_(-1, width - 1)
    return first, (last - first + 1).clamp_min_(0).nan_to_num_(0).long(), center


@torch.no_grad()
def z_buffer(corners: Tensor, boxes: Boxes, size: tuple[int, int], *, max_pairs: int) -> ZBuffer:
    """Find the nearest face at every pixel; of faces at equal depth the first."""
    num_pixels = boxes.num_meshes * size[0] * size[1]
    nothing = corners.shape[-1]
    nearest = corners.new_full((num_pixels,), torch.inf)
    winner = torch.full((num_pixels,), nothing, device=corners.device)
    for chunk in cut(boxes, max_pairs):
        own = corners[..., chunk.start : chunk.stop]
        pairs = find_pairs(own, boxes, chunk, size, 0.0)
        depth, slope = (part.index_select(0, pairs.row) for part in _depth(own, pairs, size[1]))
        depth.addcmul_(slope, pairs.step)
        before = nearest
        nearest = before.scatter_reduce(0, pairs.pixel, depth, "amin")
        # Faces that do not win are counted as "nothing", which loses against every face.
        face = pairs.face.index_select(0, pairs.row) + chunk.start
        face += (nothing - face) * (depth > nearest.index_select(0, pairs.pixel))
        found = torch.full_like(winner, nothing).scatter_reduce_(0, pairs.pixel, face, "amin")
        winner = torch.where(nearest < before, found, winner)
    return ZBuffer(torch.where(winner < nothing, winner, -1), nearest)


def _slopes(corners: Tensor) -> tuple[Tensor, Tensor]:
    """Change of depth of the faces' planes with x and y, zero without area."""
    area = signed_area(corners)
    scale = 1 / torch.where(area == 0, torch.inf, area)
    (x1, y1, z1), (x2, y2, z2) = (corners[:, k] - corners[:, 0] for k in (1, 2))
    return (z1 * y2 - z2 * y1) * scale, (z2 * x1 - z1 * x2) * scale


def plane_depth(corners: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Depth of the faces' planes at the image's origin, infinite for faces that are not drawn, and its slopes."""
    slope_x, slope_y = _slopes(corners)
    x, y, z = corners[:, 0]
    drawn = signed_area(corners).abs() > MIN_AREA
    return torch.where(drawn, z - slope_x * x - slope_y * y, torch.inf), slope_x * drawn, slope_y * drawn


def _depth(corners: Tensor, pairs: Pairs, width: int) -> tuple[Tensor, Tensor]:
    """Depth of the face's plane at the first pixel of each row, and its change to the next pixel."""
    x, y, z = corners
    along_x, along_y = _slopes(corners)
    x0, y0, z0, along_x, along_y = select(torch.stack((x[0], y[0], z[0], along_x, along_y)), pairs.face)
    return z0 + along_x * (pairs.x - x0) + along_y * (pairs.y - y0), along_x * (2 / width)
