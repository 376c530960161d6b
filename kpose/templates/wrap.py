"""Wrapping a sphere around a solid: a closed, symmetric template of any shape, its skin spread out as texture."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kpose._limits import MAX_VERTICES, MIN_VERTICES
from kpose.geometry import vertex_normals
from kpose.geometry._mesh import face_normals
from kpose.structures import Template
from kpose.templates.remesh import HalfMap, collapse_short_edges, half_sphere, split_long_edges
from kpose.templates.uv import spherical_uv

__all__ = ["Solid", "wrap_solid"]

STAGES = 80  # from ellipsoid to solid
LATER = 8  # at the solid
FINISH = 30  # after vertices have been taken away
FINER = 1.2  # times as many faces on the way as in the end
MARGIN = 4  # cells of a solid's grid around its shape
MAX_GROWTH = 12  # on the way, times as many as in the end
NEAREST = 1e-3  # of the symmetry plane, as a share of half of the longest side
MAX_OFFSET = 0.1  # of the surface from the solid, as a share of its longest side
_DIGITS = 5  # vertices are rounded, so that they do not depend on the machine's last bits


class Solid(NamedTuple):
    """Solid as a grid of signed distances, symmetric about ``x = 0``."""

    distance: Float[Tensor, "nx ny nz"]
    """About the distance to the surface, negative inside; positive at the grid's border."""
    low: Float[Tensor, "3"]
    """Position of the first value."""
    cell: float
    """Distance between neighboring values."""

    def box(self) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
        """Return the lowest and the highest corner of the box around the inside."""
        inside = (self.distance < 0).nonzero()
        return self.low + self.cell * inside.amin(0), self.low + self.cell * inside.amax(0)


def wrap_solid(solid: Solid, num_vertices: int = 642, size: float = 2.0) -> Template:
    """Wrap a sphere around a solid in one piece without handles: its left half, which is mirrored in the end.

    The sphere starts as the ellipsoid in the solid's bounding box and follows the zero set of a distance that goes
    from the ellipsoid's to the solid's, while its vertices spread along the surface and long edges are halved, so
    that limbs get vertices as they grow. In the end short edges are drawn together until as many vertices are left
    as asked for, or one less. Texture coordinates are those of the sphere: no two points of the surface share
    texture. Their layout is that of the built-in bird.

    Raises:
        ValueError: If there are too few or too many vertices, if ``size`` is not positive, or if the surface does
            not get close to the solid.

    Example:
        >>> axis = torch.linspace(-1.5, 1.5, 16, dtype=torch.float64)
        >>> ball = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0) - 1
        >>> template = wrap_solid(Solid(ball, torch.full((3,), -1.5, dtype=torch.float64), 0.2), num_vertices=100)
        >>> 95 < len(template.vertices) <= 100
        True
    """
    if num_vertices < MIN_VERTICES:
        raise ValueError(f"A template needs at least {MIN_VERTICES} vertices; got {num_vertices}. Ask for more.")
    if num_vertices > MAX_VERTICES:
        raise ValueError(f"A template takes at most {MAX_VERTICES} vertices; got {num_vertices}. Ask for fewer.")
    if not 0 < size < math.inf:
        raise ValueError(f"A template needs a positive size; got {size}. Change it.")
    if not (solid.distance < 0).any():
        raise ValueError("A template needs a solid with an inside; got none. Ask for a finer grid.")
    low, high = solid.box()
    pull = _Pull(solid, (low + high) / 2, ((high - low) / 2).clamp_min(solid.cell))
    surface = half_sphere(int(math.log(num_vertices / 4, 4)))
    surface = surface._replace(vertices=pull.center + pull.half * surface.vertices)
    faces = FINER * num_vertices
    for stage in range(STAGES + LATER):
        # Of equilateral faces that cover the surface.
        side = math.sqrt(4 / math.sqrt(3) * _area(surface) / faces)
        if len(surface.vertices) < MAX_GROWTH / 2 * num_vertices:
            surface = split_long_edges(surface, 1.4 * side)
        surface = pull(surface, min(1.0, (stage + 1) / STAGES), rounds=2)
    surface = pull(collapse_short_edges(surface, num_vertices), 1.0, rounds=FINISH)
    whole, mirror = surface.whole()
    points = whole.vertices
    off = torch.maximum(low - points.amin(0), points.amax(0) - high).abs().max()
    off = torch.maximum(off, pull.distance(points[whole.faces].mean(1)).abs().max())
    if len(points) > 1.1 * num_vertices or off > MAX_OFFSET * (high - low).max():
        raise ValueError(
            f"A template cannot be wrapped around this solid: {len(points)} of {num_vertices} vertices stay up to "
            f"{float(off / (high - low).max()):.0%} of its size away. Close its handles and hollows, thicken its "
            "thin parts, or ask for more vertices."
        )
    return _template(whole, mirror, size)


class _Pull:
    """Pull a surface onto a solid, or onto something between it and the ellipsoid in its bounding box."""

    def __init__(self, solid: Solid, center: Tensor, half: Tensor) -> None:
        slopes = torch.gradient(solid.distance, spacing=solid.cell)
        self.volume = torch.stack((solid.distance, *slopes))[None]
        self.solid, self.center, self.half = solid, center, half
        self.shape = center.new_tensor(solid.distance.shape)

    def __call__(self, surface: HalfMap, share: float, *, rounds: int) -> HalfMap:
        # Both ways in every face: an edge inside counts twice, as it does with its mirror image beside one on the
        # border, which counts once.
        ends = torch.stack((surface.faces, surface.faces.roll(-1, 1)), -1).reshape(-1, 2)
        ends = torch.cat((ends, ends.flip(-1)))
        vertices = surface.vertices
        degree = torch.bincount(ends[:, 0], minlength=len(vertices))[:, None]
        flat = torch.ones_like(vertices)
        flat[:, 0] = surface.sphere[:, 0] != 0
        # The inside of the half stays on its side, or it would pass through its mirror image.
        lowest = vertices.new_tensor([NEAREST * float(self.half.max()), -math.inf, -math.inf])
        for _ in range(rounds):
            # Along the surface each vertex goes toward the middle of its neighbors.
            middle = torch.zeros_like(vertices).index_add(0, ends[:, 0], vertices[ends[:, 1]]) / degree
            normal = torch.nn.functional.normalize(flat * vertex_normals(vertices, surface.faces), dim=-1)
            move = middle - vertices
            vertices = vertices + 0.5 * (move - (move * normal).sum(-1, keepdim=True) * normal)
            for _ in range(2):
                vertices = flat * (vertices - self._step(vertices, share)).clamp_min(lowest)
        return surface._replace(vertices=vertices)

    def distance(self, points: Tensor) -> Tensor:
        """Signed distance of points from the solid."""
        return self._read(points)[0]

    def _read(self, points: Tensor) -> Tensor:
        place = ((points - self.solid.low) / self.solid.cell + 0.5) / self.shape * 2 - 1
        grid = place.flip(-1)[None, None, None]
        found = torch.nn.functional.grid_sample(self.volume, grid, padding_mode="border", align_corners=False)
        return found[0, :, 0, 0]

    def _step(self, points: Tensor, share: float) -> Tensor:
        """Newton's step to the zero set, no longer than a tenth of the solid."""
        found = self._read(points)
        value, slope = found[0], found[1:].mT
        scaled = (points - self.center) / self.half
        radius = scaled.norm(dim=-1).clamp_min(1e-9)
        value = share * value + (1 - share) * (radius - 1) * self.half.min()
        slope = share * slope + (1 - share) * scaled / self.half / radius[:, None] * self.half.min()
        step = value[:, None] * slope / (slope.square().sum(-1, keepdim=True) + 1e-6)
        limit: Tensor = 0.1 * self.half.max() / step.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        short: Tensor = step * limit.clamp_max(1.0)
        return short


def _area(surface: HalfMap) -> float:
    return float(face_normals(surface.vertices, surface.faces, unit=False).norm(dim=-1).sum() / 2)


def _template(surface: HalfMap, mirror: Tensor, size: float) -> Template:
    vertices, sphere, faces = surface
    low, high = vertices.amin(0), vertices.amax(0)
    center = (low + high) / 2 * vertices.new_tensor([0.0, 1.0, 1.0])
    vertices = (vertices - center) * (size / (high - low).max())
    vertices = (vertices * 10**_DIGITS).round().div(10**_DIGITS).float() + 0.0
    uv, uv_faces = spherical_uv(sphere, faces)
    return Template(vertices, faces, uv.float(), uv_faces, mirror, (), torch.zeros(0, dtype=torch.long))
