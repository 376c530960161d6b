"""The cameras that a search starts from, and how far each may turn."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.geometry import viewpoint_to_matrix
from kpose.structures import Camera

__all__ = ["ViewpointGrid", "turn_cameras"]


@dataclass(frozen=True)
class ViewpointGrid:
    """Cameras that every image starts with, and how far each may turn from where it started.

    The values are those of U-CMR's released code. Neighbors of the grid are 30° apart, so with the ranges every
    viewpoint from 90° below to 90° above the horizon can be reached, rolled by up to 60°.

    Example:
        >>> ViewpointGrid().rotations().shape
        torch.Size([40, 3, 3])
    """

    azimuths: int = 8
    """Number of azimuths, evenly over the circle."""
    elevations: int = 5
    """Number of elevations, evenly within ±90°, the poles left out: -60°, -30°, 0°, 30° and 60° for 5."""
    scale: float = 0.8
    """Scale at the start, in normalized units per object unit."""
    azimuth_range_deg: float = 30.0
    """Largest turn about the image's vertical axis."""
    elevation_range_deg: float = 30.0
    """Largest turn about the image's horizontal axis."""
    roll_range_deg: float = 60.0
    """Largest turn in the image plane."""

    def rotations(self) -> Float[Tensor, "P 3 3"]:
        """Return the rotations of the grid, elevation running fastest."""
        azimuth = torch.arange(self.azimuths) * (2 * math.pi / self.azimuths)
        elevation = math.pi * ((1 + torch.arange(self.elevations)) / (self.elevations + 1) - 0.5)
        azimuth, elevation = torch.meshgrid(azimuth, elevation, indexing="ij")
        return viewpoint_to_matrix(azimuth, elevation, torch.zeros_like(azimuth)).flatten(0, 1)

    def ranges(self) -> Float[Tensor, "3"]:
        """Return the largest turns in azimuth, elevation and roll, in radians."""
        degrees = (self.azimuth_range_deg, self.elevation_range_deg, self.roll_range_deg)
        return torch.tensor([math.radians(d) for d in degrees])


def turn_cameras(base: Camera, residuals: Tensor, ranges: Tensor, gain: float) -> Camera:
    """Apply residuals to cameras: ``R_z(roll) R_x(elevation) R_y(azimuth) R_base``."""
    scale, translation, angles = torch.split(residuals, [1, 2, 3], -1)
    azimuth, elevation, roll = ((gain * angles).tanh() * ranges).unbind(-1)
    # The viewpoint's own base turn, R_x(-90°), sends y to -z and z to y; without it the three turns are left.
    x, z, minus_y = viewpoint_to_matrix(azimuth, elevation, roll).unbind(-1)
    turn = torch.stack((x, -minus_y, z), -1)
    moved = (base.scale + scale[..., 0]).clamp_min(1e-3), base.translation + translation
    return Camera(*moved, turn @ base.rotation)
