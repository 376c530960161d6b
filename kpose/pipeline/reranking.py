"""The part of cross-validated heads in the choice of the cameras of training images."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.data import fold_indices
from kpose.geometry import procrustes
from kpose.losses import chordal_distance
from kpose.pipeline.fitting import trained_network
from kpose.reconstruction import CameraTable, camera_weights
from kpose.reconstruction.appearance import expected_distance
from kpose.tasks import mean_rotations, training_views

__all__ = ["average_cameras", "predicted_rotations", "rerank_cameras"]


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
        Mean over heads and views of each image's rotation matrices (see `kpose.tasks.mean_rotations`).
    """
    views = training_views(data)
    total = table.scale.new_zeros(table.num_images, 3, 3)
    for folds in checkpoints:
        for fold, checkpoint in enumerate(folds):
            rows = table.rows(fold_indices(data.dataset("train").indices, fold, len(folds)))
            total[rows] += mean_rotations(table, trained_network(checkpoint), views, rows)
    return total / len(checkpoints)


@torch.no_grad()
def rerank_cameras(
    table: CameraTable, predicted: Float[Tensor, "N 3 3"], *, weight: float, silhouettes: bool
) -> None:
    """Make the distance to the predicted rotations a part of the cameras' scores.

    Args:
        table: Cameras of the images.
        predicted: What `predicted_rotations` gave.
        weight: Share of the predictions in the new scores, in [0, 1]; the rest are the cameras' own scores, which
            lie in [0, 1] like the expected distances.
        silhouettes: Whether the cameras' scores are those of silhouettes, which are turned into expected distances.
    """
    own = (
        expected_distance(table.rotation, table.rotation, camera_weights(table.score))
        if silhouettes
        else table.score
    )
    distance = expected_distance(table.rotation, predicted[:, None], predicted.new_ones(len(predicted), 1))
    table.set_score(table.rows(table.index), torch.lerp(own, distance, weight))


@torch.no_grad()
def average_cameras(table: CameraTable, predicted: Float[Tensor, "N 3 3"], *, weight: float) -> CameraTable:
    """Average the best camera of each image with what heads predict.

    Args:
        table: Cameras of the images.
        predicted: What `predicted_rotations` gave.
        weight: Share of the prediction, in [0, 1].

    Returns:
        A table of one camera an image, to be fitted to its silhouette: scale and shift are those of the image's
        camera with the nearest rotation.
    """
    rotation = procrustes(torch.lerp(table.best().rotation, predicted, weight))
    nearest = chordal_distance(table.rotation, rotation[:, None].expand_as(table.rotation)).argmin(-1)
    camera = table.cameras().at((table.rows(table.index), nearest))._replace(rotation=rotation)
    average = copy.deepcopy(table)
    average.reset(camera.at((slice(None), None)))
    return average
