"""What a photo gives: camera, shape, appearance and keypoints of the object in it."""

import math
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from kpose.geometry import apply_crop, box_to_crop, crop_camera, normalized_to_pixels
from kpose.inference.photo import Picture, cut_square, load_mask, load_photo
from kpose.rendering import HardRenderer
from kpose.structures import Camera, Crop, Mesh
from kpose.visualization import (
    draw_keypoints,
    from_pillow,
    heatmap_image,
    image_grid,
    mesh_views,
    overlay_mesh,
    paint_by_photo,
    to_pillow,
)

if TYPE_CHECKING:
    from kpose.inference.viewer import MeshViewer

__all__ = ["Prediction"]

NOTEBOOK_HEIGHT = 400
TEXTURE_SIZES = (64, 1024)  # from the least to the largest by default


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The object in one photo; pixels are those of the upright photo, tensors are on the CPU.

    Photo, silhouette and overlay are made when they are asked for, and kept.

    Example:
        >>> from kpose.inference import load
        >>> [prediction] = load("bird", segmenter=None)(torch.rand(3, 90, 120))
        >>> prediction.size, prediction.keypoints.shape, prediction.mask.shape
        ((90, 120), torch.Size([16, 2]), torch.Size([90, 120]))
    """

    camera: Camera
    """Camera in pixels of the photo."""
    crop_camera: Camera
    """The same camera in normalized coordinates of the crop."""
    crop: Crop
    """Map from the photo's pixels to the crop."""
    square: tuple[float, float, float, float]
    """The crop: ``(left, top, right, bottom)`` in pixels of the photo; it may reach beyond it."""
    box: tuple[float, ...] | None
    """Box around the object that the crop was made for: given, of the mask, or found; none for the whole frame."""
    located_by: str
    """Where the box comes from: ``box`` or ``mask`` as they were given, the class name of the segmenter that found
    the object, or ``frame`` for the whole frame, which was taken for lack of anything else."""
    size: tuple[int, int]
    """Height and width of the photo."""
    source: Picture
    """The photo as it was given: a file, Pillow's picture or a tensor."""
    mesh: Mesh
    """Shape of the object, with ``texture`` where the network predicts appearance; see `colored_mesh`."""
    given_mask: Picture | None = None
    """Mask of the object as it was given, whose pixels alone color the mesh."""
    texture_size: int | None = None
    """Width of the texture that the photo gives, twice its height; as fine as the photo, up to 1,024, if none."""
    valid: bool = True
    """False where too few keypoints agreed on a camera, or a part of it is not finite. True does not say that the
    pose is right: keypoints that were found where there is no bird agree on a camera, too; see ``confidence``."""
    pose_from: str = "regression"
    """What the camera comes from: ``keypoints``; ``regression`` from the features, of heads without keypoints;
    ``none`` where the keypoints determine no camera and a finite one stands in."""
    covariance: Float[Tensor, "6 6"] | None = None
    """Uncertainty of ``camera``, of a head that knows it: covariance of ``(log scale, t_x, t_y, rotation vector)``,
    translations in pixels of the photo, the rotation vector in radians, turning the camera frame."""
    keypoints: Float[Tensor, "N 2"] | None = None
    """Keypoints in pixels of the photo, of a head that has some."""
    confidence: Float[Tensor, "N"] | None = None
    """How sure each keypoint is, in [0, 1]."""
    inliers: Bool[Tensor, "N"] | None = None
    """Which keypoints agree with the camera."""
    heatmaps: Float[Tensor, "N h w"] | None = None
    """Where in the crop each keypoint may be."""
    expected_error_deg: float | None = None
    """Mean error of rotation that poses like this one have, in degrees, of a predictor with a `Calibration`."""
    score: float | None = None
    """How likely the rotation is within 30° of the true one, in [0, 1], of a predictor with a `Calibration`; low
    where the picture is unlike those that it was fitted on, and may show no object of the category."""

    def __repr__(self) -> str:
        """Return a line on what was found, without the tensors."""
        name = self.source if isinstance(self.source, str | PathLike) else type(self.source).__name__
        points = "" if self.keypoints is None else f", {len(self.keypoints)} keypoints"
        return (
            f"Prediction({name}, located_by={self.located_by!r}, box={self.box}, valid={self.valid}, "
            f"{len(self.mesh.vertices)} vertices{points})"
        )

    @cached_property
    def photo(self) -> Image.Image:
        """The upright photo in RGB, read again from where it was given.

        Raises:
            FileNotFoundError: If its file is gone.
            ValueError: If its file can no longer be read.
        """
        return load_photo(self.source)

    @cached_property
    def mask(self) -> Float[Tensor, "H W"]:
        """Silhouette of the mesh in the photo, 1 where it covers the pixel's center."""
        height, width = self.size
        return _silhouette(self.mesh, self.camera, max(self.size))[:height, :width]

    @cached_property
    def colored_mesh(self) -> Mesh:
        """The mesh to look at: with its own texture, or else with the one that the photo shows.

        See `kpose.visualization.paint_by_photo`.

        Raises:
            FileNotFoundError: If there is no texture of its own and the photo's file, or that of its mask, is gone.
        """
        if self.mesh.texture is not None or self.mesh.vertex_colors is not None or self.mesh.uv is None:
            return self.mesh
        # The photo shows half of what the texture goes around.
        fine = 2 * math.ceil(self.square[2] - self.square[0])
        width = self.texture_size or min(max(fine, TEXTURE_SIZES[0]), TEXTURE_SIZES[1])
        picture, mask = cut_square(self.photo, self.square, width), None
        if self.given_mask is not None:
            given = load_mask(self.given_mask, self.size).convert("RGB")
            mask = cut_square(given, self.square, width, fill=(0, 0, 0))[0]
        return paint_by_photo(self.mesh, picture, self.crop_camera, mask=mask, size=(max(width // 2, 1), width))

    @property
    def is_sure(self) -> bool | None:
        """Whether the pose is more likely right than wrong; None without a score."""
        return None if self.score is None else self.score >= 0.5

    @property
    def is_finite(self) -> bool:
        """Whether camera and vertices are finite numbers, which those of a damaged network may not be."""
        return all(bool(part.isfinite().all()) for part in (*self.camera, self.mesh.vertices))

    @property
    def rotation_deviation_deg(self) -> float | None:
        """Standard deviation of the camera's rotation, in degrees, of a head that knows it."""
        return (
            None if self.covariance is None else math.degrees(self.covariance[3:, 3:].trace().clamp_min(0).sqrt())
        )

    def overlay(self, largest: int = 800) -> Float[Tensor, "3 H W"]:
        """Draw the mesh, and the keypoints if there are any, on the photo.

        Args:
            largest: Most pixels on a side; a larger photo is scaled down.

        Returns:
            RGB in [0, 1].
        """
        picture = self.photo.copy()
        picture.thumbnail((largest, largest))
        factor = max(picture.size) / max(self.size)
        shrink = Crop(torch.tensor(factor), torch.zeros(2))
        drawn = overlay_mesh(from_pillow(picture), self.mesh, crop_camera(self.camera, shrink))
        if self.keypoints is not None:
            drawn = draw_keypoints(drawn, self.keypoints * factor, self.confidence, inliers=self.inliers)
        return drawn

    def heatmap_overlay(self, size: int = 400) -> Float[Tensor, "3 {size} {size}"]:
        """Draw the heatmaps and the keypoints on the crop that the network saw.

        Args:
            size: Side of the picture, in pixels.

        Returns:
            RGB in [0, 1].

        Raises:
            ValueError: If the head has no keypoints.
        """
        if self.keypoints is None:
            raise ValueError("heatmap_overlay needs keypoints; this prediction is of a head without. See overlay.")
        seen = cut_square(self.photo, self.square, size)
        if self.heatmaps is not None:
            seen = seen.lerp(heatmap_image(self.heatmaps, size), 0.65)
        points = normalized_to_pixels(apply_crop(self.keypoints, self.crop), (size, size))
        return draw_keypoints(seen, points, self.confidence, inliers=self.inliers)

    def view(self) -> "MeshViewer":
        """Return a viewer of `colored_mesh`, which a notebook shows: the mouse turns the mesh."""
        from kpose.inference.viewer import MeshViewer  # here for trimesh, as above

        return MeshViewer(self.colored_mesh)

    def save(self, path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write `colored_mesh` to a file that other programs read; see `save_mesh`.

        Args:
            path: File ending in ``.glb``, ``.obj`` or ``.ply``.
            overwrite: Replace files that exist.

        Returns:
            The files that were written, the mesh last.

        Raises:
            FileExistsError: If one of the files exists and ``overwrite`` is not set.
            FileNotFoundError: If there is no texture of its own and the photo's file is gone.
            ValueError: If the ending is another, or the vertices are not finite.
        """
        # Here, as trimesh takes a second to import that predictions can do without.
        from kpose.inference.export import save_mesh

        return save_mesh(self.colored_mesh, path, overwrite=overwrite)

    def _repr_png_(self) -> bytes:
        """Show the overlay, and the mesh from the side and the front, in a notebook."""
        side, front, _ = mesh_views(self.colored_mesh, NOTEBOOK_HEIGHT // 2)
        pictures = [self.overlay(NOTEBOOK_HEIGHT), torch.cat((side, front), -1)]
        file = BytesIO()
        to_pillow(image_grid(pictures, columns=2)).save(file, "PNG")
        return file.getvalue()


@torch.no_grad()
def _silhouette(mesh: Mesh, camera: Camera, side: int) -> Tensor:
    """Draw in a square of pixels, where normalized units are alike in both directions."""
    square = crop_camera(camera, box_to_crop(camera.translation.new_tensor([0, 0, side, side])))
    return HardRenderer().silhouette(mesh, square, side)
