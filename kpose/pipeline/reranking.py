"""Votes of heads among the cameras of images that they were not trained on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from kpose.data import fold_indices
from kpose.pipeline.fitting import trained_network
from kpose.reconstruction import CameraMultiplex, camera_weights
from kpose.reconstruction.appearance import expected_distance
from kpose.tasks import training_views, vote_for_cameras
from kpose.tasks.training_cameras import multiplex_of

__all__ = ["count_votes"]


def count_votes(
    data: Any,  # noqa: ANN401 - any Lightning data module with a method `dataset`
    cameras: Path,
    checkpoints: Sequence[Path],
    *,
    weight: float = 0.5,
    silhouettes: bool = False,
) -> CameraMultiplex:
    """Let the head of each fold vote among the cameras of the fold's images.

    Args:
        data: Data module of the images.
        cameras: File of their cameras.
        checkpoints: For each fold a head that was trained on the other ones (see `kpose.data.FoldDataModule`).
        weight: Share of the votes in the new losses, in [0, 1]; the rest are the cameras' own, which lie
            in [0, 1] like the votes.
        silhouettes: Whether the cameras' losses are those of silhouettes, which are turned into expected distances.

    Returns:
        The cameras with their new losses.
    """
    data.prepare_data()
    data.setup("fit")
    table = multiplex_of(data, file=cameras)
    views = training_views(data)
    votes = torch.zeros_like(table.losses)
    for fold, checkpoint in enumerate(checkpoints):
        rows = table.rows(fold_indices(data.dataset("train").indices, fold, len(checkpoints)))
        votes[rows] = vote_for_cameras(table, trained_network(checkpoint), views, rows)
    own = (
        expected_distance(table.rotation, table.rotation, camera_weights(table.losses))
        if silhouettes
        else table.losses
    )
    table.record(torch.arange(table.num_images), torch.lerp(own, votes, weight))
    return table
