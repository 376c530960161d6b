"""The part of cross-validated heads in the choice of the cameras of training images."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils._pytree import tree_map_only

from kpose._distributed import rank, total
from kpose.geometry import flip_camera
from kpose.network import PoseNetwork
from kpose.pipeline.engine import Engine
from kpose.pipeline.folder import CAMERAS
from kpose.pipeline.search import search
from kpose.pipeline.settings import RerankSettings, SearchSettings
from kpose.reconstruction import CameraTable, training_views
from kpose.reconstruction._reranking import average_cameras, rerank_cameras
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
    engine: Engine,
) -> None:
    """Choose the cameras of each fold with the part of the heads that were not trained on it.

    Writes them as ``cameras.safetensors``. ``heads`` are those of `predicted_rotations`; with ``silhouettes``
    nothing else has ranked the cameras before.
    """
    data.prepare_data()
    data.setup("fit")
    table = CameraTable.for_images(data.dataset("train"), file=cameras)
    predicted = predicted_rotations(data, table, (_on(engine.device, each) for each in heads), settings.folds)
    average = average_cameras(table, predicted, weight=settings.weight)
    rerank_cameras(table, predicted, weight=settings.weight, silhouettes=silhouettes)
    if settings.fit is None:
        if rank() == 0:
            table.save(folder / CAMERAS)
        return
    fitted = dataclasses.replace(search_settings, levels=(settings.fit,))
    search(data, fitted, folder, template=template, engine=engine, start=average, best_of=table)


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
    fold = torch.empty(table.num_images, dtype=torch.long)
    fold[table.rows(indices)] = torch.arange(len(indices)) % folds
    means = [mean_rotations(table, list(networks), views, fold) for networks in heads]
    return torch.stack(means).mean(0)


@torch.no_grad()
def mean_rotations(
    table: CameraTable,
    networks: Sequence[PoseNetwork],
    views: Sequence[Iterable[Batch]],
    asked: Int[Tensor, "N"],
) -> Float[Tensor, "N 3 3"]:
    """Average the rotations that networks predict, on their device, for views of the images of a table.

    Every view is read once, in shares of the processes. Predictions for images that a network was trained on lean
    towards their labels: ``asked`` is the place of the network that is asked for each row. Returns means of the
    rotation matrices of the images as they are, not mirrored: no rotations where views differ. Raises `ValueError`
    if no view shows one of the images.
    """
    device = networks[0].vertices.device
    sums, count = torch.zeros(table.num_images, 3, 3, device=device), torch.zeros(table.num_images, device=device)
    for view in views:
        for batch in view:
            batch = tree_map_only(Tensor, lambda part: part.to(device), batch)
            rows = table.rows(batch["index"]).to(device)
            which = asked[rows.to(asked.device)].to(device)
            for number, network in enumerate(networks):
                some = (which == number).nonzero()[:, 0]
                if len(some):
                    sums.index_add_(0, rows[some], _rotations(network, batch, some).to(sums))
            count += torch.bincount(rows, minlength=len(count))
    sums, count = total(sums), total(count)
    if not count.all():
        raise ValueError(
            f"mean_rotations needs a view of every image; {int((count == 0).sum())} of {len(count)} have none. "
            "Give views of the images of the table."
        )
    return (sums / count[:, None, None]).to(table.scale)


def _rotations(network: PoseNetwork, batch: Batch, some: Tensor) -> Tensor:
    """Predict the rotations of some images of a batch as they are, not mirrored."""
    camera = network.eval().pose(network.backbone.features_of(batch).at(some)).camera
    if "flipped" not in batch:
        return camera.rotation
    return torch.where(batch["flipped"][some][:, None, None], flip_camera(camera).rotation, camera.rotation)


def _on(device: torch.device, networks: Iterable[PoseNetwork]) -> Iterator[PoseNetwork]:
    for network in networks:
        yield network.to(device)
