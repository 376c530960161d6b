"""Rotations that cross-validated heads predict for images that they were not trained on."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils._pytree import tree_map_only

from kpose.data import fold_indices
from kpose.geometry import flip_camera
from kpose.network import PoseNetwork
from kpose.pipeline.fitting import trained_network
from kpose.reconstruction import CameraTable, training_views
from kpose.structures import Batch

__all__ = ["mean_rotations", "predicted_rotations"]


def predicted_rotations(
    data: Any,  # noqa: ANN401 - any Lightning data module with a method `dataset`
    table: CameraTable,
    checkpoints: Sequence[Sequence[Path]],
) -> Float[Tensor, "N 3 3"]:
    """Ask heads for the rotations of images that they were not trained on.

    Args:
        data: Data module of the images, set up.
        table: Their cameras.
        checkpoints: For each kind of head, one for each fold that was trained on the other folds (see
            `kpose.data.FoldDataModule`).

    Returns:
        Mean over heads and views of each image's rotation matrices (see `mean_rotations`).
    """
    views = training_views(data)
    total = table.scale.new_zeros(table.num_images, 3, 3)
    for folds in checkpoints:
        for fold, checkpoint in enumerate(folds):
            rows = table.rows(fold_indices(data.dataset("train").indices, fold, len(folds)))
            total[rows] += mean_rotations(table, trained_network(checkpoint), views, rows)
    return total / len(checkpoints)


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
        network: Trained network; it is put into evaluation, and predicts on its own device.
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
    device = network.vertices.device
    place = torch.full((table.num_images,), -1, device=device)
    place[rows.to(device)] = torch.arange(len(rows), device=device)
    total = torch.zeros(len(rows), 3, 3, device=device)
    count = torch.zeros(len(rows), device=device)
    for view in views:
        for batch in view:
            batch = tree_map_only(Tensor, lambda part: part.to(device), batch)
            found = table.rows(batch["index"]).to(device)
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
    return (total / count[:, None, None]).to(table.scale)
