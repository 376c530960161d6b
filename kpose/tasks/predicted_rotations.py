"""What trained heads say of the cameras of images that they were not trained on."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kpose.geometry import flip_camera
from kpose.network import PoseNetwork
from kpose.reconstruction import CameraTable
from kpose.structures import Batch

__all__ = ["mean_rotations"]


@torch.no_grad()
def mean_rotations(
    table: CameraTable,
    network: PoseNetwork,
    views: Sequence[Iterable[Batch]],
    rows: Int[Tensor, "R"],
) -> Float[Tensor, "R 3 3"]:
    """Average the rotations that a network predicts for views of images.

    Predictions for images that a network was trained on lean towards their labels: give the rows of others.

    Args:
        table: Table that the images are rows of.
        network: Trained network; it is put into evaluation.
        views: Pictures of the images (see `training_views`), with ``index``, and ``features`` or ``image``.
        rows: Rows of the table that are asked for.

    Returns:
        Means of the rotation matrices of the images as they are, not mirrored. They are no rotations where views
        differ: the mean rotation is their `procrustes`, and ``(3 - tr(RᵀM)) / 4`` is the mean of
        ``sin²(angle / 2)`` between a rotation and the predicted ones (see `expected_distance`).

    Raises:
        ValueError: If no view shows one of the images.
    """
    network.eval()
    device = table.scale.device
    place = torch.full((table.num_images,), -1, device=device)
    place[rows] = torch.arange(len(rows), device=device)
    total = torch.zeros(len(rows), 3, 3, device=device)
    count = torch.zeros(len(rows), device=device)
    for view in views:
        for batch in view:
            found = table.rows(batch["index"])
            asked = place[found] >= 0
            if not asked.any():
                continue
            features = network.backbone.features_of(batch)
            camera = network.pose(features.at(asked)).camera
            rotation = camera.rotation
            if "flipped" in batch:
                flipped = batch["flipped"][asked][:, None, None]
                rotation = torch.where(flipped, flip_camera(camera).rotation, rotation)
            total.index_add_(0, place[found[asked]], rotation.to(total))
            count += torch.bincount(place[found[asked]], minlength=len(rows))
    if not count.all():
        raise ValueError(
            f"mean_rotations needs a view of every image; {int((count == 0).sum())} of {len(rows)} have none. "
            "Give views of the images that the rows belong to."
        )
    return total / count[:, None, None]
