"""The end of stage 1: choose among the searched cameras by the appearance of the category."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader
from tqdm import tqdm

from kpose.backbones import Backbone
from kpose.data import CachedFeaturesDataModule, flip_batch
from kpose.reconstruction import CameraMultiplex
from kpose.reconstruction.appearance import (
    AppearanceChoice,
    AppearanceView,
    appearance_view,
    choose_by_appearance,
    principal_components,
)
from kpose.structures import Batch, Crop, Mesh, Template
from kpose.templates import bird, coarsen_template

__all__ = ["choose_cameras", "training_views"]


def training_views(data: Any, *, batch_size: int = 32) -> list[Iterable[Batch]]:  # noqa: ANN401
    """Give the pictures of a data module's training images that an appearance is learned from.

    Args:
        data: Data module with ``dataset(split)``; one with cached features gives the views that it holds.
        batch_size: Images of a batch.

    Returns:
        Views, each an iterable of batches that gives every image once: those cached, or the photos as they are and
        their mirror images.
    """
    if isinstance(data, CachedFeaturesDataModule):
        return list(data.view_dataloaders("train"))
    loader: DataLoader[Batch] = DataLoader(data.dataset("train"), batch_size=batch_size)
    return [loader, _Mirrored(loader)]


@torch.no_grad()
def choose_cameras(
    multiplex: CameraMultiplex,
    views: Sequence[Iterable[Batch]],
    backbone: Backbone,
    *,
    template: Template | None = None,
    num_vertices: int = 160,
    feature_map: int = 0,
    dimensions: int = 64,
    rounds: int = 8,
    temperature: float = 1.0,
    silhouette_weight: float = 3.0,
    progress: bool = True,
) -> AppearanceChoice:
    """Choose among the cameras of every image by appearance, and make the choice the table's losses.

    Args:
        multiplex: Searched cameras with the losses of their silhouettes.
        views: Pictures of the images (see `training_views`), with ``mask``, ``crop``, ``index``, and ``image`` or
            ``features``.
        backbone: Where features come from when a batch has none.
        template: Mean shape of the category; the built-in bird when None.
        num_vertices: Vertices of the template that are looked at.
        feature_map: Place of the feature map among the backbone's; stage 3 of a ResNet carries the parts.
        dimensions: Principal components of the features that are kept.
        rounds: See `choose_by_appearance`.
        temperature: See `choose_by_appearance`.
        silhouette_weight: See `choose_by_appearance`.
        progress: Whether to show a progress bar.

    Returns:
        The choice; its losses are in the table.

    Raises:
        ValueError: If the cameras have not been searched, or there is no view.
    """
    if not multiplex.seen.all():
        raise ValueError(
            f"choose_cameras needs searched cameras; {int((~multiplex.seen).sum())} of {multiplex.num_images} have "
            "none. Run the camera search first."
        )
    shape = coarsen_template(bird() if template is None else template, num_vertices)
    mesh = Mesh(*(part.to(multiplex.scale.device) for part in (shape.vertices, shape.faces)))
    rows = torch.arange(multiplex.num_images, device=multiplex.index.device)
    components: tuple[Tensor, Tensor] | None = None
    looked: list[AppearanceView] = []
    for view in tqdm(views, "features of the training images", unit="view", disable=not progress):
        maps, foreground, crop, flipped = _collect(view, multiplex, backbone, feature_map)
        if components is None:
            components = principal_components(maps, foreground, dimensions)
        cameras = multiplex.in_crop(multiplex.cameras(rows), rows, crop, flipped)
        looked.append(appearance_view(mesh, cameras, maps, components))
    choice = choose_by_appearance(
        looked,
        multiplex.cameras(rows).rotation,
        multiplex.losses,
        shape.mirror.to(multiplex.index.device),
        rounds=rounds,
        temperature=temperature,
        silhouette_weight=silhouette_weight,
    )
    multiplex.record(rows, choice.losses)
    return choice


def _collect(
    view: Iterable[Batch], multiplex: CameraMultiplex, backbone: Backbone, feature_map: int
) -> tuple[Tensor, Tensor, Crop, Tensor]:
    """Run through a view and put its feature maps, masks and crops into the table's order."""
    device = multiplex.scale.device
    found: list[tuple[Tensor, ...]] = []
    for batch in view:
        features = backbone.features_of(batch)
        maps = features.maps[feature_map].half()  # halves what the whole data set takes in memory
        cover = interpolate(batch["mask"][:, None].float(), size=maps.shape[-2:], mode="area")[:, 0]
        mirrored = batch.get("flipped", torch.zeros(len(maps), dtype=torch.bool))
        parts = (batch["index"], maps, cover, *batch["crop"], mirrored)
        found.append(tuple(part.to(device) for part in parts))
    index, maps, cover, scale, translation, flipped = (torch.cat(parts) for parts in zip(*found, strict=True))
    place = torch.empty_like(multiplex.index)
    place[multiplex.rows(index)] = torch.arange(len(index), device=device)
    return maps[place], cover[place], Crop(scale[place], translation[place]), flipped[place]


class _Mirrored:
    """Mirror images of a loader's batches."""

    def __init__(self, loader: Iterable[Batch]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            wanted = Batch(**{name: batch[name] for name in ("image", "mask", "crop", "index", "flipped")})  # type: ignore[typeddict-item]
            yield flip_batch(wanted, torch.ones(len(batch["index"]), dtype=torch.bool))
