"""Photos and masks in any form, and choosing the square that a prediction is made from."""

import math
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kpose._cropping import crop_image, square_box
from kpose._pictures import gray_identities, read_mask, read_photo
from kpose.visualization import from_pillow, to_pillow

__all__ = [
    "Box",
    "Entry",
    "Picture",
    "cut_square",
    "is_picture",
    "load_mask",
    "load_photo",
    "pair_up",
    "photo_square",
]

Picture = str | PathLike[str] | Image.Image | Tensor | NDArray[Any]
"""What can be given as a photo or mask: a file, Pillow's picture, a tensor, or an array."""

Box = Sequence[int | float] | Tensor
"""``(left, top, right, bottom)`` in pixels of the upright photo."""

Entry = tuple[Picture, Box | None, Picture | None]
"""A photo with its box or mask, if it has one."""

PADDING = 0.05  # as the crops of training
WHITE = (255, 255, 255)
MIN_SIDE = 8
MAX_CANVAS = 2**26


def is_picture(value: object) -> bool:
    """Return whether a value is a single photo or mask, and not several."""
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim < 4
    return isinstance(value, str | PathLike | Image.Image)


def load_photo(photo: Picture) -> Image.Image:
    """Read a photo as it is meant to be seen: upright, in RGB, on white where it is transparent.

    Gray, palette, CMYK and 16-bit pictures are converted; of an animation the first
    frame is taken; the orientation that a camera notes in EXIF is applied.

    Args:
        photo: File, Pillow's picture, RGB tensor ``(3, H, W)`` in [0, 1], or RGB array ``(H, W, 3)`` from 0 to 255.

    Returns:
        Picture of mode ``RGB``.

    Raises:
        OSError: If there is no such file, or it may not be read.
        ValueError: If the file is empty, damaged, cut short, no picture, smaller than 8 pixels or larger than 178
            million pixels, in one line that names it.

    Example:
        >>> load_photo(Image.new("LA", (20, 10), (0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    if isinstance(photo, Tensor):
        if photo.ndim != 3 or len(photo) != 3 or not photo.is_floating_point():
            raise ValueError(
                f"A photo needs to be a file, a picture or a float tensor (3, H, W) in [0, 1]; got {photo.dtype} "
                f"{tuple(photo.shape)}. Convert it."
            )
        picture = to_pillow(photo)
    elif isinstance(photo, np.ndarray):
        if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
            raise ValueError(
                f"A photo as an array needs uint8 (H, W, 3), red first (OpenCV puts blue there); got {photo.dtype} "
                f"{photo.shape}. Convert it."
            )
        picture = Image.fromarray(photo)
    else:
        picture = read_photo(photo)
    if min(picture.size) < MIN_SIDE:
        raise ValueError(
            f"A photo needs at least {MIN_SIDE} pixels on each side; {_name(photo)} has {picture.width} x "
            f"{picture.height}. Take a larger one."
        )
    return picture


def load_mask(mask: Picture, size: tuple[int, int]) -> Image.Image:
    """Read the mask of a photo.

    A mask may be black and white, gray with soft edges, transparent, with a palette or colors for several objects,
    or of 16 bits (see `kpose.data.read_identities`); a pixel of any object is the object's here.

    Args:
        mask: File, Pillow's picture, or tensor or array ``(H, W)``.
        size: Height and width of the photo, in pixels.

    Returns:
        Picture of mode ``L``, 0 and 255.

    Raises:
        OSError: If there is no such file, or it may not be read.
        ValueError: If the mask cannot be read, is empty or differs from the photo in size.

    Example:
        >>> load_mask(torch.eye(9), (9, 9)).getpixel((4, 4))
        255
    """
    if isinstance(mask, Tensor | np.ndarray):
        if mask.ndim != 2:
            raise ValueError(f"A mask needs to be of shape (H, W); got {tuple(mask.shape)}. Take one channel.")
        if isinstance(mask, Tensor):
            mask = (mask.float() if mask.is_floating_point() else mask).detach().cpu().numpy()
        found = Image.fromarray((gray_identities(mask) > 0).astype(np.uint8) * 255)
    else:
        found = read_mask(mask)
    if found.size != size[::-1]:
        raise ValueError(
            f"A mask needs the size of its photo, {size[1]} x {size[0]} pixels (upright); {_name(mask)} has "
            f"{found.width} x {found.height}. Resize it."
        )
    if found.getbbox() is None:
        raise ValueError(f"A mask needs at least one pixel of the object; {_name(mask)} has none. Leave it out.")
    return found


def pair_up(images: Any, box: Any, mask: Any) -> list[Entry]:  # noqa: ANN401
    """Bring photos, boxes and masks together, one entry for each photo."""
    if is_picture(images):
        return [(images, box, mask)]
    photos = list(images)
    if _is_box(box) or is_picture(mask):
        raise ValueError(
            f"Predictor needs a box or mask for each of {len(photos)} photos; got a single one. Give as many."
        )
    boxes = [None] * len(photos) if box is None else list(box)
    masks = [None] * len(photos) if mask is None else list(mask)
    if not len(photos) == len(boxes) == len(masks):
        raise ValueError(
            f"Predictor needs a box or mask for each of {len(photos)} photos; got {len(boxes)} boxes and "
            f"{len(masks)} masks. Give None where there is none."
        )
    return list(zip(photos, boxes, masks, strict=True))


def _is_box(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, Tensor):
        return value.ndim < 2
    return isinstance(value, Sequence) and len(value) > 0 and isinstance(value[0], int | float)


def photo_square(
    size: tuple[int, int], box: Sequence[int | float] | Tensor | None = None
) -> tuple[float, float, float, float]:
    """Choose the square that is cut out of a photo: padded around a box as in training, or the whole frame.

    Args:
        size: Height and width of the photo, in pixels.
        box: ``(left, top, right, bottom)`` around the object, in pixels of the upright photo; what lies outside
            the photo is cut off. The whole frame when not given, without padding.

    Returns:
        Square ``(left, top, right, bottom)`` in pixels; it may reach beyond the photo.

    Raises:
        ValueError: If the box is not four finite numbers, has no area, or lies outside the photo.

    Example:
        >>> photo_square((100, 200), (50, 20, 70, 40))
        (49.0, 19.0, 71.0, 41.0)
    """
    height, width = size
    if box is None:
        return _square((0.0, 0.0, float(width), float(height)), 0.0)
    numbers = [float(number) for number in box]
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"A box needs four finite numbers X0 Y0 X1 Y1; got {numbers}. Give them in pixels.")
    left, top, right, bottom = numbers
    if right <= left or bottom <= top:
        raise ValueError(f"A box needs X0 < X1 and Y0 < Y1; got {numbers}. Give its top left corner first.")
    inside = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    if inside[2] - inside[0] < 1 or inside[3] - inside[1] < 1:
        raise ValueError(
            f"A box needs at least one pixel of the photo, which is {width} x {height}; got {numbers}. "
            "Give it in pixels of the upright photo."
        )
    return _square(inside, PADDING)


def cut_square(
    photo: Image.Image, square: Sequence[float], size: int, *, fill: tuple[int, int, int] = WHITE
) -> Tensor:
    """Cut a square out of a photo, white beyond its edges if not told otherwise.

    Example:
        >>> cut_square(Image.new("RGB", (64, 64)), (0.0, 0.0, 128.0, 128.0), 8)[0, :, 0]
        tensor([0.0000, 0.0000, 0.0000, 0.1255, 0.8745, 1.0000, 1.0000, 1.0000])
    """
    side = square[2] - square[0]
    if side**2 > MAX_CANVAS:
        # The canvas of a long, thin photo would not fit the memory.
        factor = max(2, int(side // (8 * size)))
        photo = photo.reduce(factor)
        square = [number / factor for number in square]
    return from_pillow(crop_image(photo, square, size, fill))


def _square(box: tuple[float, float, float, float], padding: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = square_box(torch.tensor(box, dtype=torch.float64), padding).tolist()
    return left, top, right, bottom


def _name(source: Picture) -> str:
    return str(source) if isinstance(source, str | PathLike) else "this one"
