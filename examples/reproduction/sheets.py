"""Sheets of held-out images, the worst and some at random, without a photograph: outlines and meshes on grey."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from kpose.geometry import mask_iou
from kpose.metrics import angular_error
from kpose.network import PoseNetwork
from kpose.rendering import HardRenderer
from kpose.structures import Batch, Camera, Mesh
from kpose.visualization import image_grid, overlay, shaded_mesh

__all__ = ["ScoredImage", "picture_sheet", "score_images", "some_images", "worst_images"]

GREY = 0.55
ANNOTATED = 0.85


@dataclass(frozen=True)
class ScoredImage:
    """What was predicted for an image, and how good that is."""

    index: int
    """Identity of the image in its data set."""
    mask: Bool[Tensor, "H W"]
    """Annotated silhouette."""
    mesh: Mesh
    """Shape of the object."""
    camera: Camera
    """Predicted camera of the crop."""
    true_camera: Camera | None
    """True camera of the crop, where it is known."""
    iou: float
    """Overlap of the silhouettes."""
    angle_deg: float | None
    """Angle to the true rotation, where it is known."""


@torch.no_grad()
def score_images(network: PoseNetwork, batches: Iterable[Batch]) -> list[ScoredImage]:
    """Predict cameras of images and score each of them.

    Args:
        network: Trained network; it is put into evaluation.
        batches: Batches with ``mask``, ``index`` and ``features`` or ``image``, and ``camera`` where it is known.

    Returns:
        Images in their order.
    """
    network.eval()
    renderer, found = HardRenderer(), []
    for batch in batches:
        features = network.backbone.features_of(batch)
        vertices = network.shapes(features)
        camera = network.pose(features, vertices).camera
        size = (batch["mask"].shape[-2], batch["mask"].shape[-1])
        silhouette = renderer.silhouette(Mesh(vertices, network.faces), camera, size)
        overlaps = mask_iou(silhouette, batch["mask"], soft=False)
        truth = batch.get("camera")
        angles = None if truth is None else angular_error(camera.rotation, truth.rotation)
        for row, index in enumerate(batch["index"].tolist()):
            found.append(
                ScoredImage(
                    index,
                    batch["mask"][row],
                    Mesh(vertices[row], network.faces),
                    Camera(*(part[row] for part in camera)),
                    None if truth is None else Camera(*(part[row] for part in truth)),
                    float(overlaps[row]),
                    None if angles is None else float(angles[row]),
                )
            )
    return found


def worst_images(images: Sequence[ScoredImage], count: int = 24) -> list[ScoredImage]:
    """Pick the images with the largest angle to the true rotation, else those with the least overlap.

    Args:
        images: Images to pick from.
        count: How many.

    Returns:
        Images, the worst one first.
    """
    if all(image.angle_deg is not None for image in images):
        return sorted(images, key=lambda image: -(image.angle_deg or 0.0))[:count]
    return sorted(images, key=lambda image: image.iou)[:count]


def some_images(images: Sequence[ScoredImage], count: int = 24, *, seed: int = 0) -> list[ScoredImage]:
    """Pick images at random.

    Args:
        images: Images to pick from.
        count: How many.
        seed: Decides which.

    Returns:
        Images in their order.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count]
    return [images[place] for place in sorted(order.tolist())]


def picture_sheet(images: Sequence[ScoredImage], *, size: int = 112, columns: int = 3) -> Float[Tensor, "3 H W"]:
    """Draw masks and meshes on grey, two or three pictures an image.

    They are the annotated mask with the predicted outline, the mesh under the predicted camera, and the mesh under
    the true one where that is known.

    Args:
        images: At least one image.
        size: Side of each picture, in pixels.
        columns: Images in a row.

    Returns:
        Sheet, each image with its identity, overlap and angle underneath.
    """
    labels = [
        f"{i.index}: IoU {i.iou:.2f}" + ("" if i.angle_deg is None else f", {i.angle_deg:.0f}°") for i in images
    ]
    return image_grid([_picture(image, size) for image in images], labels, columns=columns)


def _picture(image: ScoredImage, size: int) -> Tensor:
    mask = interpolate(image.mask[None, None].float(), size=(size, size), mode="area")
    grey = torch.full((3, size, size), GREY)
    rgb, cover = shaded_mesh(image.mesh, image.camera, size)
    outlined = overlay(grey + (ANNOTATED - GREY) * mask[0], (cover > 0.5).float(), opacity=0.0)
    parts = [outlined, grey.lerp(rgb, cover)]
    if image.true_camera is not None:
        parts.append(grey.lerp(*shaded_mesh(image.mesh, image.true_camera, size)))
    return torch.cat(parts, -1)
