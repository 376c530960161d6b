"""The part of cross-validated heads in the choice of the cameras of training images."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils._pytree import tree_map_only

from kpose.geometry import flip_camera
from kpose.network import PoseNetwork
from kpose.pipeline.folder import CAMERAS
from kpose.pipeline.search import search
from kpose.pipeline.settings import RerankSettings, SearchSettings
from kpose.reconstruction import CameraTable, average_cameras, rerank_cameras, training_views
from kpose.structures import Batch, Template

__all__ = ["mean_rotations", "predicted_rotations", "rerank"]


def rerank(
    data: Any,  # noqa: ANN401 - any Lightning data module with a method `dataset`
    cameras: Path,
    heads: Iterable[Iterable[PoseNetwork]],
    settings: RerankSettings,
    folder: Path,
    *,
    silhouettes: bool,
    search_settings: SearchSettings,
    template: Template,
    accelerator: str,
    device: torch.device,
) -> None:
    """Choose the cameras of each fold with the part of the heads that were not trained on it.

    Writes them as ``cameras.safetensors``. ``heads`` are those of `predicted_rotations`; with ``silhouettes``
    nothing else has ranked the cameras before.
    """
    data.prepare_data()
    data.setup("fit")
    table = CameraTable.for_images(data.dataset("train"), file=cameras)
    predicted = predicted_rotations(data, table, (_on(device, each) for each in heads), settings.folds)
    average = average_cameras(table, predicted, weight=settings.weight)
    rerank_cameras(table, predicted, weight=settings.weight, silhouettes=silhouettes)
    if settings.fit is None:
        table.save(folder / CAMERAS)
        return
    fitted = dataclasses.replace(search_settings, levels=(settings.fit,))
    search(data, fitted, folder, template=template, accelerator=accelerator, start=average, best_of=table)


def predicted_rotations(
    data: Any,  # noqa: ANN401 - any Lightning data module with a method `dataset`
    table: CameraTable,
    heads: Iterable[Iterable[PoseNetwork]],
    folds: int,
) -> Float[Tensor, "N 3 3"]:
    """Predict the rotations of images by heads that were not trained on them.

    ``heads`` has, for each kind of head, a network for each fold that was trained on the others, on the device that
    computes. Returns the mean over heads and views of each image's rotation matrices.
    """
    views, indices = training_views(data), data.dataset("train").indices
    total, count = table.scale.new_zeros(table.num_images, 3, 3), 0
    for networks in heads:
        for fold, network in enumerate(networks):
            rows = table.rows(indices[fold::folds])
            total[rows] += mean_rotations(table, network, views, rows)
        count += 1
    return total / count


@torch.no_grad()
def mean_rotations(
    table: CameraTable,
    network: PoseNetwork,
    views: Sequence[Iterable[Batch]],
    rows: Int[Tensor, "R"],
) -> Float[Tensor, "R 3 3"]:
    """Average the rotations that a network predicts, on its device, for views of some images of a table.

    Predictions for images that a network was trained on lean towards their labels: give the rows of others. Returns
    means of the rotation matrices of the images as they are, not mirrored: no rotations where views differ. Raises
    `ValueError` if no view shows one of the images.
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


def _on(device: torch.device, networks: Iterable[PoseNetwork]) -> Iterator[PoseNetwork]:
    for network in networks:
        yield network.to(device)
