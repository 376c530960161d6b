"""Reading photo files of any kind, and choosing the square that a prediction is made from."""

import logging
import math
import struct
import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from kpose._cropping import crop_image, square_box
from kpose._messages import one_line
from kpose.visualization import from_pillow, to_pillow

__all__ = ["Picture", "cut_square", "load_mask", "load_photo", "photo_square"]

logger = logging.getLogger(__name__)

Picture = str | PathLike[str] | Image.Image | Tensor | NDArray[Any]
"""What can be given as a photo or mask: a file, Pillow's picture, a tensor, or an array."""

PADDING = 0.05  # as the crops of training
WHITE = (255, 255, 255)
MIN_SIDE = 8
MAX_CANVAS = 2**26
# What Pillow's decoders raise on bytes that are not what they say.
DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, RuntimeError, struct.error)


def load_photo(photo: Picture) -> Image.Image:
    """Read a photo as it is meant to be seen: upright, in RGB, on white where it is transparent.

    Gray, palette, CMYK and 16-bit pictures are converted; of an animation the first
    frame is taken; the orientation that a camera notes in EXIF is applied.

    Args:
        photo: File, Pillow's picture, RGB tensor ``(3, H, W)`` in [0, 1], or RGB array ``(H, W, 3)`` from 0 to 255.

    Returns:
        Picture of mode ``RGB``.

    Raises:
        FileNotFoundError: If there is no such file.
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
        picture = _read(photo, "photo")
    if min(picture.size) < MIN_SIDE:
        raise ValueError(
            f"A photo needs at least {MIN_SIDE} pixels on each side; {_name(photo)} has {picture.width} x "
            f"{picture.height}. Take a larger one."
        )
    return _to_rgb(picture)


def load_mask(mask: Picture, size: tuple[int, int]) -> Image.Image:
    """Read the mask of a photo.

    A pixel belongs to the object where its brightest color is above half of the brightest of the mask: masks of
    0 and 1, of 0 and 255, of 16 bits, soft ones and those with a palette all work.

    Args:
        mask: File, Pillow's picture, or tensor or array ``(H, W)``.
        size: Height and width of the photo, in pixels.

    Returns:
        Picture of mode ``L``, 0 and 255.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the mask cannot be read, is empty or differs from the photo in size.

    Example:
        >>> load_mask(torch.eye(9), (9, 9)).getpixel((4, 4))
        255
    """
    if isinstance(mask, Tensor | np.ndarray):
        if mask.ndim != 2:
            raise ValueError(f"A mask needs to be of shape (H, W); got {tuple(mask.shape)}. Take one channel.")
        values = np.nan_to_num(torch.as_tensor(mask).detach().cpu().float().numpy())
    else:
        values = _brightness(_read(mask, "mask"))
    if values.shape != size:
        raise ValueError(
            f"A mask needs the size of its photo, {size[1]} x {size[0]} pixels (upright); {_name(mask)} has "
            f"{values.shape[1]} x {values.shape[0]}. Resize it."
        )
    if not values.max() > 0:
        raise ValueError(f"A mask needs at least one pixel of the object; {_name(mask)} has none. Leave it out.")
    return Image.fromarray(np.where(values > values.max() / 2, 255, 0).astype(np.uint8))


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


def cut_square(photo: Image.Image, square: Sequence[float], size: int) -> Tensor:
    """Cut a square out of a photo, white beyond its edges.

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
    return from_pillow(crop_image(photo, square, size, WHITE))


def _square(box: tuple[float, float, float, float], padding: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = square_box(torch.tensor(box, dtype=torch.float64), padding).tolist()
    return left, top, right, bottom


def _read(source: str | PathLike[str] | Image.Image, what: str) -> Image.Image:
    """Decode a file, upright; whatever goes wrong inside a decoder becomes one line."""
    if isinstance(source, Image.Image):
        return _upright(source, source)
    path = Path(source)
    if path.exists() and not path.is_file():  # reading a pipe or a device may never end
        raise ValueError(f"A {what} needs to be a file; {path} is a folder, a pipe or a device. Name a file.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about odd metadata and about large pictures that do fit
        try:
            with Image.open(path) as picture:
                picture.load()
                return _upright(picture, path)
        except (FileNotFoundError, PermissionError):
            raise
        except (Image.DecompressionBombError, MemoryError) as error:
            raise ValueError(f"{path} is too large ({one_line(error)}). Scale it down first.") from error
        except DECODING_ERRORS as error:
            raise ValueError(
                f"{path} is no {what} that can be read ({one_line(error)}). Convert it to JPEG or PNG, or fetch it "
                "again."
            ) from error


def _name(source: Picture) -> str:
    return str(source) if isinstance(source, str | PathLike) else "this one"


def _upright(picture: Image.Image, source: Picture) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except DECODING_ERRORS:
        logger.warning("The EXIF data of %s cannot be read; it is taken as it is stored.", _name(source))
        return picture.copy()


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode[0] in "IF":
        return Image.fromarray(_eight_bits(np.asarray(picture))).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, WHITE)
    return Image.alpha_composite(white, picture).convert("RGB")


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale deep gray values: integers above 255 have 16 bits, floats up to 1 are shares of white."""
    floating = values.dtype.kind == "f"
    values = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
    highest = values.max()
    white = 1.0 if floating and highest <= 1 else 255.0 if highest <= 255 else 65535.0
    return (values * (255 / white)).clip(0, 255).round().astype(np.uint8)


def _brightness(picture: Image.Image) -> NDArray[Any]:
    """Return the brightest color of each pixel, ``(H, W)``; of a palette all colors but black are alike."""
    if picture.mode[0] in "IF" or picture.mode in ("1", "L"):
        return np.nan_to_num(np.asarray(picture).astype(np.float64))
    colors = np.asarray(picture.convert("RGBA")).astype(np.float64)
    brightness = colors[..., :3].max(-1) * (colors[..., 3] / 255)
    if picture.mode in ("P", "PA"):
        brightness = (brightness > 0).astype(np.float64)
    return brightness  # type: ignore[no-any-return]
