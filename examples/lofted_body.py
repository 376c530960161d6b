"""Templates lofted from sections: a smooth closed surface described by a small table of measures.

A body runs from its front tip (-y) to its rear tip (+y). Each section is a ring like an ellipse in an upright or
leaning plane; the measures of the sections blend along the body as a uniform cubic B-spline, which never overshoots
them. `surface` is differentiable in the measures, so that a body can be fitted. `loft_template` meshes it by rings
of vertices, with texture coordinates and parts. `fit_template.py` makes the built-in bird with it.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kpose.structures import Template

Array = npt.NDArray[Any]

_DIGITS = 5  # vertices are rounded, so that they do not depend on the machine's last bits


class Section(NamedTuple):
    """Control section of a body, in object units; half measures are from the section's center."""

    y: float
    """Place along the body: the front is at smaller y."""
    z: float
    """Height of the center."""
    width: float
    """Half-width (x)."""
    height: float
    """Half-height (z)."""
    sag: float = 0.0
    """Where the section is widest: 0 at the center, towards 1 low (pear-shaped), towards -1 high."""
    lean: float = 0.0
    """Angle of the section's plane in degrees: its top leans forward, so that the body dips towards the front."""


class Relief(NamedTuple):
    """Swelling on both flanks, such as a folded wing: a patch in (place along the body, angle around it)."""

    start: float
    """Front end, as a share of the body's length in sections: 0 front tip, 1 rear tip."""
    stop: float
    """Rear end, in the same unit."""
    top: float
    """Angle of the upper edge in the middle of the patch, in degrees: 0 is the top of the section, 90 its side."""
    bottom: float
    """Angle of the lower edge in the middle of the patch, in degrees."""
    thickness: float
    """Height of the swelling, in object units; along the section's outward direction."""
    taper: float = 0.0
    """Degrees by which the lower edge rises from the front end to the rear end."""
    softness: float = 0.5
    """Share of the patch, from each edge inwards, over which the swelling rises, in (0, 1]."""


@dataclass(frozen=True)
class Body:
    """Measures of a body that is symmetric about ``x = 0``.

    Args:
        sections: At least 5 control sections from the front tip to the rear tip, y growing; the first and the last
            are the tips, of zero width and height. Equal y of the first (last) two makes a blunt end.
        reliefs: Swellings on the flanks.
    """

    sections: tuple[Section, ...]
    reliefs: tuple[Relief, ...] = ()

    def __post_init__(self) -> None:
        """Check the measures.

        Raises:
            ValueError: If the measures do not describe a body.
        """
        rows = self.sections
        if len(rows) < 5:
            raise ValueError(f"Body needs at least 5 sections; got {len(rows)}. Add sections between the tips.")
        if not all(math.isfinite(value) for row in (*rows, *self.reliefs) for value in row):
            raise ValueError("Body needs finite measures; got NaN or infinity. Check the table.")
        if any(row.width != 0 or row.height != 0 for row in (rows[0], rows[-1])):
            raise ValueError("Body needs tips of zero width and height in its first and last section. Add them.")
        if any(row.width <= 0 or row.height <= 0 for row in rows[1:-1]):
            raise ValueError("Body needs positive widths and heights between its tips. Check the table.")
        if any(after.y < before.y for before, after in itertools.pairwise(rows)) or rows[0].y == rows[-1].y:
            raise ValueError("Body needs y growing from the front tip to the rear tip. Sort the sections by y.")
        if any(abs(row.sag) >= 1 or abs(row.lean) >= 90 for row in rows):
            raise ValueError(
                "Body needs sags between -1 and 1 and leans between -90 and 90 degrees. Check the table."
            )

    def table(self) -> Float[Tensor, "S 6"]:
        """Return the sections as a tensor.

        Returns:
            One row ``(y, z, width, height, sag, lean)`` for each section, float64.
        """
        return torch.tensor(self.sections, dtype=torch.float64)


def blend(table: Float[Tensor, "S C"], place: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch C"]:
    """Blend rows as the control points of a uniform cubic B-spline that starts and ends at the outer rows.

    Args:
        table: Control points, at least 4.
        place: Where to read, from 0 (first row) to 1 (last row).

    Returns:
        Values at the places; each is a convex combination of at most four rows.

    Source:
        de Boor, A Practical Guide to Splines, 1978, chapter X.

    Example:
        >>> blend(torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0.0, 0.5, 1.0])).flatten()
        tensor([0.0000, 1.5000, 3.0000])
    """
    spans = len(table) - 3
    knots = torch.nn.functional.pad(torch.arange(spans + 1.0).to(place), (3, 3), mode="constant")
    knots[-3:] = spans
    position = place * spans
    span = position.detach().floor().clamp(0, spans - 1).long()
    # De Boor's recursion on the four rows that reach into the span.
    rows = [table[span + k] for k in range(4)]
    for level in range(1, 4):
        for k in range(3, level - 1, -1):
            left, right = knots[span + k], knots[span + k + 4 - level]
            share = ((position - left) / (right - left))[..., None]
            rows[k] = (1 - share) * rows[k - 1] + share * rows[k]
    return rows[3]


def surface(
    table: Float[Tensor, "S 6"],
    place: Float[Tensor, "*batch"],
    angle: Float[Tensor, "*batch"],
    reliefs: tuple[Relief, ...] = (),
) -> Float[Tensor, "*batch 3"]:
    """Compute points of a body's surface; differentiable in the table.

    Args:
        table: Sections as `Body.table` returns them.
        place: Place along the body, from 0 (front tip) to 1 (rear tip).
        angle: Angle around the section in radians: 0 at the top, π at the bottom, growing towards the left (+x).
        reliefs: Swellings on the flanks.

    Returns:
        Points in the object frame.
    """
    y, z, width, height, sag, lean = blend(table, place).unbind(-1)
    sine, cosine = angle.sin(), angle.cos()
    swell = torch.zeros_like(place)
    for relief in reliefs:
        swell = swell + _swelling(relief, place, angle)
    x = width * (angle - sag * sine).sin() + swell * sine
    rise, lean = (height + swell) * cosine, lean.deg2rad()
    return torch.stack((x, y - rise * lean.sin(), z + rise * lean.cos()), -1)


def _swelling(relief: Relief, place: Tensor, angle: Tensor) -> Tensor:
    """Height of a relief: a plateau that rises smoothly from the patch's edges."""
    along = (place - relief.start) / (relief.stop - relief.start)
    side = math.pi - (angle.remainder(2 * math.pi) - math.pi).abs()
    lower = relief.bottom + relief.taper * (0.5 - along)
    around = (side.rad2deg() - relief.top) / (lower - relief.top)
    return relief.thickness * _plateau(along, relief.softness) * _plateau(around, relief.softness)


def _plateau(share: Tensor, softness: float) -> Tensor:
    rise = (2 * torch.minimum(share, 1 - share) / softness).clamp(0, 1)
    return rise * rise * (3 - 2 * rise)


class Lattice(NamedTuple):
    """Mesh on the surface of a body before it has positions: where its vertices sit and how they join."""

    place: Float[Tensor, "V"]
    """Place of each vertex along the body, from 0 (front tip) to 1 (rear tip)."""
    angle: Float[Tensor, "V"]
    """Angle of each vertex around the body in radians, in [0, π]: 0 at the top."""
    side: Float[Tensor, "V"]
    """1 on the left (+x), -1 on the right, 0 on the symmetry plane."""
    mirror: Int[Tensor, "V"]
    """Mirror partner of each vertex."""
    faces: Int[Tensor, "F 3"]
    """Vertex indices, counter-clockwise seen from outside."""
    uv: Float[Tensor, "T 2"]
    """Texture coordinates."""
    uv_faces: Int[Tensor, "F 3"]
    """For each face corner, its row in ``uv``."""


def loft_template(
    body: Body, parts: Mapping[str, tuple[float, float]] | None = None, *, num_vertices: int = 642
) -> Template:
    """Build a template from a body.

    The mesh consists of rings around the body, closer to each other where the body is thin. Its texture is the skin
    cut open along the belly: u runs from the belly's middle (0) over the left flank (1/4), the back (1/2) and the
    right flank (3/4) to the belly again (1), v from the front tip (0) to the rear tip (1).

    Args:
        body: Measures.
        parts: For each part its place along the body, from 0 (front tip) to 1 (rear tip), and its angle around the
            body in degrees, from 0 (top) over 90 (left side) to 180 (bottom), negative on the right. The nearest
            vertex stands for the part; parts at 0 or 180 degrees stay on the symmetry plane, the others off it.
        num_vertices: Number of vertices to come close to (a few per cent), at least 50.

    Returns:
        Template: closed, genus 0, exactly symmetric about ``x = 0``; float32.

    Raises:
        ValueError: If there are too few vertices, or if a part is outside the body.

    """
    if num_vertices < 50:
        raise ValueError(f"loft_template needs at least 50 vertices; got {num_vertices}. Ask for more.")
    grid = lattice(body, num_vertices)
    exact = lattice_points(grid, body.table(), body.reliefs)
    names = tuple(parts or {})
    index = [_nearest(grid, exact, body, name, *place) for name, place in (parts or {}).items()]
    return Template(
        vertices=(exact * 10**_DIGITS).round().div(10**_DIGITS).float() + 0.0,
        faces=grid.faces,
        uv=grid.uv.float(),
        uv_faces=grid.uv_faces,
        mirror=grid.mirror,
        part_names=names,
        part_vertices=torch.tensor(index, dtype=torch.long),
    )


def lattice_points(
    grid: Lattice, table: Float[Tensor, "S 6"], reliefs: tuple[Relief, ...] = ()
) -> Float[Tensor, "V 3"]:
    """Compute the vertices of a lattice on a body; differentiable in the table.

    Args:
        grid: Lattice.
        table: Sections as `Body.table` returns them, not necessarily of the body that the lattice was laid on.
        reliefs: Swellings on the flanks.

    Returns:
        Positions, exactly symmetric about ``x = 0``.
    """
    points = surface(table, grid.place.to(table), grid.angle.to(table), reliefs)
    # The right is copied from the left: vectorized sines may differ in the last bit.
    left = torch.where(grid.side < 0, grid.mirror, torch.arange(len(grid.mirror)))
    sign = torch.stack((grid.side, torch.ones_like(grid.side), torch.ones_like(grid.side)), -1)
    return points[left] * sign.to(points)


def lattice(body: Body, num_vertices: int) -> Lattice:
    """Lay a mesh on a body.

    Args:
        body: Measures.
        num_vertices: Number of vertices to come close to.

    Returns:
        Lattice with rings whose number of vertices grows with the square root of their girth.
    """
    place = torch.linspace(0, 1, 801, dtype=torch.float64)
    angle = torch.linspace(0, math.pi, 65, dtype=torch.float64)
    places, turns = torch.meshgrid(place, angle, indexing="ij")
    skin = surface(body.table(), places, turns, body.reliefs)
    arcs = np.asarray(skin.diff(dim=1).norm(dim=-1))
    girth = 2 * arcs.sum(-1)
    share = np.sqrt(girth / girth.max())
    step = np.asarray(skin.diff(dim=0).norm(dim=-1).mean(-1))
    # A ring of scale * share vertices has edges of girth / (scale * share), which is also its distance to the next.
    travel = np.append(0.0, np.cumsum(step * (share[1:] + share[:-1]) / (girth[1:] + girth[:-1])))
    choices = itertools.product(range(3, (num_vertices + 2) // 4), np.linspace(0, 0.15, 16), (1, -1))
    rings, stretch = min(
        ((rings, 1 + sign * change) for rings, change, sign in choices),
        key=lambda c: (abs(2 + 2 * int(_ring_sizes(travel, share, *c)[1].sum()) - num_vertices), abs(c[1] - 1)),
    )
    rows, halves = _ring_sizes(travel, share, rings, stretch)
    angles = []
    for row, half in zip(rows, halves, strict=True):
        # Spaced half by arc, half by angle: flat rings keep vertices at their sharp edges.
        arc = np.append(0.0, np.cumsum(arcs[row]))
        angles.append(
            np.interp(np.linspace(0, 2, half + 1), arc / arc[-1] + angle.numpy() / math.pi, angle.numpy())
        )
    return _assemble(place[rows], angles, _strips(angles))


def _ring_sizes(travel: Array, share: Array, rings: int, stretch: float) -> tuple[Array, Array]:
    """Sample rows of so many rings, and into how many segments each divides its half turn.

    Edges along the body are longer than those around it by the factor ``stretch``.
    """
    rows = np.interp(np.arange(1, rings + 1) / (rings + 1) * travel[-1], travel, np.arange(len(travel)))
    rows = rows.round().astype(int)
    halves = np.maximum(2, (stretch * (rings + 1) / travel[-1] * share[rows] / 2).round().astype(int))
    return rows, halves


def _strips(angles: list[Array]) -> Array:
    """Join the left halves of neighboring rings by triangles; vertices are counted along the half rings."""
    faces, start = [], 0
    for front, rear in itertools.pairwise(angles):
        a, b = 0, 0
        while a < len(front) - 1 or b < len(rear) - 1:
            first, second = start + a, start + len(front) + b
            # The diagonal that turns less around the body.
            if b == len(rear) - 1 or (
                a < len(front) - 1 and round(abs(front[a + 1] - rear[b]) - abs(front[a] - rear[b + 1]), 9) <= 0
            ):
                faces.append((first, first + 1, second))
                a += 1
            else:
                faces.append((first, second + 1, second))
                b += 1
        start += len(front)
    return np.array(faces)


def _assemble(rows: Tensor, angles: list[Array], strips: Array) -> Lattice:
    """Number vertices and texture coordinates ring by ring, mirror the left half, close the tips by fans.

    Vertices of a ring go once around from the top over the left; texture rows repeat the bottom.
    """
    place, angle, side, mirror = [0.0], [0.0], [0.0], [0]
    uv: list[tuple[float, float]] = []
    uv_mirror: list[int] = []
    left, left_uv, tops = [], [], []
    for number, (row, turn) in enumerate(zip(rows.tolist(), angles, strict=True)):
        half, first, first_uv = len(turn) - 1, len(place), len(uv)
        around = [*turn, *turn[-2:0:-1]]
        place += [row] * (2 * half)
        angle += around
        side += [0.0, *[1.0] * (half - 1), 0.0, *[-1.0] * (half - 1)]
        mirror += [first + (-k) % (2 * half) for k in range(2 * half)]
        v = (number + 1) / (len(rows) + 1)
        uv += [(0.5 - a / (2 * math.pi), v) for a in turn] + [(0.5 + a / (2 * math.pi), v) for a in turn[:0:-1]]
        uv_mirror += [first_uv + (-k) % (2 * half + 1) for k in range(2 * half + 1)]
        left += [first + k for k in range(half + 1)]
        left_uv += [first_uv + k for k in range(half + 1)]
        tops.append((first, first_uv, half))
    place, angle, side, mirror = [*place, 1.0], [*angle, 0.0], [*side, 0.0], [*mirror, len(mirror)]
    faces = [[left[k] for k in face] for face in strips]
    uv_faces = [[left_uv[k] for k in face] for face in strips]
    for tip, (first, first_uv, half), v in ((0, tops[0], 0.0), (len(place) - 1, tops[-1], 1.0)):
        for k in range(half):
            u = (uv[first_uv + k][0] + uv[first_uv + k + 1][0]) / 2
            pair, rows_uv = (first + k, first + k + 1), (first_uv + k, first_uv + k + 1)
            uv_mirror += [len(uv) + 1, len(uv)]
            faces.append([tip, *(pair[::-1] if tip == 0 else pair)])
            uv_faces.append([len(uv), *(rows_uv[::-1] if tip == 0 else rows_uv)])
            uv += [(u, v), (1 - u, v)]
    return Lattice(
        torch.tensor(place, dtype=torch.float64),
        torch.tensor(angle, dtype=torch.float64),
        torch.tensor(side, dtype=torch.float64),
        torch.tensor(mirror),
        _with_mirror_image(torch.tensor(faces), torch.tensor(mirror)),
        torch.tensor(uv, dtype=torch.float64),
        _with_mirror_image(torch.tensor(uv_faces), torch.tensor(uv_mirror)),
    )


def _with_mirror_image(faces: Tensor, mirror: Tensor) -> Tensor:
    return torch.cat((faces, mirror[faces].flip(-1)))


def _nearest(grid: Lattice, points: Tensor, body: Body, name: str, place: float, degrees: float) -> int:
    """Find the vertex that stands for a part."""
    if not (0 <= place <= 1 and -180 <= degrees <= 180):
        raise ValueError(
            f"loft_template needs parts at places from 0 to 1 and angles from -180 to 180 degrees; got {name!r} "
            f"at {place}, {degrees}."
        )
    angle = torch.tensor(abs(degrees), dtype=torch.float64).deg2rad()
    target = surface(body.table(), torch.tensor(place, dtype=torch.float64), angle, body.reliefs)
    middle = abs(degrees) in (0, 180)
    target = target * target.new_tensor([0.0 if middle else math.copysign(1, degrees), 1.0, 1.0])
    distance = (points - target).norm(dim=-1)
    allowed = (grid.side == 0) if middle else grid.side == math.copysign(1, degrees)
    return int(torch.where(allowed, distance, torch.inf).argmin())
