"""From a body to a template: rings of vertices, faces between them, texture coordinates and parts."""

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kpose.structures import Template
from kpose.templates.body import Body, Relief, surface

__all__ = ["Lattice", "build_template", "lattice", "lattice_points"]

Array = npt.NDArray[Any]

_DIGITS = 5  # vertices are rounded, so that they do not depend on the machine's last bits


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


def build_template(
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

    Example:
        >>> from kpose.templates import Section
        >>> ball = Body((Section(-1, 0, 0, 0), *(Section(y, 0, 1, 1) for y in (-1, 0, 1)), Section(1, 0, 0, 0)))
        >>> build_template(ball, {"top": (0.5, 0.0)}).part_names
        ('top',)
    """
    if num_vertices < 50:
        raise ValueError(f"build_template needs at least 50 vertices; got {num_vertices}. Ask for more.")
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
    """Give the vertices of a lattice on a body; differentiable in the table.

    Args:
        grid: Lattice.
        table: Sections as `Body.table` gives them, not necessarily of the body that the lattice was laid on.
        reliefs: Swellings on the flanks.

    Returns:
        Positions, exactly symmetric about ``x = 0``.
    """
    points = surface(table, grid.place.to(table), grid.angle.to(table), reliefs)
    # The right is copied from the left: vectorised sines may differ in the last bit.
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
    """Join the left halves of neighbouring rings by triangles; vertices are counted along the half rings."""
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
            f"build_template needs parts at places from 0 to 1 and angles from -180 to 180 degrees; got {name!r} "
            f"at {place}, {degrees}."
        )
    angle = torch.tensor(abs(degrees), dtype=torch.float64).deg2rad()
    target = surface(body.table(), torch.tensor(place, dtype=torch.float64), angle, body.reliefs)
    middle = abs(degrees) in (0, 180)
    target = target * target.new_tensor([0.0 if middle else math.copysign(1, degrees), 1.0, 1.0])
    distance = (points - target).norm(dim=-1)
    allowed = (grid.side == 0) if middle else grid.side == math.copysign(1, degrees)
    return int(torch.where(allowed, distance, torch.inf).argmin())
