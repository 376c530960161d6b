"""Square crops of pictures, alike in training and prediction: boxes and resampling."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

__all__ = ["crop_image", "square_box"]


def square_box(box: Float[Tensor, "*batch 4"], padding: float = 0.0) -> Float[Tensor, "*batch 4"]:
    """Grow boxes by a share of their longer side, and to squares about their centers.

    Args:
        box: Boxes ``(left, top, right, bottom)`` in pixels of the photo.
        padding: How far each edge moves outwards, as a share of the longer side.

    Returns:
        Square boxes; they may reach beyond the photo. A box without area gives one of side zero.

    Source:
        Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020 (released code), with the padding of the
        longer side, the only one that the square shows.

    Example:
        >>> square_box(torch.tensor([10.0, 10.0, 30.0, 20.0]), padding=0.1)
        tensor([ 8.,  3., 32., 27.])
    """
    center = (box[..., :2] + box[..., 2:]) / 2
    half = (box[..., 2:] - box[..., :2]).amax(-1, keepdim=True) * (0.5 + padding)
    return torch.cat((center - half, center + half), -1)


def crop_image(image: Image.Image, box: Sequence[float], size: int, fill: int | tuple[int, ...] = 0) -> Image.Image:
    r"""Cut a box out of a picture and resample it to a square.

    The box is met to a fraction of a pixel and the resampling is antialiased; pixel centers are at halves.

    Args:
        image: Picture of any mode that Pillow can resample.
        box: Square ``(left, top, right, bottom)`` in pixels of the picture; it may reach beyond it.
        size: Side of the result, in pixels.
        fill: Value of a pixel outside the picture, in the picture's mode.

    Returns:
        Picture of ``size × size`` pixels.

    Raises:
        ValueError: If the box has no area or is not finite.

    Example:
        >>> crop_image(Image.new("L", (4, 4), 200), (-1.0, 0.0, 1.0, 2.0), 2).tobytes()
        b'\x00\xc8\x00\xc8'
    """
    if not all(map(math.isfinite, box)) or box[2] <= box[0] or box[3] <= box[1]:
        raise ValueError(f"crop_image needs a box with an area; got {tuple(box)}. Leave this image out.")
    left, top = math.floor(box[0]), math.floor(box[1])
    right, bottom = math.ceil(box[2]), math.ceil(box[3])
    canvas = Image.new(image.mode, (right - left, bottom - top), fill)
    canvas.paste(image, (-left, -top))
    inner = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    return canvas.resize((size, size), Image.Resampling.BILINEAR, box=inner)
