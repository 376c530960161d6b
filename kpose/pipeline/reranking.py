"""The part of cross-validated heads in the choice of the cameras of training images."""

import copy
import math
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
from kpose.reconstruction import CameraMultiplex, camera_weights
from kpose.reconstruction.appearance import expected_distance
from kpose.structures import Camera, Crop
from kpose.tasks import mean_rotations, training_views

__all__ = ["admit_cameras", "agreed_cameras", "count_votes", "predicted_rotations"]


def predicted_rotations(
    data: Any,  # noqa: ANN401 - any Lightning data module with a method `dataset`
    table: CameraMultiplex,
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
    total = torch.zeros(table.num_images, 3, 3)
    for folds in checkpoints:
        for fold, checkpoint in enumerate(folds):
            rows = table.rows(fold_indices(data.dataset("train").indices, fold, len(folds)))
            total[rows] += mean_rotations(table, trained_network(checkpoint), views, rows)
    return total / len(checkpoints)


@torch.no_grad()
def count_votes(
    table: CameraMultiplex, predicted: Float[Tensor, "N 3 3"], *, weight: float, silhouettes: bool
) -> None:
    """Make the distance to the predicted rotations a part of the cameras' losses.

    Args:
        table: Cameras of the images.
        predicted: What `predicted_rotations` gave.
        weight: Share of the votes in the new losses, in [0, 1]; the rest are the cameras' own, which lie
            in [0, 1] like the votes.
        silhouettes: Whether the cameras' losses are those of silhouettes, which are turned into expected distances.
    """
    own = (
        expected_distance(table.rotation, table.rotation, camera_weights(table.losses))
        if silhouettes
        else table.losses
    )
    votes = expected_distance(table.rotation, predicted[:, None], torch.ones(len(predicted), 1))
    table.record(torch.arange(table.num_images), torch.lerp(own, votes, weight))


@torch.no_grad()
def agreed_cameras(table: CameraMultiplex, predicted: Float[Tensor, "N 3 3"], *, weight: float) -> CameraMultiplex:
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
    rows = torch.arange(table.num_images)
    stored = table.cameras(rows)
    nearest = chordal_distance(stored.rotation, rotation[:, None].expand_as(stored.rotation)).argmin(-1)
    agreed = copy.deepcopy(table)
    agreed.replace_all(
        Camera(stored.scale[rows, nearest][:, None], stored.translation[rows, nearest][:, None], rotation[:, None])
    )
    agreed.losses.fill_(math.inf)
    return agreed


@torch.no_grad()
def admit_cameras(table: CameraMultiplex, fitted: CameraMultiplex) -> None:
    """Put a camera into each image's row as its best, in the place of its worst.

    Args:
        table: Cameras of the images.
        fitted: One camera for each of them.
    """
    rows = torch.arange(table.num_images)
    new = fitted.in_crop(fitted.cameras(rows), rows, Crop(table.crop_scale, table.crop_translation))
    worst = table.losses.argmax(-1)
    cameras = table.cameras(rows)
    for part, value in zip(cameras, new, strict=True):
        part[rows, worst] = value[:, 0]
    losses = table.losses.clone()
    losses[rows, worst] = math.inf
    least = losses.amin(-1).nan_to_num(posinf=1.0)  # of a single camera
    losses[rows, worst] = torch.nextafter(least, torch.full_like(least, -math.inf))
    table.replace(rows, cameras, losses)
