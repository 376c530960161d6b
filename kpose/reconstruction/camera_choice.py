"""The end of stage 1: choose among the searched cameras by the appearance of the category."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, normalize
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from kpose.backbones import Backbone
from kpose.data import flip_batch
from kpose.geometry import rotation_grid
from kpose.reconstruction.appearance import PosePosterior, expected_miss, pose_posterior, principal_components
from kpose.reconstruction.camera_table import CameraTable
from kpose.reconstruction.template_views import (
    Placement,
    cut_windows,
    placement_of_mask,
    silhouette_overlap,
    view_template,
)
from kpose.structures import Batch, Mesh, Template
from kpose.templates import bird, coarsen_template

__all__ = ["choose_cameras", "training_views"]


def training_views(data: Any, *, batch_size: int = 32) -> list[Iterable[Batch]]:  # noqa: ANN401
    """Return the pictures of a data module's training images that an appearance is learned from.

    Args:
        data: Data module with ``dataset(split)``, or with ``view_dataloaders(split)`` as
            `kpose.data.CachedFeaturesDataModule` has it.
        batch_size: Images of a batch.

    Returns:
        Views, each an iterable of batches that gives every image once: those cached, or the photos as they are and
        their mirror images.
    """
    if hasattr(data, "view_dataloaders"):
        return list(data.view_dataloaders())
    loader: DataLoader[Batch] = DataLoader(data.dataset("train"), batch_size=batch_size)
    return [loader, _Mirrored(loader)]


@torch.no_grad()
def choose_cameras(
    table: CameraTable,
    views: Sequence[Iterable[Batch]],
    backbone: Backbone,
    *,
    template: Template | None = None,
    num_vertices: int = 160,
    num_rotations: int = 2000,
    feature_map: int = 0,
    dimensions: int = 96,
    rounds: int = 6,
    temperature: float = 0.35,
    silhouette_weight: float = 6.0,
    hubness: float = 0.4,
    balance: float = 0.6,
    progress: bool = True,
) -> PosePosterior:
    """Choose the camera of every image by appearance.

    Rotations over a grid of all are probable by what they show of the category and by silhouette. The scores of the
    cameras become the probability that they miss the true rotation.

    Args:
        table: Searched cameras; what is compared is compared on their device.
        views: Pictures of the images (see `training_views`), with ``mask``, ``crop``, ``index``, and ``image`` or
            ``features``; what they show is averaged.
        backbone: Where features come from when a batch has none, on its own device.
        template: Mean shape of the category; the built-in bird when None.
        num_vertices: Vertices of the template that are looked at.
        num_rotations: Rotations of the grid.
        feature_map: Place of the feature map among the backbone's; stage 3 of a ResNet carries the parts.
        dimensions: Principal components of the features that are kept.
        rounds: Rounds of expectation and maximization, at least one.
        temperature: Difference of similarity that changes the odds of a rotation by a factor e, in standard
            deviations of the similarity among the rotations of an image (on average over the images): backbones and
            maps differ in how much their features vary at all.
        silhouette_weight: Logarithm of the odds between an image's best and worst silhouette.
        hubness: Hubness correction, the share of what all images have in common that is taken off a rotation's
            similarity and overlap, in [0, 1]: a rotation that suits every image says little about any, and draws
            the mean features to itself.
        balance: Power of the density of all images' probabilities that each one is divided by: 0 leaves them as
            they are, 1 spreads them over all rotations alike.
        progress: Whether to show a progress bar.

    Returns:
        The probabilities of the rotations of the grid (see `rotation_grid`); the scores are in the table.

    Raises:
        ValueError: If the cameras have not been searched, or there is no view.
    """
    _check(table, views)
    shape = coarsen_template(bird() if template is None else template, num_vertices)
    mesh = Mesh(shape.vertices, shape.faces).to(table.scale.device)
    seen = view_template(mesh, rotation_grid(num_rotations).to(mesh.vertices))
    pictures = _pictures(views, table, backbone, feature_map, dimensions, progress=progress)
    posterior = pose_posterior(
        pictures.features,
        silhouette_overlap(pictures.masks, seen),
        seen,
        shape.mirror.to(table.index.device),
        rounds=rounds,
        temperature=temperature,
        silhouette_weight=silhouette_weight,
        hubness=hubness,
        balance=balance,
    )
    rows = torch.arange(table.num_images, device=table.index.device)
    rotation = table.cameras(rows).rotation
    table.set_score(rows, expected_miss(rotation, seen.rotations, posterior.probability))
    return posterior


class _Pictures(NamedTuple):
    """What the views show of every image, in the table's order."""

    features: Float[Tensor, "N D cells"]
    masks: Float[Tensor, "N cells"]


def _check(table: CameraTable, views: Sequence[Iterable[Batch]]) -> None:
    if not table.scored.all():
        without = [name for name, seen in zip(table.names, table.scored.tolist(), strict=True) if not seen]
        shown = ", ".join(without[:3]) + (" and others" if len(without) > 3 else "")
        raise ValueError(
            f"choose_cameras needs searched cameras; {len(without)} of {table.num_images} have none: {shown}. "
            "Run the camera search first, without the images that could not be decoded then."
        )
    if not views:
        raise ValueError("choose_cameras needs a view of the images; got none. Give one (see training_views).")


def _pictures(
    views: Sequence[Iterable[Batch]],
    table: CameraTable,
    backbone: Backbone,
    feature_map: int,
    dimensions: int,
    *,
    progress: bool,
) -> _Pictures:
    """Bring the objects of all views to the same place, size and side, and average what they show."""
    components: tuple[Tensor, Tensor] | None = None
    features: Tensor | float = 0.0
    masks: Tensor | float = 0.0
    for view in tqdm(views, "features of the training images", unit="view", disable=not progress):
        maps, cover, masked, placement, flipped = _collect(view, table, backbone, feature_map)
        if components is None:
            components = principal_components(maps, cover, dimensions)
        features += _windows(maps, placement, flipped, components)
        masks += masked / len(views)
    assert isinstance(features, Tensor)
    assert isinstance(masks, Tensor)
    return _Pictures(features, masks)


def _windows(
    maps: Tensor, placement: Placement, flipped: Tensor, components: tuple[Tensor, Tensor]
) -> Float[Tensor, "N D cells"]:
    """Cut unit features out of maps, mirrored back where the picture was mirrored."""
    mean, basis = components
    parts = []
    for some, center, area, mirrored in zip(
        *(torch.split(x, 32) for x in (maps, *placement, flipped)), strict=True
    ):
        unit = normalize(torch.einsum("nchw,cd->ndhw", some.float() - mean[:, None, None], basis), dim=1)
        window = cut_windows(unit, Placement(center, area))
        parts.append(_turned_back(window, mirrored).flatten(2).half())
    return torch.cat(parts)


def _collect(
    view: Iterable[Batch], table: CameraTable, backbone: Backbone, feature_map: int
) -> tuple[Tensor, Tensor, Tensor, Placement, Tensor]:
    """Run through a view and put its feature maps, masks and their windows into the table's order."""
    device = table.scale.device
    found: list[tuple[Tensor, ...]] = []
    for batch in view:
        features = backbone.features_of(batch)
        maps = features.maps[feature_map].half()  # halves what the whole data set takes in memory
        mask = batch["mask"][:, None].float()
        cover = interpolate(mask, size=maps.shape[-2:], mode="area")[:, 0]
        mirrored = batch.get("flipped", torch.zeros(len(mask), dtype=torch.bool, device=mask.device))
        placement = placement_of_mask(mask[:, 0])
        window = _turned_back(cut_windows(mask, placement), mirrored).flatten(1)
        parts = (batch["index"], maps, cover, window, *placement, mirrored)
        found.append(tuple(part.to(device) for part in parts))
    index, *columns = (torch.cat(column) for column in zip(*found, strict=True))
    place = torch.empty_like(table.index)
    place[table.rows(index)] = torch.arange(len(index), device=device)
    maps, cover, window, center, area, mirrored = (column[place] for column in columns)
    return maps, cover, window, Placement(center, area), mirrored


def _turned_back(windows: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror the windows of mirror images."""
    return torch.where(mirrored[:, None, None, None], windows.flip(-1), windows)


class _Mirrored:
    """Mirror images of a loader's batches."""

    def __init__(self, loader: Iterable[Batch]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            wanted = Batch(**{name: batch[name] for name in ("image", "mask", "crop", "index", "flipped")})  # type: ignore[typeddict-item]
            yield flip_batch(wanted, torch.ones(len(batch["index"]), dtype=torch.bool))
