"""The vote of a trained head among the cameras of images, which attacks what silhouettes leave open."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kpose.losses import chordal_distance
from kpose.network import PoseNetwork
from kpose.reconstruction import CameraMultiplex
from kpose.structures import Batch, Features

__all__ = ["vote_for_cameras"]


@torch.no_grad()
def vote_for_cameras(
    multiplex: CameraMultiplex,
    network: PoseNetwork,
    views: Sequence[Iterable[Batch]],
    rows: Int[Tensor, "R"],
) -> Float[Tensor, "R P"]:
    """Say how far the cameras of images are from those that a network predicts.

    Predictions for images that a network was trained on lean towards their labels: give the rows of others.

    Args:
        multiplex: Searched cameras.
        network: Trained network; it is put into evaluation.
        views: Pictures of the images (see `training_views`), with ``crop``, ``index``, and ``features`` or
            ``image``.
        rows: Rows of the table that are judged.

    Returns:
        ``sin²(angle / 2)`` between each camera and the predicted one, the mean over the views: the distance that is
        to be expected where each prediction is believed alike (see `expected_distance`).

    Raises:
        ValueError: If no view shows one of the images.
    """
    network.eval()
    device = multiplex.scale.device
    place = torch.full((multiplex.num_images,), -1, device=device)
    place[rows] = torch.arange(len(rows), device=device)
    total = torch.zeros(len(rows), multiplex.num_cameras, device=device)
    count = torch.zeros(len(rows), device=device)
    for view in views:
        for batch in view:
            found = multiplex.rows(batch["index"])
            asked = place[found] >= 0
            if not asked.any():
                continue
            found = found[asked]
            features = network.backbone.features_of(batch)
            rotation = network.pose(Features(tuple(m[asked] for m in features.maps))).camera.rotation
            crop = type(batch["crop"])(*(part[asked] for part in batch["crop"]))
            flipped = batch["flipped"][asked] if "flipped" in batch else None
            cameras = multiplex.in_crop(multiplex.cameras(found), found, crop, flipped)
            distance = chordal_distance(cameras.rotation, rotation[:, None].expand_as(cameras.rotation))
            total.index_add_(0, place[found], distance)
            count += torch.bincount(place[found], minlength=len(rows))
    if not count.all():
        raise ValueError(
            f"vote_for_cameras needs a view of every image; {int((count == 0).sum())} of {len(rows)} have none. "
            "Give views of the images that the rows belong to."
        )
    return total / count[:, None]
