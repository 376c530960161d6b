"""The part of predicted rotations in the choice of the cameras of images."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.geometry import procrustes
from kpose.losses import chordal_distance
from kpose.reconstruction.appearance import expected_distance
from kpose.reconstruction.camera_table import CameraTable
from kpose.reconstruction.camera_weights import camera_weights

__all__ = ["average_cameras", "rerank_cameras"]


@torch.no_grad()
def rerank_cameras(
    table: CameraTable, predicted: Float[Tensor, "N 3 3"], *, weight: float, silhouettes: bool
) -> None:
    """Weigh the distance to the predicted rotations into the cameras' scores.

    Args:
        table: Cameras of the images.
        predicted: Rotation predicted for each image, or a mean of several rotation matrices, which is none.
        weight: Share of the predictions in the new scores, in [0, 1]; the rest are the cameras' own scores, which
            lie in [0, 1] like the expected distances.
        silhouettes: Whether the cameras' scores are those of silhouettes, which are turned into expected distances.

    Example:
        >>> table = CameraTable(torch.tensor([7]))
        >>> table.set_score(torch.tensor([0]), torch.rand(1, 40))
        >>> rerank_cameras(table, table.rotation[:, 5], weight=1.0, silhouettes=True)
        >>> table.order[0, 0]  # the camera that the head predicts is now the best one
        tensor(5)
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
        predicted: Rotation predicted for each image, or a mean of several rotation matrices, which is none.
        weight: Share of the prediction, in [0, 1].

    Returns:
        A table of one camera an image, to be fitted to its silhouette: scale and shift are those of the image's
        camera with the nearest rotation.

    Example:
        >>> table = CameraTable(torch.tensor([7, 9]))
        >>> table.set_score(torch.arange(2), torch.rand(2, 40))
        >>> average_cameras(table, torch.eye(3).expand(2, 3, 3), weight=0.5).rotation.shape
        torch.Size([2, 1, 3, 3])
    """
    rotation = procrustes(torch.lerp(table.best().rotation, predicted, weight))
    nearest = chordal_distance(table.rotation, rotation[:, None].expand_as(table.rotation)).argmin(-1)
    camera = table.cameras().at((table.rows(table.index), nearest))._replace(rotation=rotation)
    average = copy.deepcopy(table)
    average.reset(camera.at((slice(None), None)))
    return average
