"""Several cameras for each image of a data set, ordered from the best to the worst."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kpose.geometry import flip_camera
from kpose.reconstruction.camera_files import read_cameras, write_cameras
from kpose.reconstruction.camera_weights import distinct_best
from kpose.reconstruction.row_state import RowState, gather_rows
from kpose.reconstruction.viewpoint_grid import ViewpointGrid
from kpose.structures import Batch, Camera, Crop

__all__ = ["CameraTable"]

NEEDS_IMAGES = "CameraTable needs images that it was made for, those that are trained on; it has no index"
NEEDS_CROPS = (
    "CameraTable needs reference crops to map cameras. Run the camera search first; there are none in rows"
)


class CameraTable(RowState):
    """Table of several cameras for each image of a data set.

    A camera is that of its image's *reference crop*, the crop in which the image was searched; the table knows that
    crop and maps cameras into any other crop of the same photo, mirrored or not. Which camera is the best of an
    image is said by ``order``. All state is buffers, and what changes rows gathers them from all processes of a
    distributed run, so that every process has the same table.

    Args:
        index: Identity of each image, as in the entry ``index`` of its batches; distinct.
        names: Name of each image in files, such as its path; the identity when None.
        grid: Cameras at the start.

    Attributes:
        index: Identities in ascending order, ``(N,)``.
        names: Names in that order.
        score: How well each camera explains its image, ``(N, P)``; lower is better, infinite where it is unknown.
            Scores of a search are silhouette losses, those of `choose_cameras` probabilities to be wrong: they
            compare the cameras of one image, not images.
        order: Cameras of each image from the best to the worst, ``(N, P)``.

    Raises:
        ValueError: If identities or names repeat or their numbers differ.

    Source:
        Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020, section 3.1: the camera multiplex.

    Example:
        >>> table = CameraTable(torch.tensor([7, 9]))
        >>> table.cameras(table.rows(torch.tensor([9]))).rotation.shape
        torch.Size([1, 40, 3, 3])
    """

    index: Tensor
    scale: Tensor
    translation: Tensor
    rotation: Tensor
    score: Tensor
    order: Tensor
    crop_scale: Tensor
    crop_translation: Tensor

    def __init__(
        self, index: Int[Tensor, "N"], *, names: Sequence[str] | None = None, grid: ViewpointGrid | None = None
    ) -> None:
        super().__init__()
        grid = ViewpointGrid() if grid is None else grid
        names = [str(int(i)) for i in index] if names is None else list(names)
        if len(set(names)) != len(index) or len(set(index.tolist())) != len(index):
            raise ValueError(
                f"CameraTable needs a distinct index and name for each image; got {len(index)} images, "
                f"{len(set(index.tolist()))} indices and {len(set(names))} names. Leave repeated images out."
            )
        ascending = index.argsort()
        self.names = tuple(names[i] for i in ascending.tolist())
        rotation = grid.rotations()
        images, cameras = len(index), len(rotation)
        self.register_buffer("index", index[ascending].long())
        self.register_buffer("scale", torch.full((images, cameras), grid.scale))
        self.register_buffer("translation", torch.zeros(images, cameras, 2))
        self.register_buffer("rotation", rotation.expand(images, cameras, 3, 3).clone())
        self.register_buffer("score", torch.full((images, cameras), math.inf))
        self.register_buffer("order", torch.arange(cameras).repeat(images, 1))
        self.register_buffer("crop_scale", torch.full((images,), math.nan))
        self.register_buffer("crop_translation", torch.full((images, 2), math.nan))

    @classmethod
    def for_images(
        cls,
        images: Any,  # noqa: ANN401 - any data set with the two attributes
        *,
        grid: ViewpointGrid | None = None,
        file: Path | None = None,
    ) -> "CameraTable":
        """Make a table for the images of a data set.

        Args:
            images: Data set with ``indices`` and ``names``.
            grid: Cameras at the start.
            file: File of cameras to load instead (see `save`).

        Returns:
            The table.

        Raises:
            TypeError: If the data set lacks indices or names.
        """
        if not hasattr(images, "indices") or not hasattr(images, "names"):
            raise TypeError(
                f"CameraTable needs a data set with `indices` and `names`; got {type(images).__name__}. Take one "
                "of kpose.data, or add them."
            )
        table = cls(images.indices, names=images.names, grid=grid)
        if file is not None:
            table.load(file)
        return table

    @property
    def num_images(self) -> int:
        """Number of rows."""
        return len(self.index)

    @property
    def num_cameras(self) -> int:
        """Cameras of each image."""
        return self.scale.shape[1]

    @property
    def scored(self) -> Bool[Tensor, "N"]:
        """Which images have scores."""
        return self.score.isfinite().all(-1)

    @property
    def reference_crop(self) -> Crop:
        """Crops that the cameras are cameras of, NaN where they are unknown."""
        return Crop(self.crop_scale, self.crop_translation)

    def rows(self, index: Int[Tensor, "batch"]) -> Int[Tensor, "batch"]:
        """Find the rows of images.

        Args:
            index: Identities.

        Returns:
            Rows of the table.

        Raises:
            ValueError: If an image is not in the table; a GPU stops by an assertion of its own.
        """
        index = index.to(self.index).contiguous()
        rows = torch.searchsorted(self.index, index).clamp_max(self.num_images - 1)
        _check(self.index[rows] == index, index, NEEDS_IMAGES)
        return rows

    def cameras(self, rows: Int[Tensor, "batch"] | None = None) -> Camera:
        """Return the cameras of images in their reference crops.

        Args:
            rows: Rows of the table; all when None.

        Returns:
            Cameras, ``(batch, P)``, copied from the table.
        """
        rows = self._every_row() if rows is None else rows
        return Camera(self.scale[rows], self.translation[rows], self.rotation[rows])

    def in_crop(
        self, cameras: Camera, rows: Int[Tensor, "batch"], crop: Crop, flipped: Bool[Tensor, "batch"] | None = None
    ) -> Camera:
        """Map cameras from the reference crops of images into other crops of them.

        Args:
            cameras: Cameras of the reference crops, ``(batch, P)``.
            rows: Rows of the table.
            crop: The other crops, as in the entry ``crop`` of a batch.
            flipped: Which crops were mirrored; none when None.

        Returns:
            Cameras of those crops, ``(batch, P)``.

        Raises:
            ValueError: If an image has no reference crop yet; a GPU stops by an assertion of its own.
        """
        _check(self.crop_scale[rows].isfinite(), rows, NEEDS_CROPS)
        ratio = (crop.scale / self.crop_scale[rows])[:, None]
        shift = cameras.translation - self.crop_translation[rows][:, None]
        translation = shift * ratio[..., None] + crop.translation[:, None]
        mapped = Camera(cameras.scale * ratio, translation, cameras.rotation)
        if flipped is None:
            return mapped
        with torch.autocast(ratio.device.type, enabled=False):
            return flip_camera(mapped).where(flipped[:, None], mapped)

    def best(self) -> Camera:
        """Return the best camera of every image, in its reference crop.

        Returns:
            Cameras, ``(N,)``; the first camera of images without scores.
        """
        return self._at(self._every_row(), self.order[:, 0])

    @torch.no_grad()
    def labels(self, batch: Batch) -> Camera:
        """Return the best camera of each image of a batch, as a camera of the batch's crop.

        Args:
            batch: Batch with ``index`` and ``crop``, and ``flipped`` where crops may be mirrored.

        Returns:
            Cameras, ``(batch,)``.
        """
        rows = self.rows(batch["index"])
        best = self._at(rows[:, None], self.order[rows, :1])
        return self.in_crop(best, rows, batch["crop"], batch.get("flipped")).at((slice(None), 0))

    @torch.no_grad()
    def set_reference_crop(self, rows: Int[Tensor, "batch"], crop: Crop) -> None:
        """Set the reference crops of images; their cameras stay as they are.

        Args:
            rows: Rows of the table.
            crop: Their crops.
        """
        rows, scale, translation = gather_rows(rows, *crop)
        self.crop_scale[rows] = scale.to(self.crop_scale)
        self.crop_translation[rows] = translation.to(self.crop_translation)

    @torch.no_grad()
    def set_cameras(self, rows: Int[Tensor, "batch"], cameras: Camera, score: Float[Tensor, "batch P"]) -> None:
        """Replace the cameras and scores of images.

        Args:
            rows: Rows of the table.
            cameras: Cameras of the reference crops, ``(batch, P)``.
            score: Their scores, lower is better.
        """
        rows, score, *parts = gather_rows(rows, score, *cameras)
        self.write(rows, Camera(*parts))
        self._rank(rows, score)

    def write(self, rows: Int[Tensor, "batch"], cameras: Camera) -> None:
        """Write cameras into rows that all processes write alike; scores and order stay."""
        for own, part in zip((self.scale, self.translation, self.rotation), cameras, strict=True):
            own[rows] = part

    @torch.no_grad()
    def set_score(self, rows: Int[Tensor, "batch"], score: Float[Tensor, "batch P"]) -> None:
        """Set the scores of the cameras of some images, and order them by it; equal ones by their place.

        Args:
            rows: Rows of the table.
            score: Scores, lower is better.
        """
        self._rank(*gather_rows(rows, score))

    @torch.no_grad()
    def add_best(self, other: "CameraTable") -> None:
        """Make the best camera of another table the best of every image here, in the place of the worst.

        The new camera takes the score of the one that was the best.

        Args:
            other: Table of the same images, in crops of its own.
        """
        rows, worst = self._every_row(), self.order[:, -1]
        best = other.in_crop(other.best().at((slice(None), None)), rows, self.reference_crop)
        self.score[rows, worst] = self.score[rows, self.order[:, 0]]
        for own, part in zip((self.scale, self.translation, self.rotation), best, strict=True):
            own[rows, worst] = part[:, 0]
        self.order = self.order.roll(1, -1)

    @torch.no_grad()
    def reset(self, cameras: Camera) -> None:
        """Replace all cameras, however many there are for each image, and forget the scores.

        Args:
            cameras: Cameras of the reference crops, ``(N, P)``.
        """
        self.scale, self.translation, self.rotation = (part.clone() for part in cameras)
        self.score = torch.full_like(self.scale, math.inf)
        self.order = torch.arange(self.num_cameras, device=self.index.device).repeat(self.num_images, 1)

    @torch.no_grad()
    def prune(self, keep: int, *, min_angle_deg: float = 0.0) -> None:
        """Keep the best cameras of every image, from the best to the worst.

        Args:
            keep: Cameras that each image keeps.
            min_angle_deg: Least angle between kept cameras: a camera closer than this to a better one comes after
                all that are not. Silhouettes have few modes, and the best four are often one of them (0 in the
                paper).

        Raises:
            ValueError: If ``keep`` is not between 1 and the number of cameras, or scores are unknown.
        """
        if not 1 <= keep <= self.num_cameras:
            raise ValueError(f"prune needs keep between 1 and {self.num_cameras}; got {keep}. Change it.")
        if not self.scored.all():
            raise ValueError(
                f"prune needs the scores of all images; {int((~self.scored).sum())} of {self.num_images} have "
                "none. Let the search see every image first."
            )
        kept = distinct_best(self.rotation, self.order, keep, math.radians(min_angle_deg))
        score = self.score.gather(1, kept)
        self.reset(self._at(self._every_row()[:, None], kept))
        self.score = score

    def save(self, path: Path, *, rows: Int[Tensor, "some"] | None = None) -> None:
        """Write the cameras, keyed by image name, to a safetensors file.

        Args:
            path: The file.
            rows: Rows that are written; all when None.
        """
        rows = self._every_row() if rows is None else rows
        crop = {"crop_scale": self.crop_scale[rows], "crop_translation": self.crop_translation[rows]}
        order = {"score": self.score[rows], "order": self.order[rows]}
        write_cameras(path, [self.names[row] for row in rows.tolist()], self.cameras(rows)._asdict() | crop | order)

    def load(self, path: Path, *, some: bool = False) -> None:
        """Replace all cameras by those of a file, found by image name, however many they are.

        Args:
            path: File that `save` wrote.
            some: Whether the file may lack images, whose cameras stay as they are.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a file of cameras, or lacks images of the table.
        """
        names, tensors = read_cameras(path)
        place = {name: row for row, name in enumerate(names)}
        missing = [name for name in self.names if name not in place]
        if missing and not some:
            raise ValueError(
                f"CameraTable needs a camera file with all of its images; {path} lacks {len(missing)} of "
                f"{self.num_images}, such as {missing[0]!r}. Search their cameras first."
            )
        own = [row for row, name in enumerate(self.names) if name in place]
        rows = torch.tensor([place[self.names[row]] for row in own], dtype=torch.long)
        for name, tensor in tensors.items():
            before = getattr(self, name)
            if not missing:
                setattr(self, name, tensor[rows].to(before))
            else:
                before[own] = tensor[rows].to(before)

    def get_extra_state(self) -> dict[str, Any]:
        """Keep the names with the weights."""
        return {"names": list(self.names)}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore the names."""
        self.names = tuple(state["names"])

    def _rank(self, rows: Tensor, score: Tensor) -> None:
        self.score[rows] = score.to(self.score)
        self.order[rows] = self.score[rows].argsort(stable=True, dim=-1)

    def _at(self, rows: Tensor, columns: Tensor) -> Camera:
        return Camera(self.scale[rows, columns], self.translation[rows, columns], self.rotation[rows, columns])

    def _every_row(self) -> Tensor:
        return torch.arange(self.num_images, device=self.index.device)


def _check(good: Tensor, found: Tensor, message: str) -> None:
    """Raise ValueError where something is not good; a GPU checks it on its own, without making the host wait."""
    if good.device.type != "cpu":
        try:
            return torch._assert_async(good.all(), f"{message} of a batch.")
        except NotImplementedError:  # not on every kind of device
            pass
    if not good.all():
        raise ValueError(f"{message} {found[~good][:5].tolist()}.")
