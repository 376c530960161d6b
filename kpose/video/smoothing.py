"""Causal smoothing of cameras and shapes over time."""

import math
from dataclasses import replace
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from kpose.geometry import axis_angle_to_matrix, matrix_to_axis_angle, uncrop_camera
from kpose.inference import Prediction
from kpose.structures import Camera

__all__ = ["Smoothed", "TemporalSmoothing", "smooth_camera"]


class Smoothed(NamedTuple):
    """What smoothing remembers of one object."""

    time_s: float
    """When it was last seen."""
    camera: Camera
    """Smoothed camera in normalized coordinates of its crop."""
    vertices: Float[Tensor, "V 3"]
    """Smoothed shape."""


class TemporalSmoothing:
    """Follow cameras and shapes with a lag, by exponential smoothing with a time constant.

    The camera is smoothed in its crop, which the tracker moves with the object: translation and the logarithm of
    the scale on the line, the rotation along the geodesic of SO(3). Shapes are smoothed vertex by vertex. A
    prediction that is not `valid` does not move what is remembered. After a gap longer than five time constants it
    starts again.

    Args:
        time_constant_s: Time in which two thirds of a jump are followed, in seconds, positive.

    Raises:
        ValueError: If the time constant is not positive.

    Example:
        >>> smoothing = TemporalSmoothing(0.1)  # as VideoPredictor(..., smoothing=smoothing) takes it
    """

    def __init__(self, time_constant_s: float = 0.1) -> None:
        if not 0 < time_constant_s < math.inf:
            raise ValueError(f"TemporalSmoothing needs a positive time constant; got {time_constant_s}.")
        self.time_constant_s = time_constant_s

    def __call__(self, last: Smoothed | None, prediction: Prediction, time_s: float) -> tuple[Prediction, Smoothed]:
        """Smooth one prediction of an object.

        Args:
            last: What the last call for this object returned, none for its first.
            prediction: What one frame shows.
            time_s: Time of the frame, in seconds.

        Returns:
            The prediction with smoothed camera and shape, and what the next call needs.
        """
        camera, vertices = prediction.crop_camera, prediction.mesh.vertices
        gap = math.inf if last is None else time_s - last.time_s
        if last is not None and gap <= 5 * self.time_constant_s:
            share = 1 - math.exp(-max(gap, 0.0) / self.time_constant_s) if prediction.valid else 0.0
            camera = smooth_camera(last.camera, camera, share)
            vertices = last.vertices.lerp(vertices, share)
        smoothed = replace(
            prediction,
            crop_camera=camera,
            camera=uncrop_camera(camera, prediction.crop),
            mesh=prediction.mesh._replace(vertices=vertices),
        )
        return smoothed, Smoothed(time_s, camera, vertices)


def smooth_camera(first: Camera, second: Camera, share: float) -> Camera:
    """Interpolate two cameras of one image frame: scale by its logarithm, rotation on the geodesic."""
    turn = matrix_to_axis_angle(first.rotation.mT @ second.rotation)
    rotation = first.rotation @ axis_angle_to_matrix(share * turn)
    scale = first.scale.log().lerp(second.scale.log(), share).exp()
    return Camera(scale, first.translation.lerp(second.translation, share), rotation)
