"""Distance between the distributions of predicted and true viewpoints."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.geometry import matrix_to_viewpoint
from kpose.metrics.camera_pairs import CameraPairs

__all__ = ["ViewpointWasserstein"]


def _wasserstein_linear(first: Float[Tensor, "N"], second: Float[Tensor, "M"]) -> Float[Tensor, ""]:
    """Measure the 1-Wasserstein distance between two samples on a line; NaN if one is empty or holds a NaN."""
    if not (len(first) and len(second)):
        return first.new_full((), math.nan)
    values, difference = _distribution_difference(first, second)
    return (difference[:-1].abs() * values.diff()).sum()


def _wasserstein_circular(
    first: Float[Tensor, "N"], second: Float[Tensor, "M"], *, period: float = 2 * math.pi
) -> Float[Tensor, ""]:
    """Measure the 1-Wasserstein distance between two samples on a circle; NaN if one is empty or holds a NaN.

    Source: Rabin et al., Transportation Distances on the Circle, JMIV 2011: the integral of ``|F - G - c|`` over
    one turn, which the median of ``F - G`` makes smallest.
    """
    if not (len(first) and len(second)):
        return first.new_full((), math.nan)
    values, difference = _distribution_difference(first.remainder(period), second.remainder(period))
    gap = torch.cat((values.diff(), values[:1] + period - values[-1:]))
    order = difference.argsort()
    middle = torch.searchsorted(gap[order].cumsum(0), gap.new_tensor([period / 2]))
    median = difference[order[middle.clamp_max(len(order) - 1)]]
    return ((difference - median).abs() * gap).sum()


def _distribution_difference(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return all values in order and, at and after each, the difference of the cumulative distributions."""
    values, order = torch.cat((first, second)).sort()
    # Counted in integers: rounding would add up over the thousands of steps of a whole test split.
    step = torch.cat((order.new_full((len(first),), len(second)), order.new_full((len(second),), -len(first))))
    return values, step[order].cumsum(0).to(values.dtype) / (len(first) * len(second))


class ViewpointWasserstein(CameraPairs):
    """Wasserstein distances, in degrees, between predicted and true azimuths and elevations.

    Azimuth is compared on the circle, elevation on the line; roll is not compared. A NaN camera makes both NaN.
    Before the first update `compute` warns and gives NaN.

    Source:
        Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020, which compares azimuths on a line and both in
        histograms of 100 bins.

    Example:
        >>> from kpose.structures import Camera
        >>> camera = Camera(torch.ones(1), torch.zeros(1, 2), torch.eye(3)[None])
        >>> metric = ViewpointWasserstein()
        >>> metric.update(camera, camera)
        >>> metric.compute()
        {'azimuth_ws_deg': tensor(0.), 'elevation_ws_deg': tensor(0.)}
    """

    higher_is_better = False

    def compute(self) -> dict[str, Float[Tensor, ""]]:
        """Return the distances over all images seen.

        Returns:
            ``azimuth_ws_deg`` and ``elevation_ws_deg``, in degrees; NaN without images.
        """
        rotation, target = self.pairs()
        azimuth, elevation, _ = matrix_to_viewpoint(rotation)
        target_azimuth, target_elevation, _ = matrix_to_viewpoint(target)
        return {
            "azimuth_ws_deg": _wasserstein_circular(azimuth, target_azimuth).rad2deg(),
            "elevation_ws_deg": _wasserstein_linear(elevation, target_elevation).rad2deg(),
        }
