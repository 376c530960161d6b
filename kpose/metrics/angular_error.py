"""Angle between predicted and true rotations: mean, median and accuracy at 30°."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.geometry import geodesic_distance, procrustes
from kpose.metrics.camera_pairs import CameraPairs

__all__ = ["AngularError", "angular_error"]


def angular_error(
    rotation: Float[Tensor, "*batch 3 3"], target_rotation: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch"]:
    """Measure the geodesic angle between rotations, in degrees.

    Nothing is aligned: both rotations must belong to the same object frame.

    Args:
        rotation: Predicted rotations, object frame to camera frame.
        target_rotation: True rotations, object frame to camera frame.

    Returns:
        Angles in [0, 180] degrees; NaN where a rotation is NaN.

    Source:
        Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020 (released benchmark): mean over images.

    Example:
        >>> angular_error(torch.eye(3), torch.diag(torch.tensor([-1.0, -1.0, 1.0])))
        tensor(180.)
    """
    return geodesic_distance(rotation, target_rotation).rad2deg()


def _frame_alignment(
    rotation: Float[Tensor, "N 3 3"], target_rotation: Float[Tensor, "N 3 3"]
) -> Float[Tensor, "3 3"]:
    """Estimate the ``A`` for which all ``rotation @ A`` are nearest to the targets in the mean squared chord.

    NaN without rotations or when one of them is NaN. Source: Hartley et al., Rotation Averaging, IJCV 2013,
    section 5.3 (chordal mean).
    """
    mean = (rotation.mT @ target_rotation).mean(0)
    if not mean.isfinite().all():
        return torch.full_like(mean, math.nan)
    return procrustes(mean)


class AngularError(CameraPairs):
    """Mean, median and accuracy at 30° of `angular_error` over all images.

    The rotations of all images are kept (72 bytes an image), since neither median nor alignment can be added up. A
    NaN camera makes mean and median NaN and is a miss in the accuracy: a failed prediction never improves a score.
    Before the first update `compute` warns and gives NaN.

    Args:
        align: Turn the object frame of the predictions first, by the one rotation that brings all of them nearest
            to the true ones, for a template in another frame than the annotation. Published numbers do not.

    Example:
        >>> from kpose.structures import Camera
        >>> camera = Camera(torch.ones(1), torch.zeros(1, 2), torch.eye(3)[None])
        >>> metric = AngularError()
        >>> metric.update(camera, camera)
        >>> {name: round(value.item(), 3) for name, value in metric.compute().items()}
        {'angle_deg': 0.0, 'angle_deg_median': 0.0, 'angle_acc30': 1.0}
    """

    def __init__(self, *, align: bool = False) -> None:
        super().__init__()
        self.align = align

    def compute(self) -> dict[str, Float[Tensor, ""]]:
        """Return the scores over all images seen.

        Returns:
            ``angle_deg`` and ``angle_deg_median`` in degrees (of an even number of images the mean of the middle
            two), ``angle_acc30`` the share of images at or under 30°; NaN without images.
        """
        rotation, target = self.pairs()
        if self.align:
            rotation = rotation @ _frame_alignment(rotation, target)
        error = angular_error(rotation, target)
        return {
            "angle_deg": error.mean(),
            "angle_deg_median": error.quantile(0.5) if len(error) else error.mean(),
            "angle_acc30": (error <= 30).float().mean(),
        }
