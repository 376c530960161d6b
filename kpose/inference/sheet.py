"""Sheets of what was predicted: a row of pictures for each photo, to look at."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from kpose._limits import check_side
from kpose.geometry import axis_angle_to_matrix, box_to_crop, uncrop_camera
from kpose.inference.photo import cut_square
from kpose.inference.prediction import Prediction
from kpose.visualization import from_pillow, image_grid, mesh_views, overlay_mesh

__all__ = ["prediction_sheet", "sheet_row"]

SIZE = 160
VIEWS = ("as seen", "from the right", "from above")
# About the picture's axes to the right and down: none, the viewer to the right, the viewer above.
TURNS = math.pi / 2 * torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
ORANGE = (255, 128, 38)


def prediction_sheet(
    predictions: Sequence[Prediction], names: Sequence[str] | None = None, *, size: int = SIZE
) -> Float[Tensor, "3 H W"]:
    """Draw a row of pictures for each photo: itself, keypoints, overlay, and the mesh from three sides.

    Args:
        predictions: What the photos gave.
        names: Captions of the photos; their numbers from 1 when not given.
        size: Side of each picture, in pixels.

    Returns:
        Sheet, with captions.

    Raises:
        ValueError: If there is no photo, or there are not as many names.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> from kpose.heads import QuaternionHead
        >>> from kpose.inference import Predictor
        >>> from kpose.network import PoseNetwork
        >>> predictor = Predictor(PoseNetwork(TinyBackbone(width=8), QuaternionHead), image_size=64)
        >>> prediction_sheet(predictor(torch.rand(3, 90, 120)), size=64).shape  # five pictures in a row
        torch.Size([3, 94, 380])
    """
    check_side(size, "prediction_sheet", "size")
    names = [str(number + 1) for number in range(len(predictions))] if names is None else names
    rows = [sheet_row(replace(one), size) for one in predictions]  # copies, as a prediction keeps its photo
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or len(names) != len(rows):
        raise ValueError(
            f"A sheet needs photos of one predictor and a name for each; got {len(rows)} photos with "
            f"{sorted(lengths)} pictures and {len(names)} names."
        )
    pictures, labels = list[Tensor](), list[str]()
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        foot = number == len(rows) - 1
        pictures += row.values()
        labels += [name, *(caption if foot or "not valid" in caption else "" for caption in [*row][1:])]
    return image_grid(pictures, labels, columns=lengths.pop())


def sheet_row(prediction: Prediction, size: int = SIZE) -> dict[str, Float[Tensor, "3 _ _"]]:
    """Draw what one photo gave.

    The photo is whole, with a frame around what the network saw where that is less; the keypoints, on their
    heatmaps, and the overlay show what it saw. The mesh, `Prediction.colored_mesh`, is turned from
    the camera's view.
    """
    seen = cut_square(prediction.photo, prediction.square, size)
    row = {"photo": _framed(prediction, size)}
    if prediction.keypoints is not None:
        row["keypoints"] = prediction.heatmap_overlay(size)
    camera = prediction.crop_camera
    in_pixels = uncrop_camera(camera, box_to_crop(torch.tensor([0.0, 0.0, size, size])))
    row["overlay" if prediction.valid else "overlay (not valid)"] = overlay_mesh(seen, prediction.mesh, in_pixels)
    turns = axis_angle_to_matrix(TURNS.to(camera.rotation)) @ camera.rotation
    views = mesh_views(prediction.colored_mesh, size, rotations=turns)
    return {**row, **dict(zip(VIEWS, views, strict=True))}


def _framed(prediction: Prediction, size: int) -> Tensor:
    """Fit the whole photo into a cell, with a frame around the crop where that is inside of it."""
    photo = prediction.photo
    factor = size / max(photo.size)
    fitted = photo.resize([max(1, round(factor * side)) for side in photo.size], Image.Resampling.BICUBIC)
    picture = from_pillow(fitted)
    if prediction.box is None:
        return picture
    height, width = picture.shape[-2:]
    left, top, right, bottom = (round(factor * edge) for edge in prediction.square)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    outer = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    inner = (rows >= top + 2) & (rows < bottom - 2) & (columns >= left + 2) & (columns < right - 2)
    picture[:, outer & ~inner] = torch.tensor(ORANGE)[:, None] / 255
    return picture
