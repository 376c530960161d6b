"""Bodies lofted from sections: a smooth closed surface described by a small table of measures.

A body runs from its front tip (-y) to its rear tip (+y). Each section is a ring like an ellipse in an upright or
leaning plane; the measures of the sections blend along the body as a uniform cubic B-spline, which never overshoots
them. `surface` is differentiable in the measures, so that a body can be fitted.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Body", "Relief", "Section", "blend", "surface"]


class Section(NamedTuple):
    """Control section of a body, in object units; half measures are from the section's centre."""

    y: float
    """Place along the body: the front is at smaller y."""
    z: float
    """Height of the centre."""
    width: float
    """Half-width (x)."""
    height: float
    """Half-height (z)."""
    sag: float = 0.0
    """Where the section is widest: 0 at the centre, towards 1 low (pear-shaped), towards -1 high."""
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
        if any(after.y < before.y for before, after in pairwise(rows)) or rows[0].y == rows[-1].y:
            raise ValueError("Body needs y growing from the front tip to the rear tip. Sort the sections by y.")
        if any(abs(row.sag) >= 1 or abs(row.lean) >= 90 for row in rows):
            raise ValueError(
                "Body needs sags between -1 and 1 and leans between -90 and 90 degrees. Check the table."
            )

    def table(self) -> Float[Tensor, "S 6"]:
        """Give the sections as a tensor.

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
    """Give points of a body's surface; differentiable in the table.

    Args:
        table: Sections as `Body.table` gives them.
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
