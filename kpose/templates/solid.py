"""Solids to make templates of: from mesh files, and from a few measures of a body with limbs."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kpose.geometry import edges
from kpose.templates.check import label_pieces
from kpose.templates.files import merge_vertices, read_surface
from kpose.templates.wrap import Solid

__all__ = ["Limb", "body_solid", "mesh_solid"]

CELLS = 96  # of the longest side
ROOM = 4  # cells around
AXES = {f"{sign}{axis}": (place, -1.0 if sign == "-" else 1.0) for sign in "+-" for place, axis in enumerate("xyz")}

_X = torch.tensor(0)
_log = logging.getLogger(__name__)


class Limb(NamedTuple):
    """Rod with round ends that grows out of a body; its mirror image grows with it."""

    x: float
    """Start, left of the middle."""
    y: float
    """Start, behind the middle."""
    z: float
    """Start, above the middle."""
    length: float
    """Length from the start to the end, to which a radius is added at both."""
    radius: float
    """Half of the thickness."""
    direction: tuple[float, float, float] = (0.0, 0.0, -1.0)
    """Where it points, of any length; down if not given."""


def body_solid(
    length: float,
    width: float,
    height: float,
    limbs: Sequence[Limb] = (),
    *,
    exponent: float = 2.0,
    blend: float = 0.5,
    cells: int = CELLS,
) -> Solid:
    """Model a body with limbs: an ellipsoid about the origin, and rods that run smoothly into it.

    Args:
        length: Length of the ellipsoid, from front (-y) to rear.
        width: Its width.
        height: Its height.
        limbs: Limbs, in the same unit; each stands for itself and its mirror image.
        exponent: 2 for an ellipsoid, more for a body with flatter sides and rounded edges.
        blend: Over what distance a limb runs into what is there, as a share of its radius.
        cells: Cells of the grid along the longest side.

    Returns:
        Solid.

    Raises:
        ValueError: If a measure is not positive or finite, or a limb has no direction or does not touch the body.

    Source:
        Quílez, Smooth minimum (quadratic), 2013.

    Example:
        >>> body_solid(2.0, 1.0, 1.0, [Limb(0.3, -0.5, -0.2, 0.6, 0.1)], cells=24).distance.ndim
        3
    """
    sizes = (length, width, height, *(limb.radius for limb in limbs))
    numbers = (*sizes, exponent, *(value for limb in limbs for value in (*limb[:5], *limb.direction)))
    if not all(map(math.isfinite, numbers)) or min(sizes) <= 0 or exponent < 1:
        raise ValueError(
            "body_solid needs positive measures and an exponent of at least 1; got others. Change them."
        )
    if any(not any(limb.direction) or limb.length < 0 for limb in limbs):
        raise ValueError("body_solid needs limbs with a direction and a length that is not negative. Change them.")
    half = torch.tensor([width, length, height], dtype=torch.float64) / 2
    reach = [half]
    rods = []
    for limb in limbs:
        start = torch.tensor(limb[:3], dtype=torch.float64)
        along = torch.nn.functional.normalize(torch.tensor(limb.direction, dtype=torch.float64), dim=0)
        rods.append((start, start + limb.length * along, limb.radius))
        reach += [end.abs() + limb.radius for end in rods[-1][:2]]
    limit = torch.stack(reach).amax(0)
    points, low, cell = _grid(-limit, limit, cells)
    distance = _ellipsoid(points, half, exponent)
    mirrored = points * points.new_tensor([-1.0, 1.0, 1.0])
    for number, (start, end, radius) in enumerate(rods, start=1):
        rod = torch.minimum(_rod(points, start, end, radius), _rod(mirrored, start, end, radius))
        if not ((rod < 0) & (distance < 0)).any():
            raise ValueError(f"body_solid needs limbs that start inside the body; limb {number} does not. Move it.")
        near = (1 - (distance - rod).abs() / (blend * radius + 1e-9)).clamp_min(0)
        distance = torch.minimum(distance, rod) - near.square() * blend * radius / 4
    return Solid((distance + distance.flip(0)) / 2, low, cell)


def mesh_solid(
    path: Path,
    *,
    front: str = "-y",
    up: str = "+z",
    tolerance: float = 0.1,
    max_hole: float = 0.1,
    cells: int = CELLS,
) -> tuple[Solid, float]:
    """Read a mesh file as a solid.

    Everything that closed surfaces enclose counts, whichever way their faces turn, so that parts may overlap or lie
    inside each other. Small holes are filled. The largest piece is kept, moved so that it and its mirror image
    about ``x = 0`` overlap most, and made symmetric by averaging the two.

    Args:
        path: GLB, OBJ, OFF, PLY or STL file.
        front: Axis of the file where the object's front points: ``-y``, ``+x``, ...
        up: Axis of the file that points up.
        tolerance: Largest asymmetry: the share of the volume of object and mirror image together that only one of
            the two fills; 1 accepts anything.
        max_hole: Longest side of a hole that is filled, as a share of the longest side of the mesh.
        cells: Cells of the grid along the longest side; parts that are thinner than one may get lost.

    Returns:
        Solid, and its asymmetry before it was averaged.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, the axes do not fit, or the mesh has large holes, no inside or is
            not symmetric.
    """
    path = Path(path)
    rotation = _axes(front, up)
    positions, corners, _ = read_surface(path)
    positions = positions @ rotation.mT
    extent = float((positions.amax(0) - positions.amin(0)).max())
    first, merged = merge_vertices(positions, 1e-6 * extent)
    vertices, faces = _close(path, positions[first], merged[corners], max_hole * extent)
    low, high = vertices.amin(0), vertices.amax(0)
    points, start, cell = _grid(low, high, cells)
    inside = _keep_largest(path, _fill(vertices, faces, points, cell))
    # The mirror image that overlaps most: of all sums of two places along x, the most frequent.
    spectrum = torch.fft.rfft(inside.double(), n=2 * len(inside), dim=0)
    overlap = torch.fft.irfft(spectrum.square(), n=2 * len(inside), dim=0).sum((1, 2))
    middle = float(start[0]) + cell * int(overlap.argmax()) / 2
    # Of places that the grid does not tell apart, the file's own plane is the likeliest, then the middle.
    for place in (0.0, float(low[0] + high[0]) / 2):
        if abs(middle - place) <= cell / 2:
            middle = place
            break
    vertices = vertices - vertices.new_tensor([middle, 0.0, 0.0])
    reach = max(float(high[0]) - middle, middle - float(low[0]))
    points, start, cell = _grid(low.index_fill(0, _X, -reach), high.index_fill(0, _X, reach), cells)
    inside = _keep_largest(None, _fill(vertices, faces, points, cell))
    both, either = inside & inside.flip(0), inside | inside.flip(0)
    asymmetry = 1 - float(both.sum() / either.sum())
    if asymmetry > tolerance:
        raise ValueError(
            f"A template needs a shape that is symmetric about x = 0; of {path} and its mirror image, "
            f"{asymmetry:.0%} of the volume is filled by one of the two only (allowed: {tolerance:.0%}). Check "
            "which axes are front and up, or accept it as it is (--symmetrise): the two are averaged."
        )
    distance = _signed_distance(_close_handles(path, inside)) * cell
    return Solid((distance + distance.flip(0)) / 2, start, cell), asymmetry


def _axes(front: str, up: str) -> Float[Tensor, "3 3"]:
    """Give the rotation from a file's axes to the object frame: left, rear, up."""
    signed = [name if name[:1] in "+-" else f"+{name}" for name in (front, up)]
    if any(name not in AXES for name in signed) or signed[0][1:] == signed[1][1:]:
        raise ValueError(
            f"A template needs two different axes as front and up, such as -y and +z; got {front!r} and {up!r}. "
            "Correct them."
        )
    rows = torch.zeros(2, 3, dtype=torch.float64)
    for row, name in enumerate(signed):
        place, sign = AXES[name]
        rows[row, place] = sign
    return torch.stack((torch.linalg.cross(rows[1], rows[0]), -rows[0], rows[1]))


def _grid(low: Tensor, high: Tensor, cells: int) -> tuple[Tensor, Tensor, float]:
    """Lay a grid over a box, about its middle, with some room."""
    cell = float((high - low).max()) / cells
    if not cell > 0:
        raise ValueError("A template needs a shape with an extent; got a point. Check the file.")
    counts = ((high - low) / cell).ceil().long() + 2 * ROOM
    start = (low + high) / 2 - cell * (counts - 1) / 2
    lines = [start[k] + cell * torch.arange(int(counts[k]), dtype=torch.float64) for k in range(3)]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), -1), start, cell


def _ellipsoid(points: Tensor, half: Tensor, exponent: float) -> Tensor:
    """Measure the distance from an ellipsoid, to first order."""
    scaled = (points / half).abs().clamp_min(1e-6)
    radius = scaled.pow(exponent).sum(-1).pow(1 / exponent)
    slope = (scaled.pow(exponent - 1) / half).norm(dim=-1) * radius.pow(1 - exponent)
    distance: Tensor = (radius - 1) / slope
    return distance


def _rod(points: Tensor, start: Tensor, end: Tensor, radius: float) -> Tensor:
    along = end - start
    share = ((points - start) @ along / along.square().sum().clamp_min(1e-12)).clamp(0, 1)
    distance: Tensor = (points - start - share[..., None] * along).norm(dim=-1) - radius
    return distance


def _close(path: Path, vertices: Tensor, faces: Tensor, longest: float) -> tuple[Tensor, Tensor]:
    """Fill the small holes: edges of an odd number of faces get a face each, with the middle of their hole."""
    faces = faces[(faces != faces.roll(1, 1)).all(1)]
    # Surfaces that are there twice, once for each side, count once.
    _, first = np.unique(faces.sort(-1).values.numpy(), axis=0, return_index=True)
    faces = faces[torch.from_numpy(first)]
    ends = torch.stack((faces, faces.roll(-1, 1)), -1).reshape(-1, 2).sort(-1).values
    pairs, counts = np.unique(ends.numpy(), axis=0, return_counts=True)
    border = torch.from_numpy(pairs[counts % 2 == 1])
    if not len(border):
        return vertices, faces
    hole = label_pieces(border, len(vertices))[border[:, 0]]
    spans, middles = [], []
    added = torch.zeros(len(border), dtype=torch.long)
    for number, label in enumerate(hole.unique().tolist()):  # type: ignore[no-untyped-call]
        rim = vertices[border[hole == label].flatten()]
        spans.append(float((rim.amax(0) - rim.amin(0)).max()))
        middles.append(rim.mean(0))
        added[hole == label] = len(vertices) + number
    if max(spans) > longest:
        extent = float((vertices.amax(0) - vertices.amin(0)).max())
        raise ValueError(
            f"A template needs a closed surface; {path} has {len(spans)} hole(s), {len(border)} edges in all. The "
            f"largest is {max(spans) / extent:.0%} of the mesh long (up to {longest / extent:.0%} are filled). "
            "Close it, or allow larger ones (--max-hole)."
        )
    _log.warning("%s: %d small hole(s) are filled.", path, len(spans))
    return torch.cat((vertices, torch.stack(middles))), torch.cat((faces, torch.cat((border, added[:, None]), 1)))


def _fill(vertices: Tensor, faces: Int[Tensor, "F 3"], points: Tensor, cell: float) -> Bool[Tensor, "nx ny nz"]:
    """Say which grid points closed surfaces enclose: upright lines enter and leave each of them by turns."""
    piece = label_pieces(edges(faces), len(vertices))[faces[:, 0]]
    start = points[0, 0, 0]
    # Slightly off the grid, so that lines meet edges and corners by accident only.
    places = ((vertices - start) / cell + vertices.new_tensor([1.234e-4, 2.718e-4, 0.0])).numpy()[faces.numpy()]
    nx, ny, nz = points.shape[:3]
    low = np.ceil(places[:, :, :2].min(1)).astype(np.int64)
    size = np.floor(places[:, :, :2].max(1)).astype(np.int64) - low + 1
    count = size.prod(1)
    face = np.repeat(np.arange(len(count)), count)
    rank = np.arange(len(face)) - np.repeat(count.cumsum() - count, count)
    columns = low[face] + np.stack((rank // size[face, 1], rank % size[face, 1]), 1)
    corner = places[face]
    first, second, aim = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0], columns - corner[:, 0, :2]
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        u = (aim[:, 0] * second[:, 1] - aim[:, 1] * second[:, 0]) / area
        v = (first[:, 0] * aim[:, 1] - first[:, 1] * aim[:, 0]) / area
        hit = (u >= 0) & (v >= 0) & (u + v <= 1)
    height = corner[hit, 0, 2] + u[hit] * first[hit, 2] + v[hit] * second[hit, 2]
    line = columns[hit, 0] * ny + columns[hit, 1]
    shell = piece.numpy()[face[hit]]
    order = np.lexsort((height, line, shell))
    line, shell, height = line[order], shell[order], height[order]
    group = (
        np.r_[True, (line[1:] != line[:-1]) | (shell[1:] != shell[:-1])] if len(line) else np.zeros(0, dtype=bool)
    )
    turn = np.arange(len(line)) - np.maximum.accumulate(np.where(group, np.arange(len(line)), 0))
    steps = np.zeros((nx * ny, nz + 1), dtype=np.int64)
    np.add.at(steps, (line, np.clip(np.ceil(height), 0, nz).astype(np.int64)), np.where(turn % 2 == 0, 1, -1))
    return torch.from_numpy(steps.cumsum(1)[:, :nz] > 0).reshape(nx, ny, nz)


def _keep_largest(path: Path | None, inside: Bool[Tensor, "nx ny nz"]) -> Bool[Tensor, "nx ny nz"]:
    """Keep the largest piece of a solid."""
    best, rest = torch.zeros_like(inside), inside.clone()
    while int(rest.sum()) > int(best.sum()):
        piece = torch.zeros_like(rest)
        piece.view(-1)[int(_squared_distance(~rest).argmax())] = True
        while True:
            grown = torch.nn.functional.max_pool3d(piece[None].float(), 3, 1, 1)[0].bool() & rest
            if torch.equal(grown, piece):
                break
            piece = grown
        rest &= ~piece
        best = piece if piece.sum() > best.sum() else best
    if not best.any():
        raise ValueError(f"A template needs a solid with an inside; {path} encloses nothing. Check the mesh.")
    if path is not None and (lost := 1 - float(best.sum() / inside.sum())) > 0:
        _log.warning("%s: the largest piece is kept; %.1f %% of the volume is left out.", path, 100 * lost)
    return best


def _close_handles(path: Path, inside: Bool[Tensor, "nx ny nz"]) -> Bool[Tensor, "nx ny nz"]:
    """Close handles and cavities, by growing the solid and shrinking it again."""
    closed, radius, room = inside, 0, max(inside.shape)
    # What will be wrapped is smoothed: roughness that goes with it is no handle.
    while _euler(_signed_distance(closed) < 0) != 1 and radius < room:
        radius += 1 + radius // 2
        grown = _squared_distance(torch.nn.functional.pad(inside, (radius,) * 6), radius) <= radius**2
        shrunk = _squared_distance(~grown, radius) > radius**2
        closed = shrunk[radius:-radius, radius:-radius, radius:-radius] | inside
    if radius:
        _log.warning("%s: handles or cavities, or gaps that look like them, are filled.", path)
    return closed


def _euler(inside: Bool[Tensor, "nx ny nz"]) -> int:
    """Count corners - edges + faces - cells of the cells' union: 1 for a ball, less for handles."""
    cells = torch.nn.functional.pad(inside[None].float(), (1,) * 6)
    total = 0
    for size in ((2, 2, 2), (1, 2, 2), (2, 1, 2), (2, 2, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (1, 1, 1)):
        sign = -1 if size.count(1) % 2 else 1
        total += sign * int(torch.nn.functional.max_pool3d(cells, size, 1).sum())
    return total


def _squared_distance(goal: Bool[Tensor, "nx ny nz"], reach: int = 1 << 20) -> Float[Tensor, "nx ny nz"]:
    """Measure the squared distance to the nearest true cell, exactly up to ``reach``, one axis after the other."""
    squared = torch.where(goal, 0.0, torch.tensor(1e9))
    for axis in range(3):
        lines = squared.movedim(axis, 0)
        best = lines.clone()
        for shift in range(1, min(len(lines), reach + 2)):
            best[shift:] = torch.minimum(best[shift:], lines[:-shift] + shift**2)
            best[:-shift] = torch.minimum(best[:-shift], lines[shift:] + shift**2)
        squared = best.movedim(0, axis)
    return squared


def _signed_distance(inside: Bool[Tensor, "nx ny nz"]) -> Float[Tensor, "nx ny nz"]:
    """Measure the distance to the surface in cells, negative inside, and smooth its steps a little."""
    outer, inner = ((_squared_distance(goal).sqrt() - 0.5).clamp_min(0) for goal in (inside, ~inside))
    smooth = (outer - inner)[None, None].double()
    for _ in range(2):
        smooth = torch.nn.functional.avg_pool3d(torch.nn.functional.pad(smooth, (1,) * 6, mode="replicate"), 3, 1)
    return smooth[0, 0]
