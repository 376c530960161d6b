"""Cameras in the conventions of other libraries: OpenCV, PyTorch3D and Blender.

All take a camera in pixels of its picture. PyTorch3D and Blender have parallel projection, so that what they show
is exact; OpenCV has not, and gets a pinhole far away. The world is kpose's object frame.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.geometry.camera import weak_to_perspective
from kpose.structures import Camera

__all__ = ["BlenderCamera", "OpenCVCamera", "PyTorch3DCamera", "to_blender", "to_opencv", "to_pytorch3d"]

FAR = 1000.0
HALF_PIXEL = 0.5  # from the corner of a pixel, where kpose counts from, to its center, where OpenCV does


class OpenCVCamera(NamedTuple):
    """Pinhole camera of OpenCV: ``u ~ matrix @ (rotation @ X + translation)``.

    Pixels are OpenCV's: the center of the first one is at 0. They are kpose's minus 0.5.
    """

    matrix: Float[Tensor, "*batch 3 3"]
    """Intrinsics ``K``, in pixels."""
    rotation: Float[Tensor, "*batch 3 3"]
    """``R``; `cv2.Rodrigues` makes a vector of it."""
    translation: Float[Tensor, "*batch 3"]
    """``t``, in object units."""


class PyTorch3DCamera(NamedTuple):
    """Arguments of PyTorch3D's ``OrthographicCameras``, as in ``OrthographicCameras(**camera._asdict())``."""

    R: Float[Tensor, "batch 3 3"]
    """World to view for points in rows: ``X @ R + T``; the view has +x left, +y up, +z forward."""
    T: Float[Tensor, "batch 3"]
    """Translation that puts the object's origin before the camera, in object units."""
    focal_length: Float[Tensor, "batch 2"]
    """Normalized units (the shorter side of the picture is 2) for each object unit."""
    principal_point: Float[Tensor, "batch 2"]
    """Normalized position of the object's origin."""


class BlenderCamera(NamedTuple):
    """Properties of an orthographic camera in Blender, whose ``data.type`` is ``'ORTHO'``."""

    matrix_world: Float[Tensor, "*batch 4 4"]
    """Camera to world; the camera looks along its -z, +y is up."""
    ortho_scale: Float[Tensor, "*batch"]
    """Length that the longer side of the picture shows, in object units, for ``sensor_fit = 'AUTO'``."""
    shift_x: Float[Tensor, "*batch"]
    """Shift to the right, in longer sides of the picture."""
    shift_y: Float[Tensor, "*batch"]
    """Shift upwards, in longer sides of the picture."""


def to_opencv(camera: Camera, size: tuple[int, int], *, focal: float | None = None) -> OpenCVCamera:
    """Compute OpenCV's pinhole camera that agrees with a weak-perspective one in the plane of the object's origin.

    Args:
        camera: Cameras of positive scale, in pixels.
        size: Height and width of the picture, in pixels; the principal point is its center,
            ``((width - 1) / 2, (height - 1) / 2)`` in OpenCV's pixels.
        focal: Focal length in pixels; 1000 times the longer side when not given. What is ``d`` pixels off the
            center and ``z`` pixels behind the plane of the origin is shown ``d z / focal`` pixels off its place: a
            quarter of a pixel at the edge of a picture of 1000 pixels which the object fills.

    Returns:
        Intrinsics, rotation and translation.

    Raises:
        ValueError: If ``focal`` is not positive.

    Source:
        OpenCV, Camera Calibration and 3D Reconstruction, "pinhole camera model".

    Example:
        >>> found = to_opencv(Camera(torch.tensor(50.0), torch.tensor([70.0, 30.0]), torch.eye(3)), (80, 100))
        >>> found.matrix[:, 2], found.translation
        (tensor([49.5000, 39.5000,  1.0000]), tensor([ 4.0000e-01, -2.0000e-01,  2.0000e+03]))
    """
    height, width = size
    middle = camera.translation.new_tensor([width / 2, height / 2])
    length = FAR * max(size) if focal is None else focal
    pinhole = weak_to_perspective(camera._replace(translation=camera.translation - middle), length)
    ones = torch.ones_like(pinhole.focal[..., :1])
    matrix = torch.diag_embed(torch.cat((pinhole.focal, ones), -1))
    matrix[..., :2, 2] = middle - HALF_PIXEL
    return OpenCVCamera(matrix, pinhole.rotation, pinhole.translation)


def to_pytorch3d(camera: Camera, size: tuple[int, int], *, distance: float = 10.0) -> PyTorch3DCamera:
    """Return PyTorch3D's orthographic camera.

    Args:
        camera: Cameras in pixels, without leading dimensions or with one.
        size: Height and width of the picture, in pixels.
        distance: From the camera to the object's origin, in object units; what is behind the camera is not drawn.

    Returns:
        Arguments of ``OrthographicCameras``, with a leading dimension.

    Source:
        PyTorch3D, docs/notes/cameras.md and renderer/cameras.py (Transform3d multiplies rows).

    Example:
        >>> found = to_pytorch3d(Camera(torch.tensor(20.0), torch.tensor([50.0, 40.0]), torch.eye(3)), (80, 100))
        >>> found.focal_length, found.R[0].diagonal()
        (tensor([[0.5000, 0.5000]]), tensor([-1., -1.,  1.]))
    """
    height, width = size
    turn = camera.rotation.new_tensor([-1.0, -1.0, 1.0])
    rotation = (turn[:, None] * camera.rotation).mT.reshape(-1, 3, 3)
    extent = camera.translation.new_tensor([width, height])
    focal = (2 / min(size) * camera.scale).reshape(-1, 1).expand(-1, 2)
    principal = ((extent - 2 * camera.translation) / min(size)).reshape(-1, 2)
    position = torch.zeros_like(rotation[:, 0])
    position[:, 2] = distance
    return PyTorch3DCamera(rotation, position, focal, principal)


def to_blender(camera: Camera, size: tuple[int, int], *, distance: float = 10.0) -> BlenderCamera:
    """Return Blender's orthographic camera, for a mesh in kpose's object frame as Blender imports it.

    Args:
        camera: Cameras in pixels.
        size: Height and width of the picture, in pixels: Blender's resolution y and x.
        distance: From the camera to the object's origin, in object units; Blender draws what lies between the
            camera's ``clip_start`` and ``clip_end``, 0.1 and 100 if not changed.

    Returns:
        Properties of the camera object and its data.

    Source:
        Blender Python API: ``Object.matrix_world``, ``Camera.ortho_scale``, ``Camera.shift_x``, and the view plane
        of ``bpy_extras.object_utils.world_to_camera_view``.

    Example:
        >>> found = to_blender(Camera(torch.tensor(20.0), torch.tensor([50.0, 40.0]), torch.eye(3)), (80, 100))
        >>> found.ortho_scale, found.matrix_world[2, 3]
        (tensor(5.), tensor(-10.))
    """
    height, width = size
    longer = max(size)
    turn = camera.rotation.new_tensor([1.0, -1.0, -1.0])
    rotation = (turn[:, None] * camera.rotation).mT
    matrix = torch.zeros(*rotation.shape[:-2], 4, 4).to(rotation)
    matrix[..., :3, :3] = rotation
    matrix[..., :3, 3] = distance * rotation[..., 2]
    matrix[..., 3, 3] = 1
    right, down = camera.translation.unbind(-1)
    return BlenderCamera(matrix, longer / camera.scale, (width / 2 - right) / longer, (down - height / 2) / longer)
