"""Cameras: projection, weak perspective and perspective, crops and flips.

Image coordinates are pixels ``(x, y)`` with the origin at the corner of the first pixel (its center is 0.5), or
normalized coordinates of a crop with the corners at ±1. Conversion between camera models happens here only.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from kpose._precision import common_precision
from kpose.geometry.rotation import mirror_points, mirror_rotation
from kpose.structures import Camera, Crop, PerspectiveCamera

__all__ = [
    "apply_crop",
    "box_to_crop",
    "crop_camera",
    "flip_camera",
    "normalized_to_pixels",
    "perspective_to_weak",
    "pixels_to_normalized",
    "project",
    "project_perspective",
    "to_image_frame",
    "uncrop_camera",
    "undo_crop",
    "weak_to_perspective",
]


def to_image_frame(points: Float[Tensor, "*batch N 3"], camera: Camera) -> Float[Tensor, "*batch N 3"]:
    """Transform object points to image position and depth.

    Args:
        points: Points in the object frame, object units.
        camera: Weak-perspective cameras.

    Returns:
        ``(u, v, depth)`` with ``depth = scale * (R X)_z``: image units, growing away from the viewer, zero at the
        object's origin. At least single precision, as half would round positions to whole pixels.

    Example:
        >>> camera = Camera(torch.tensor(2.0), torch.tensor([0.5, 0.0]), torch.eye(3))
        >>> to_image_frame(torch.tensor([[1.0, 0.0, 3.0]]), camera)
        tensor([[2.5000, 0.0000, 6.0000]])
    """
    dtype = common_precision(points, *camera)
    with torch.autocast(points.device.type, enabled=False):
        camera = camera.to(dtype)
        scaled = points.to(dtype) @ camera.rotation.mT * camera.scale[..., None, None]
        return scaled + torch.nn.functional.pad(camera.translation, (0, 1)).unsqueeze(-2)


def project(points: Float[Tensor, "*batch N 3"], camera: Camera) -> Float[Tensor, "*batch N 2"]:
    """Project object points with a weak-perspective camera: ``u = s (R X)_xy + t``.

    Args:
        points: Points in the object frame, object units.
        camera: Weak-perspective cameras.

    Returns:
        Image positions, in the unit of the camera.

    Example:
        >>> camera = Camera(torch.tensor(2.0), torch.tensor([0.5, 0.0]), torch.eye(3))
        >>> project(torch.tensor([[1.0, 0.0, 3.0]]), camera)
        tensor([[2.5000, 0.0000]])
    """
    return to_image_frame(points, camera)[..., :2]


def project_perspective(
    points: Float[Tensor, "*batch N 3"], camera: PerspectiveCamera
) -> Float[Tensor, "*batch N 2"]:
    """Project object points with a pinhole camera.

    Args:
        points: Points in the object frame, object units; their depth in the camera frame must not be zero.
        camera: Perspective cameras.

    Returns:
        Image positions, in the unit of the focal length. Points behind the viewer are mirrored, as the formula has
        it; a depth of zero gives infinities.

    Example:
        >>> pinhole = weak_to_perspective(
        ...     Camera(torch.tensor(0.5), torch.zeros(2), torch.eye(3)), focal=10.0)
        >>> project_perspective(torch.tensor([[1.0, 0.0, 0.0]]), pinhole)
        tensor([[0.5000, 0.0000]])
    """
    view = points @ camera.rotation.mT + camera.translation.unsqueeze(-2)
    return camera.focal.unsqueeze(-2) * view[..., :2] / view[..., 2:] + camera.principal.unsqueeze(-2)


def weak_to_perspective(camera: Camera, focal: float) -> PerspectiveCamera:
    """Compute the pinhole camera that agrees with a weak-perspective one in the plane of the object's origin.

    Args:
        camera: Weak-perspective cameras of positive scale.
        focal: Focal length in image units; the longer, the better the two agree (error: depth extent × scale /
            focal).

    Returns:
        Pinhole cameras with the principal point at the image origin and ``t_z = focal / scale``.

    Raises:
        ValueError: If ``focal`` is not positive.

    Source:
        Kolotouros et al., Learning to Reconstruct 3D Human Pose and Shape, ICCV 2019 (released code).

    Example:
        >>> weak_to_perspective(Camera(torch.tensor(0.5), torch.zeros(2), torch.eye(3)), 10.0).translation
        tensor([ 0.,  0., 20.])
    """
    if not focal > 0:
        raise ValueError(f"weak_to_perspective needs a positive focal length; got {focal}.")
    scale = camera.scale[..., None]
    length = torch.full_like(camera.translation, focal)
    position = torch.cat((camera.translation / scale, focal / scale), -1)
    return PerspectiveCamera(length, torch.zeros_like(camera.translation), camera.rotation, position)


def perspective_to_weak(camera: PerspectiveCamera) -> Camera:
    """Compute the weak-perspective camera that agrees with a pinhole one in the plane of the object's origin.

    Args:
        camera: Pinhole cameras with square pixels, the object's origin in front of the viewer.

    Returns:
        Weak-perspective cameras; the inverse of `weak_to_perspective` for any focal length. Unequal focal lengths
        are replaced by their mean. The rotation is kept, not corrected for the direction of the viewing ray.

    Example:
        >>> weak = Camera(torch.tensor(0.5), torch.tensor([0.1, 0.2]), torch.eye(3))
        >>> perspective_to_weak(weak_to_perspective(weak, 10.0)).translation
        tensor([0.1000, 0.2000])
    """
    depth = camera.translation[..., 2:]
    scale = camera.focal.mean(-1) / depth[..., 0]
    position = camera.focal * camera.translation[..., :2] / depth + camera.principal
    return Camera(scale, position, camera.rotation)


def box_to_crop(box: Float[Tensor, "*batch 4"]) -> Crop:
    """Return the map from photo pixels to the normalized coordinates of a square box.

    Args:
        box: Square boxes ``(left, top, right, bottom)`` in pixels of the photo.

    Returns:
        Crops that take the box's corners to ±1. Boxes that are not square are read with their width.

    Example:
        >>> apply_crop(torch.tensor([[10.0, 30.0]]), box_to_crop(torch.tensor([10.0, 10.0, 30.0, 30.0])))
        tensor([[-1.,  1.]])
    """
    scale = 2 / (box[..., 2] - box[..., 0])
    return Crop(scale, -box[..., :2] * scale[..., None] - 1)


def apply_crop(points: Float[Tensor, "*batch N 2"], crop: Crop) -> Float[Tensor, "*batch N 2"]:
    """Take points from the photo to the crop.

    Args:
        points: Positions in pixels of the photo.
        crop: Crops.

    Returns:
        Positions in normalized coordinates of the crop.

    Example:
        >>> apply_crop(torch.tensor([[3.0, 1.0]]), Crop(torch.tensor(0.5), torch.tensor([-1.0, -1.0])))
        tensor([[ 0.5000, -0.5000]])
    """
    return points * crop.scale[..., None, None] + crop.translation.unsqueeze(-2)


def undo_crop(points: Float[Tensor, "*batch N 2"], crop: Crop) -> Float[Tensor, "*batch N 2"]:
    """Take points from the crop back to the photo, the inverse of `apply_crop`.

    Args:
        points: Positions in normalized coordinates of the crop.
        crop: Crops.

    Returns:
        Positions in pixels of the photo.

    Example:
        >>> undo_crop(torch.tensor([[0.5, -0.5]]), Crop(torch.tensor(0.5), torch.tensor([-1.0, -1.0])))
        tensor([[3., 1.]])
    """
    return (points - crop.translation.unsqueeze(-2)) / crop.scale[..., None, None]


def crop_camera(camera: Camera, crop: Crop) -> Camera:
    """Map a camera of the photo into a crop.

    Args:
        camera: Cameras in pixels of the photo.
        crop: Crops.

    Returns:
        Cameras in normalized coordinates of the crop: projecting commutes with cropping.

    Example:
        >>> photo = Camera(torch.tensor(50.0), torch.tensor([20.0, 20.0]), torch.eye(3))
        >>> crop_camera(photo, box_to_crop(torch.tensor([10.0, 10.0, 30.0, 30.0]))).scale
        tensor(5.)
    """
    translation = camera.translation * crop.scale[..., None] + crop.translation
    return Camera(camera.scale * crop.scale, translation, camera.rotation)


def uncrop_camera(camera: Camera, crop: Crop) -> Camera:
    """Map a camera of a crop back to the photo, the inverse of `crop_camera`.

    Args:
        camera: Cameras in normalized coordinates of the crop.
        crop: Crops.

    Returns:
        Cameras in pixels of the photo.

    Example:
        >>> crop = box_to_crop(torch.tensor([10.0, 10.0, 30.0, 30.0]))
        >>> uncrop_camera(Camera(torch.tensor(5.0), torch.zeros(2), torch.eye(3)), crop).translation
        tensor([20., 20.])
    """
    translation = (camera.translation - crop.translation) / crop.scale[..., None]
    return Camera(camera.scale / crop.scale, translation, camera.rotation)


def flip_camera(camera: Camera) -> Camera:
    """Return the camera of the horizontally mirrored crop, for an object symmetric about ``x = 0``.

    Args:
        camera: Cameras in normalized coordinates (the mirror axis is ``u = 0``).

    Returns:
        ``(s, -t_x, t_y, M R M)`` with ``M = diag(-1, 1, 1)``: the mirrored object projects to the mirrored image.

    Example:
        >>> flip_camera(Camera(torch.tensor(1.0), torch.tensor([0.2, 0.3]), torch.eye(3))).translation
        tensor([-0.2000,  0.3000])
    """
    return Camera(camera.scale, mirror_points(camera.translation), mirror_rotation(camera.rotation))


def pixels_to_normalized(points: Float[Tensor, "*batch 2"], size: tuple[int, int]) -> Float[Tensor, "*batch 2"]:
    """Convert pixel positions to normalized coordinates: ``2 x / width - 1``.

    Args:
        points: Positions ``(x, y)`` in pixels, the center of the first pixel being 0.5.
        size: Height and width of the image, in pixels.

    Returns:
        Positions with the image's corners at ±1, the convention of ``align_corners=False``.

    Example:
        >>> pixels_to_normalized(torch.tensor([4.0, 1.0]), size=(2, 4))
        tensor([1., 0.])
    """
    x, y = points.unbind(-1)
    return torch.stack((2 * x / size[1], 2 * y / size[0]), -1) - 1


def normalized_to_pixels(points: Float[Tensor, "*batch 2"], size: tuple[int, int]) -> Float[Tensor, "*batch 2"]:
    """Convert normalized coordinates to pixel positions, the inverse of `pixels_to_normalized`.

    Args:
        points: Positions with the image's corners at ±1.
        size: Height and width of the image, in pixels.

    Returns:
        Positions ``(x, y)`` in pixels, the center of the first pixel being 0.5.

    Example:
        >>> normalized_to_pixels(torch.tensor([1.0, 0.0]), size=(2, 4))
        tensor([4., 1.])
    """
    x, y = ((points + 1) / 2).unbind(-1)
    return torch.stack((x * size[1], y * size[0]), -1)
