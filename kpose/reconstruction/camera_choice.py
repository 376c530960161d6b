"""The end of stage 1: choose among the searched cameras by the appearance of the category."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate, normalize
from torch.utils._pytree import tree_map_only
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from kpose._distributed import rank, share
from kpose.backbones import Backbone
from kpose.data._transforms import flip_batch
from kpose.geometry import rotation_grid
from kpose.reconstruction.appearance import PosePosterior, expected_miss, pose_posterior, principal_components
from kpose.reconstruction.camera_table import CameraTable
from kpose.reconstruction.template_views import (
    WINDOW_CELLS,
    cut_windows,
    placement_of_mask,
    silhouette_overlap,
    view_template,
)
from kpose.structures import Batch, Mesh, Template
from kpose.templates import bird
from kpose.templates._coarsen import coarsen_template

__all__ = ["choose_cameras", "training_views"]


def training_views(data: Any, *, batch_size: int = 32) -> list[Iterable[Batch]]:  # noqa: ANN401
    """Return the pictures of a data module's training images that an appearance is learned from.

    Args:
        data: Data module with ``dataset(split)``, or with ``view_dataloaders(split)`` as
            `kpose.data.CachedFeaturesDataModule` has it.
        batch_size: Images of a batch.

    Returns:
        Views, each an iterable of batches that gives every image of this process's share once: those cached, or the
        photos as they are and their mirror images.

    Example:
        >>> from kpose.data import SyntheticBirdsDataModule
        >>> views = training_views(SyntheticBirdsDataModule(num_train=4, image_size=32))
        >>> len(views), [batch["image"].shape for batch in views[1]]
        (2, [torch.Size([4, 3, 32, 32])])
    """
    if hasattr(data, "view_dataloaders"):
        return list(data.view_dataloaders())
    images = data.dataset("train")
    loader: DataLoader[Batch] = DataLoader(
        images, batch_size=batch_size, sampler=share(len(images)), num_workers=getattr(data, "num_workers", 0)
    )
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
    cameras become the probability that they miss the true rotation. Views are read twice, a batch at a time; what
    stays of an image in the processor's memory is a window of principal components, 200 kB for 96 of them. The
    processes of a run share the images out.

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
        The probabilities of the rotations of the grid (see `rotation_grid`) for the images of this process, in the
        table's order; the scores of all are in the table.

    Raises:
        ValueError: If the cameras have not been searched, or there is no view.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> from kpose.data import SyntheticBirdsDataModule
        >>> data = SyntheticBirdsDataModule(num_train=4, image_size=32)
        >>> table = CameraTable.for_images(data.dataset("train"))
        >>> table.set_score(torch.arange(4), torch.rand(4, 40))  # what a search leaves
        >>> views, backbone = training_views(data), TinyBackbone(width=8).eval()
        >>> found = choose_cameras(table, views, backbone, num_rotations=50, rounds=1, progress=False)
        >>> found.probability.shape
        torch.Size([4, 50])
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
    rotation = table.cameras(pictures.rows).rotation
    table.set_score(pictures.rows, expected_miss(rotation, seen.rotations, posterior.probability))
    return posterior


class _Pictures(NamedTuple):
    """What the views show of the images of this process, in the table's order."""

    rows: Int[Tensor, "N"]
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
    device, found = table.scale.device, list[Tensor]()

    def read(view: Iterable[Batch], name: str) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        for batch in tqdm(view, name, unit="batch", disable=not progress or rank() > 0):
            maps = backbone.features_of(_on(backbone.mean.device, batch)).maps[feature_map]
            mask = batch["mask"].to(device).float()
            mirrored = batch.get("flipped", torch.zeros(len(mask), dtype=torch.bool)).to(device)
            yield table.rows(batch["index"]), maps.to(device), mask, mirrored

    def covered() -> Iterator[tuple[Tensor, Tensor]]:
        for rows, maps, mask, _ in read(views[0], "principal components of the training images"):
            found.append(rows)
            yield maps, interpolate(mask[:, None], size=maps.shape[-2:], mode="area")[:, 0]

    mean, basis = principal_components(covered(), dimensions)
    rows = torch.cat(found).sort().values
    place = torch.full((table.num_images,), -1, device=device)
    place[rows] = torch.arange(len(rows), device=device)
    features = torch.zeros(len(rows), basis.shape[1], WINDOW_CELLS**2, dtype=torch.half)
    masks = torch.zeros(len(rows), WINDOW_CELLS**2, device=device)
    for number, view in enumerate(views, 1):
        for some, maps, mask, mirrored in read(view, f"features of the training images, view {number}"):
            placement = placement_of_mask(mask)
            unit = normalize(torch.einsum("nchw,cd->ndhw", maps.float() - mean[:, None, None], basis), dim=1)
            window = _turned_back(cut_windows(unit, placement), mirrored).flatten(2)
            features[place[some].cpu()] += window.half().cpu()
            cover = _turned_back(cut_windows(mask[:, None], placement), mirrored).flatten(1)
            masks[place[some]] += cover / len(views)
    return _Pictures(rows, features, masks)


def _on(device: torch.device, batch: Batch) -> Batch:
    moved: Batch = tree_map_only(Tensor, lambda part: part.to(device, non_blocking=True), batch)
    return moved


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
