"""Templates from a few measures: an ellipsoid or a rounded box, with limbs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.structures import Template
from kpose.templates.wrap import MARGIN, Solid, wrap_solid

__all__ = ["Limb", "build_template"]

BLEND = 0.5  # over what distance a limb runs into what is there, as a share of its radius


class Limb(NamedTuple):
    """Rod with round ends that grows out of a body; its mirror image grows with it.

    Example:
        >>> wheel = Limb(0.3, 0.6, -0.18, 0.1, 0.17, (1.0, 0.0, 0.0))
        >>> wheel.radius
        0.17
    """

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


def build_template(
    length: float,
    width: float,
    height: float,
    limbs: Sequence[Limb] = (),
    *,
    exponent: float = 2.0,
    num_vertices: int = 642,
    size: float = 2.0,
    cells: int = 96,
) -> Template:
    """Build a template from the measures of a body with limbs.

    Args:
        length: Length of an ellipsoid about the origin, from front (-y) to rear.
        width: Its width.
        height: Its height.
        limbs: Limbs, in the same unit, that run smoothly into the body; each stands for its mirror image too.
        exponent: 2 for an ellipsoid, more for a body with flatter sides and rounded edges.
        num_vertices: Number of vertices, from 50 to 20,000; it may be one less.
        size: Longest side of the template's bounding box, in object units, positive.
        cells: Cells of the grid that the body is sampled on, along its longest side.

    Returns:
        Template without parts, float32: closed, of genus 0, symmetric, its bounding box about the origin; no two
        points of its surface share texture.

    Raises:
        ValueError: If a measure is not positive or finite, a limb has no direction or does not touch the body, or
            the number of vertices is out of range or too small for the limbs.

    Example:
        >>> dog = build_template(2.0, 1.0, 1.0, [Limb(0.3, -0.5, -0.2, 0.6, 0.1)], num_vertices=100, cells=24)
        >>> 95 < len(dog.vertices) <= 100
        True
    """
    return wrap_solid(body_solid(length, width, height, limbs, exponent, cells), num_vertices, size)


def body_solid(
    length: float, width: float, height: float, limbs: Sequence[Limb] = (), exponent: float = 2.0, cells: int = 96
) -> Solid:
    """Sample the distance to a body with limbs.

    Source:
        Quílez, Smooth minimum (quadratic), 2013.
    """
    sizes = (length, width, height, *(limb.radius for limb in limbs))
    numbers = (*sizes, exponent, *(value for limb in limbs for value in (*limb[:5], *limb.direction)))
    if not all(map(math.isfinite, numbers)) or min(sizes) <= 0 or exponent < 1:
        raise ValueError(
            "build_template needs positive measures and an exponent of at least 1; got others. Change them."
        )
    if any(not any(limb.direction) or limb.length < 0 for limb in limbs):
        raise ValueError("build_template needs limbs with a direction and a length of at least 0. Change them.")
    half = torch.tensor([width, length, height], dtype=torch.float64) / 2
    reach = [half]
    rods = []
    for limb in limbs:
        start = torch.tensor(limb[:3], dtype=torch.float64)
        along = torch.nn.functional.normalize(torch.tensor(limb.direction, dtype=torch.float64), dim=0)
        rods.append((start, start + limb.length * along, limb.radius))
        reach += [end.abs() + limb.radius for end in rods[-1][:2]]
    limit = torch.stack(reach).amax(0)
    cell = float(2 * limit.max()) / cells
    counts = (2 * limit / cell).ceil() + 2 * MARGIN
    lines = [cell * (torch.arange(int(count), dtype=torch.float64) - (int(count) - 1) / 2) for count in counts]
    points = torch.stack(torch.meshgrid(*lines, indexing="ij"), -1)
    distance = _ellipsoid(points, half, exponent)
    mirrored = points * points.new_tensor([-1.0, 1.0, 1.0])
    for number, (start, end, radius) in enumerate(rods, start=1):
        rod = torch.minimum(_rod(points, start, end, radius), _rod(mirrored, start, end, radius))
        if not ((rod < 0) & (distance < 0)).any():
            raise ValueError(
                f"build_template needs limbs that start inside the body; limb {number} does not. Move it."
            )
        near = (1 - (distance - rod).abs() / (BLEND * radius)).clamp_min(0)
        distance = torch.minimum(distance, rod) - near.square() * BLEND * radius / 4
    return Solid((distance + distance.flip(0)) / 2, points[0, 0, 0], cell)


def _ellipsoid(points: Tensor, half: Tensor, exponent: float) -> Float[Tensor, "nx ny nz"]:
    """Distance from an ellipsoid, to first order."""
    scaled = (points / half).abs().clamp_min(1e-6)
    radius = scaled.pow(exponent).sum(-1).pow(1 / exponent)
    slope = (scaled.pow(exponent - 1) / half).norm(dim=-1) * radius.pow(1 - exponent)
    distance: Tensor = (radius - 1) / slope
    return distance


def _rod(points: Tensor, start: Tensor, end: Tensor, radius: float) -> Float[Tensor, "nx ny nz"]:
    along = end - start
    share = ((points - start) @ along / along.square().sum().clamp_min(1e-12)).clamp(0, 1)
    distance: Tensor = (points - start - share[..., None] * along).norm(dim=-1) - radius
    return distance
