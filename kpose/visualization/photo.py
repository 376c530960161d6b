"""What is drawn on a photo: silhouettes, meshes, keypoints."""

import math

import torch
from jaxtyping import Bool, Float
from kornia.color import ColorMapType
from kornia.morphology import gradient
from torch import Tensor

from kpose.geometry import box_to_crop, crop_camera
from kpose.structures import Camera, Mesh
from kpose.visualization.mesh import shaded_mesh
from kpose.visualization.pictures import colormap

__all__ = ["draw_keypoints", "overlay", "overlay_mesh"]

ORANGE = (1.0, 0.5, 0.15)


def overlay(
    image: Float[Tensor, "3 H W"],
    mask: Float[Tensor, "H W"] | Bool[Tensor, "H W"],
    *,
    color: tuple[float, float, float] = ORANGE,
    opacity: float = 0.4,
) -> Float[Tensor, "3 H W"]:
    """Tint a silhouette on a picture and draw its outline.

    Args:
        image: RGB in [0, 1].
        mask: Silhouette in [0, 1], of the picture's size.
        color: RGB of the tint, in [0, 1].
        opacity: Share of the tint inside the silhouette, in [0, 1]; the outline is opaque.

    Returns:
        Picture.

    Example:
        >>> overlay(torch.zeros(3, 8, 8), torch.ones(8, 8), opacity=0.5)[0, 4, 4]
        tensor(0.5000)
    """
    cover = mask.to(image)
    width = max(3, 2 * round(max(mask.shape) / 400) + 1)
    edge: Tensor = gradient(cover[None, None], torch.ones(width, width).to(image))[0, 0]
    share = torch.maximum(opacity * cover, edge.clamp(0, 1))
    return image.lerp(image.new_tensor(color)[:, None, None].expand_as(image), share)


def overlay_mesh(
    image: Float[Tensor, "3 H W"],
    mesh: Mesh,
    camera: Camera,
    *,
    color: tuple[float, float, float] = ORANGE,
    opacity: float = 0.7,
) -> Float[Tensor, "3 H W"]:
    """Draw a shaded mesh on a picture, with an outline where its own colors may hide it there.

    Args:
        image: RGB in [0, 1].
        mesh: One mesh, without leading dimensions.
        camera: Camera in pixels of the picture.
        color: RGB of a mesh that has no colors of its own, or of the outline of one that has some, in [0, 1].
        opacity: Share of the mesh where it covers the picture, in [0, 1].

    Returns:
        Picture; unchanged where the mesh lies outside it.

    Example:
        >>> from kpose.templates import bird, template_mesh
        >>> camera = Camera(torch.tensor(9.0), torch.tensor([16.0, 8.0]), torch.eye(3))
        >>> overlay_mesh(torch.zeros(3, 16, 32), template_mesh(bird()), camera).shape
        torch.Size([3, 16, 32])
    """
    height, width = image.shape[-2:]
    side = max(height, width)
    # Normalized coordinates have one unit in both directions in a square only.
    square = crop_camera(camera, box_to_crop(camera.translation.new_tensor([0, 0, side, side])))
    rgb, mask = shaded_mesh(mesh, square, side, color=color)
    rgb, mask = rgb[:, :height, :width].to(image), mask[:height, :width].to(image)
    drawn = image.lerp(rgb, opacity * mask)
    if mesh.texture is None and mesh.vertex_colors is None:
        return drawn
    return overlay(drawn, mask, color=color, opacity=0.0)


def draw_keypoints(
    image: Float[Tensor, "3 H W"],
    keypoints: Float[Tensor, "N 2"],
    confidence: Float[Tensor, "N"] | None = None,
    *,
    inliers: Bool[Tensor, "N"] | None = None,
    radius: float | None = None,
) -> Float[Tensor, "3 H W"]:
    """Draw keypoints as dots, dark violet where confidence is low and yellow where it is high.

    Args:
        image: RGB in [0, 1].
        keypoints: Positions in pixels; those outside the picture or not finite are left out.
        confidence: Values in [0, 1], all 1 when not given. The highest is drawn last, on top.
        inliers: Those that agree with the camera; the others are drawn as rings.
        radius: Radius of a dot, in pixels; about a hundredth of the picture when not given.

    Returns:
        Picture.

    Example:
        >>> draw_keypoints(torch.zeros(3, 16, 16), torch.tensor([[8.0, 8.0]]))[:, 8, 8]
        tensor([0.9400, 0.9752, 0.1313])
    """
    height, width = image.shape[-2:]
    radius = max(3.0, 0.009 * max(height, width)) if radius is None else radius
    confidence = image.new_ones(len(keypoints)) if confidence is None else confidence.detach().to(image)
    colors = colormap(ColorMapType.plasma, confidence)
    picture = image.clone()
    for number in confidence.argsort().tolist():
        point = keypoints[number].detach().to(image)
        if not point.isfinite().all():
            continue
        x, y = point.tolist()
        hole = 0.0 if inliers is None or bool(inliers[number]) else 0.55 * radius
        _draw_dot(picture, x, y, radius, hole, colors[:, number])
    return picture


def _draw_dot(picture: Tensor, x: float, y: float, radius: float, hole: float, color: Tensor) -> None:
    """Draw an antialiased disc or ring with a dark rim, in place."""
    height, width = picture.shape[-2:]
    rim = max(1.0, 0.3 * radius)
    reach = radius + rim + 1
    top, bottom = max(math.floor(y - reach), 0), min(math.ceil(y + reach), height)
    left, right = max(math.floor(x - reach), 0), min(math.ceil(x + reach), width)
    if top >= bottom or left >= right:
        return
    rows = torch.arange(top, bottom, device=picture.device)[:, None] + 0.5 - y
    columns = torch.arange(left, right, device=picture.device) + 0.5 - x
    distance = torch.hypot(rows, columns)
    window = picture[:, top:bottom, left:right]
    outside = (distance - hole + 0.5).clamp(0, 1) if hole else torch.ones_like(distance)
    dark = (radius + rim + 0.5 - distance).clamp(0, 1) * outside
    disc = (radius + 0.5 - distance).clamp(0, 1) * outside
    rimmed = window.lerp(torch.full_like(window, 0.05), dark)
    drawn = rimmed.lerp(color[:, None, None].expand_as(window), disc)
    picture[:, top:bottom, left:right] = drawn
