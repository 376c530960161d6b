"""Several cameras for each image of a data set, in one table with an optimiser of its own."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kpose.geometry import flip_camera
from kpose.reconstruction.camera_choice import distinct_best
from kpose.reconstruction.camera_files import read_camera_table, write_camera_table
from kpose.reconstruction.gathering import gather_rows
from kpose.reconstruction.viewpoint_grid import ViewpointGrid, turn_cameras, where_camera
from kpose.structures import Batch, Camera, Crop

__all__ = ["CameraMultiplex"]

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class CameraMultiplex(nn.Module):
    """Table of several cameras for each image, which training refines and prunes.

    A camera is that of its image's *reference crop*, the crop in which the image was first seen; the table knows
    that crop and maps cameras into any other crop of the same photo, mirrored or not. During training each camera
    has six residuals: three are added to scale and translation, three turn it by ``tanh(gain * r) * range`` in
    azimuth, elevation and roll; `step` moves them by Adam. Moments and step counts belong to rows: images that are
    not in a batch do not move. All state is buffers, none of it parameters, so that nothing averages the cameras of
    one process with those of another; what changes rows gathers them from all processes, which keeps their tables
    equal.

    Args:
        index: Identity of each image, as in the entry ``index`` of its batches; distinct.
        names: Name of each image in files, such as its path; the identity when None.
        grid: Cameras at the start, and their ranges.

    Raises:
        ValueError: If identities or names repeat or their numbers differ.

    Source:
        Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020, section 3.1; the released code's constants.

    Example:
        >>> multiplex = CameraMultiplex(torch.tensor([7, 9]))
        >>> multiplex.cameras(multiplex.rows(torch.tensor([9]))).rotation.shape
        torch.Size([1, 40, 3, 3])
    """

    index: Tensor
    scale: Tensor
    translation: Tensor
    rotation: Tensor
    residual: Tensor
    losses: Tensor
    moment: Tensor
    square: Tensor
    steps: Tensor
    crop_scale: Tensor
    crop_translation: Tensor
    ranges: Tensor

    def __init__(
        self, index: Int[Tensor, "N"], *, names: Sequence[str] | None = None, grid: ViewpointGrid | None = None
    ) -> None:
        super().__init__()
        grid = ViewpointGrid() if grid is None else grid
        names = [str(int(i)) for i in index] if names is None else list(names)
        if len(set(names)) != len(index) or len(set(index.tolist())) != len(index):
            raise ValueError(
                f"CameraMultiplex needs a distinct index and name for each image; got {len(index)} images, "
                f"{len(set(index.tolist()))} indices and {len(set(names))} names. Leave repeated images out."
            )
        order = index.argsort()
        self.names = tuple(names[i] for i in order.tolist())
        rotation = grid.rotations()
        images, cameras = len(index), len(rotation)
        self.register_buffer("index", index[order].long())
        self.register_buffer("scale", torch.full((images, cameras), grid.scale))
        self.register_buffer("translation", torch.zeros(images, cameras, 2))
        self.register_buffer("rotation", rotation.expand(images, cameras, 3, 3).clone())
        self.register_buffer("residual", torch.zeros(images, cameras, 6))
        self.register_buffer("losses", torch.full((images, cameras), math.inf))
        self.register_buffer("moment", torch.zeros(images, cameras, 6))
        self.register_buffer("square", torch.zeros(images, cameras, 6))
        self.register_buffer("steps", torch.zeros(images, dtype=torch.long))
        self.register_buffer("crop_scale", torch.full((images,), math.nan))
        self.register_buffer("crop_translation", torch.full((images, 2), math.nan))
        degrees = (grid.azimuth_range_deg, grid.elevation_range_deg, grid.roll_range_deg)
        self.register_buffer("ranges", torch.tensor([math.radians(d) for d in degrees]))

    @property
    def num_images(self) -> int:
        """Number of rows."""
        return len(self.index)

    @property
    def num_cameras(self) -> int:
        """Cameras of each image."""
        return self.scale.shape[1]

    @property
    def seen(self) -> Bool[Tensor, "N"]:
        """Which images have had their losses recorded."""
        return self.losses.isfinite().all(-1)

    def rows(self, index: Int[Tensor, "batch"]) -> Int[Tensor, "batch"]:
        """Find the rows of images.

        Args:
            index: Identities.

        Returns:
            Rows of the table.

        Raises:
            ValueError: If an image is not in the table.
        """
        index = index.to(self.index).contiguous()
        rows = torch.searchsorted(self.index, index).clamp_max(self.num_images - 1)
        if not torch.equal(self.index[rows], index):
            unknown = index[self.index[rows] != index][:5].tolist()
            raise ValueError(
                f"CameraMultiplex needs images that it was made for; it has no index {unknown}. Make it from the "
                "data set that is trained on."
            )
        return rows

    def residuals(self, rows: Int[Tensor, "batch"]) -> Float[Tensor, "batch P 6"]:
        """Give residuals as a leaf that gradients are taken by: scale, translation, azimuth, elevation, roll.

        Args:
            rows: Rows of the table.

        Returns:
            A copy that asks for gradients.
        """
        return self.residual[rows].clone().requires_grad_()

    def cameras(
        self,
        rows: Int[Tensor, "batch"],
        residuals: Float[Tensor, "batch P 6"] | None = None,
        *,
        gain: float = 1.0,
    ) -> Camera:
        """Give the cameras of images in their reference crops.

        Args:
            rows: Rows of the table.
            residuals: Differentiable residuals; those of the table when None.
            gain: Factor of the angular residuals within the tanh: 0.1 in U-CMR's camera search, 1 afterwards.

        Returns:
            Cameras, ``(batch, P)``.
        """
        residuals = self.residual[rows] if residuals is None else residuals
        base = Camera(self.scale[rows], self.translation[rows], self.rotation[rows])
        # In bfloat16 rotations are rounded to a third of a degree.
        with torch.autocast(base.scale.device.type, enabled=False):
            return turn_cameras(base, residuals, self.ranges, gain)

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
            ValueError: If an image has no reference crop yet.
        """
        if not self.crop_scale[rows].isfinite().all():
            raise ValueError(
                "CameraMultiplex needs the reference crop of an image to map its cameras; some images have none. "
                "Run the camera search over them first."
            )
        ratio = (crop.scale / self.crop_scale[rows])[:, None]
        shift = cameras.translation - self.crop_translation[rows][:, None]
        translation = shift * ratio[..., None] + crop.translation[:, None]
        mapped = Camera(cameras.scale * ratio, translation, cameras.rotation)
        if flipped is None:
            return mapped
        with torch.autocast(ratio.device.type, enabled=False):
            return where_camera(flipped[:, None], flip_camera(mapped), mapped)

    @torch.no_grad()
    def refer(self, rows: Int[Tensor, "batch"], crop: Crop) -> None:
        """Note the reference crops of images: cameras set from now on are cameras of these.

        Args:
            rows: Rows of the table.
            crop: Their crops.
        """
        rows, scale, translation = gather_rows(rows, crop.scale, crop.translation)
        self.crop_scale[rows] = scale.to(self.crop_scale)
        self.crop_translation[rows] = translation.to(self.crop_translation)

    @torch.no_grad()
    def replace(self, rows: Int[Tensor, "batch"], cameras: Camera, losses: Float[Tensor, "batch P"]) -> None:
        """Put cameras and their losses into the table; residuals and moments of those rows start afresh.

        Args:
            rows: Rows of the table.
            cameras: Cameras of the reference crops, ``(batch, P)``.
            losses: Their losses.
        """
        rows, scale, translation, rotation, losses = gather_rows(rows, *cameras, losses)
        self.scale[rows] = scale
        self.translation[rows] = translation
        self.rotation[rows] = rotation
        self.losses[rows] = losses
        for state in (self.residual, self.moment, self.square):
            state[rows] = 0
        self.steps[rows] = 0

    @torch.no_grad()
    def step(self, rows: Int[Tensor, "batch"], gradient: Float[Tensor, "batch P 6"], lr: float) -> None:
        """Move the residuals of some images by one step of Adam; all other rows stay bit for bit.

        Args:
            rows: Rows of the table; an image that comes more than once moves by its mean gradient.
            gradient: Gradient of the residuals. Rows with a gradient that is not finite stay as they are.
            lr: Learning rate.

        Source:
            Kingma and Ba, Adam, ICLR 2015, with moments and the count of steps kept by row.
        """
        rows, gradient = _mean_by_row(*gather_rows(rows, gradient))
        good = gradient.isfinite().flatten(1).all(-1)
        rows, gradient = rows[good], gradient[good].to(self.residual)
        self.steps[rows] += 1
        self.moment[rows] = self.moment[rows].lerp(gradient, 1 - BETAS[0])
        self.square[rows] = self.square[rows].lerp(gradient.square(), 1 - BETAS[1])
        count = self.steps[rows][:, None, None].to(gradient)
        moment = self.moment[rows] / (1 - BETAS[0] ** count)
        square = self.square[rows] / (1 - BETAS[1] ** count)
        self.residual[rows] -= lr * moment / (square.sqrt() + EPSILON)

    @torch.no_grad()
    def record(self, rows: Int[Tensor, "batch"], losses: Float[Tensor, "batch P"]) -> None:
        """Note the present losses of the cameras of some images.

        Args:
            rows: Rows of the table.
            losses: Losses, lower is better.
        """
        rows, losses = gather_rows(rows, losses)
        self.losses[rows] = losses.to(self.losses)

    @torch.no_grad()
    def settle(self, gain: float = 1.0) -> None:
        """Make the present cameras the ones that residuals start from, for the next stage.

        Args:
            gain: That with which the residuals were optimised.
        """
        rows = torch.arange(self.num_images, device=self.index.device)
        self.replace_all(self.cameras(rows, gain=gain))

    @torch.no_grad()
    def replace_all(self, cameras: Camera) -> None:
        """Replace every camera, however many there are for each image; losses stay if their number does.

        Args:
            cameras: Cameras of the reference crops, ``(N, P)``.
        """
        self.scale, self.translation, self.rotation = (part.clone() for part in cameras)
        zeros = torch.zeros(*self.scale.shape, 6, device=self.scale.device)
        self.residual, self.moment, self.square = zeros, zeros.clone(), zeros.clone()
        self.steps = torch.zeros_like(self.steps)
        if self.losses.shape != self.scale.shape:
            self.losses = torch.full_like(self.scale, math.inf)

    def best(self, *, gain: float = 1.0) -> Camera:
        """Give the camera of least loss of every image, in its reference crop.

        Args:
            gain: That with which the residuals are optimised.

        Returns:
            Cameras, ``(N,)``; the first camera of images whose losses are not known.
        """
        rows = torch.arange(self.num_images, device=self.index.device)
        choice = self.losses.argmin(-1)
        cameras = self.cameras(rows, gain=gain)
        return cameras.at((rows, choice))

    @torch.no_grad()
    def labels(self, batch: Batch) -> Camera:
        """Give the camera of least loss of each image of a batch, as a camera of the batch's crop.

        Args:
            batch: Batch with ``index`` and ``crop``, and ``flipped`` where crops may be mirrored.

        Returns:
            Cameras, ``(batch,)``.
        """
        rows = self.rows(batch["index"])
        best = self.losses[rows].argmin(-1)
        cameras = self.in_crop(self.cameras(rows), rows, batch["crop"], batch.get("flipped"))
        return cameras.at((torch.arange(len(rows)), best))

    @torch.no_grad()
    def prune(self, keep: int, *, min_angle_deg: float = 0.0, gain: float = 1.0) -> None:
        """Keep the cameras of least loss of every image.

        Args:
            keep: Cameras that each image keeps.
            min_angle_deg: Least angle between kept cameras: a camera closer than this to a better one comes after
                all that are not. Silhouettes have few modes, and the best four are often one of them (0 in the
                paper).
            gain: That with which the residuals were optimised.

        Raises:
            ValueError: If ``keep`` is not between 1 and the number of cameras, or losses are not known.
        """
        if not 1 <= keep <= self.num_cameras:
            raise ValueError(f"prune needs keep between 1 and {self.num_cameras}; got {keep}. Change it.")
        if not self.seen.all():
            raise ValueError(
                f"prune needs the losses of all images; {int((~self.seen).sum())} of {self.num_images} have none. "
                "Let the search see every image first."
            )
        rows = torch.arange(self.num_images, device=self.index.device)
        cameras = self.cameras(rows, gain=gain)
        kept = distinct_best(cameras.rotation, self.losses, keep, math.radians(min_angle_deg))
        losses = self.losses.gather(1, kept)
        self.replace_all(cameras.at((rows[:, None], kept)))
        self.losses = losses

    def save(self, path: Path, *, gain: float = 1.0) -> None:
        """Write the cameras, keyed by image name, to a safetensors file.

        Args:
            path: The file.
            gain: That with which the residuals were optimised.
        """
        rows = torch.arange(self.num_images, device=self.index.device)
        cameras = self.cameras(rows, gain=gain)._asdict()
        crop = {"crop_scale": self.crop_scale, "crop_translation": self.crop_translation}
        tensors = {**cameras, **crop, "losses": self.losses}
        write_camera_table(path, self.names, tensors)

    def load(self, path: Path) -> None:
        """Take the cameras of a file, found by image name, however many they are.

        Args:
            path: File that `save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a file of cameras, or lacks images of the table.
        """
        names, tensors = read_camera_table(path)
        place = {name: row for row, name in enumerate(names)}
        if missing := [name for name in self.names if name not in place]:
            raise ValueError(
                f"CameraMultiplex needs a camera file with all of its images; {path} lacks {len(missing)} of "
                f"{self.num_images}, such as {missing[0]!r}. Search their cameras first."
            )
        order = torch.tensor([place[name] for name in self.names])
        found = {name: tensor[order].to(self.scale) for name, tensor in tensors.items()}
        self.replace_all(Camera(found["scale"], found["translation"], found["rotation"]))
        self.losses = found["losses"]
        self.crop_scale, self.crop_translation = found["crop_scale"], found["crop_translation"]

    def get_extra_state(self) -> dict[str, Any]:
        """Keep the names with the weights."""
        return {"names": list(self.names)}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take the names back."""
        self.names = tuple(state["names"])

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401
        """Take the number of cameras from the checkpoint: it may have been pruned."""
        for name, buffer in self._buffers.items():
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor) and buffer is not None and saved.shape != buffer.shape:
                setattr(self, name, torch.empty_like(saved, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _mean_by_row(rows: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    unique, place, counts = torch.unique(rows, return_inverse=True, return_counts=True)
    total = gradient.new_zeros(len(unique), *gradient.shape[1:]).index_add_(0, place, gradient)
    return unique, total / counts[:, None, None]
