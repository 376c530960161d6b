"""Picture files: which of them a folder holds, and what is in one: a photo, a mask, or the identities of objects.

Whatever reads a picture reads it here, so that training, prediction and video see the same pixels.
"""

import logging
import re
import struct
import warnings
from collections import Counter
from collections.abc import Callable, Collection
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from kpose._files import walk_files
from kpose._messages import one_line

__all__ = [
    "DECODING_ERRORS",
    "gray_identities",
    "list_pictures",
    "picture_endings",
    "read_identities",
    "read_mask",
    "read_photo",
]

_log = logging.getLogger(__name__)

Source = str | PathLike[str] | Image.Image
Result = TypeVar("Result")

WHITE = (255, 255, 255)
# Pillow reads others too: documents, icons and what it runs Ghostscript for. They can be named, one by one.
FORMATS = {
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "JXL", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP",
}  # fmt: skip
LOSSY = {"AVIF", "HEIF", "JPEG", "JPEG2000", "JXL", "MPO", "WEBP"}
MAX_COLORS, MAX_SHADES = 255, 2**16  # of a mask without and with its edges; a photo has more
# What Pillow's decoders raise on bytes that are not what they say.
DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, RuntimeError, struct.error)


def picture_endings() -> frozenset[str]:
    """Return the endings of the pictures that Pillow reads here, in lower case and with their dots.

    Plug-ins that are registered, such as pillow-heif's, count.

    Example:
        >>> {".jpg", ".png", ".tif"} <= picture_endings(), ".txt" in picture_endings()
        (True, False)
    """
    found = Image.registered_extensions()
    return frozenset(ending for ending, form in found.items() if form in FORMATS)


def list_pictures(
    folder: Path, *, deep: bool = False, without: Collection[str] = ()
) -> tuple[list[Path], list[str]]:
    """List the pictures of a folder, ``frame2`` before ``frame10``, and a line on what is passed over.

    Args:
        folder: Folder.
        deep: Whether folders in it are searched as well; links are followed.
        without: Names of files that are no matter of the caller, such as its own results. Hidden ones never are.

    Returns:
        Files by ending (see `picture_endings`); and lines on files with other endings, and on folders in it that
        cannot be read.

    Raises:
        OSError: If the folder itself cannot be read.
    """
    faults: list[str] = []
    paths: list[Path] = []
    if deep:

        def fail(error: OSError) -> None:
            if error.filename == str(folder):
                raise error
            faults.append(one_line(error))

        paths += walk_files(folder, onerror=fail)
    else:
        paths = [path for path in folder.iterdir() if not path.is_dir()]
    paths = [path for path in paths if not path.name.startswith(".") and path.name not in without]
    endings = picture_endings()
    others = Counter(path.suffix.lower() for path in paths if path.suffix.lower() not in endings)
    if others:
        kinds = ", ".join(f"{count} {ending or 'without ending'}" for ending, count in sorted(others.items()))
        faults.append(f"{folder}: passed over what has no ending of a picture that Pillow reads here: {kinds}.")
    return sorted((path for path in paths if path.suffix.lower() in endings), key=_natural), faults


def _natural(path: Path) -> tuple[list[tuple[bool, int, str]], str]:
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts], str(path)


def read_photo(source: Source, *, upright: bool = True) -> Image.Image:
    """Read a photo as it is meant to be seen: upright, in RGB, on white where it is transparent.

    Gray, palette, CMYK, 16-bit and float pictures are converted; of an animation the first frame is taken.

    Args:
        source: File, whose content counts and not its name, or Pillow's picture.
        upright: Whether it is turned as a camera notes in EXIF; an orientation that does not exist is ignored.

    Returns:
        Picture of mode ``RGB``.

    Raises:
        OSError: If there is no such file, or it may not be read.
        ValueError: If the file is empty, damaged, cut short, no picture, or larger than 178 million pixels, in one
            line that names it.

    Example:
        >>> read_photo(Image.new("LA", (20, 10), (0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    return _decode(source, "photo", _to_rgb, upright)


def read_mask(source: Source, *, upright: bool = True) -> Image.Image:
    """Read a mask: the pixels of any object; see `read_identities`.

    Returns:
        Picture of mode ``L``, 255 where an object is and 0 elsewhere.

    Example:
        >>> read_mask(Image.new("1", (4, 3), 1)).getextrema()
        (255, 255)
    """
    return Image.fromarray((read_identities(source, upright=upright) > 0).astype(np.uint8) * 255)


def read_identities(source: Source, *, upright: bool = True) -> NDArray[np.int32]:
    """Read which object each pixel of a mask belongs to.

    - Transparency: what is more than half opaque is one object, 1.
    - Gray: one object, 1, where it is brighter than half of the brightest value; identities if no value reaches a
      quarter of white, or it has 16 bits and no white; white beside identities that cover more is void.
    - Palettes: indices are identities, 255 is void. Where only grays are used, white among them, or the palette has
      no others, it is gray; one with black behind its first entry is colors.
    - Colors: an identity for each, its place in DAVIS' palette, which goes on to 24 bits; black is background.
      Those of smoothed edges become the nearest of the others.
    - Formats that lose colors, such as JPEG: one object, 1, where the brightest color is above half.

    Args:
        source: File or Pillow's picture.
        upright: Whether EXIF turns it, as it turns the photo.

    Returns:
        Identities ``(H, W)``, 0 for the background, which void counts as.

    Raises:
        OSError: If there is no such file, or it may not be read.
        ValueError: As `read_photo`, and if a mask has too many colors to be one.

    Example:
        >>> picture = Image.new("RGB", (4, 3))
        >>> picture.paste((0, 128, 0), (0, 0, 2, 3))
        >>> read_identities(picture)[0].tolist()
        [2, 2, 0, 0]
    """
    return _decode(source, "mask", _identities, upright)


def _decode(source: Source, what: str, convert: Callable[[Image.Image, bool], Result], upright: bool) -> Result:
    """Decode and convert a file; whatever goes wrong inside a decoder becomes one line."""
    if isinstance(source, Image.Image):
        return convert(_upright(source, "A picture") if upright else source, source.format in LOSSY)
    path = Path(source)
    if path.exists() and not path.is_file():  # reading a pipe or a device may never end
        raise ValueError(f"A {what} needs to be a file; {path} is a folder, a pipe or a device. Name a file.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about odd metadata and about large pictures that do fit
        try:
            with Image.open(path) as picture:
                picture.load()
                return convert(_upright(picture, str(path)) if upright else picture, picture.format in LOSSY)
        except (FileNotFoundError, PermissionError):
            raise
        except (Image.DecompressionBombError, MemoryError) as error:
            raise ValueError(f"{path} is too large ({one_line(error)}). Scale it down first.") from error
        except DECODING_ERRORS as error:
            advice = f"Convert it to {'PNG' if what == 'mask' else 'JPEG or PNG'}, or fetch it again."
            raise ValueError(f"{path} is no {what} that can be read ({one_line(error)}). {advice}") from error


def _upright(picture: Image.Image, name: str) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except DECODING_ERRORS:
        _log.warning("The EXIF data of %s cannot be read; it is taken as it is stored.", name)
        return picture.copy()


def _to_rgb(picture: Image.Image, _: bool) -> Image.Image:
    if picture.mode[0] in "IF":
        values = np.asarray(picture)
        gray = _eight_bits(values)
        gray[values == picture.info.get("transparency", np.nan)] = 255
        return Image.fromarray(gray).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, WHITE)
    return Image.alpha_composite(white, picture).convert("RGB")


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale deep gray values: integers above 255 have 16 bits, floats up to 1 are shares of white."""
    floating = values.dtype.kind == "f"
    values = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
    highest = values.max(initial=0)
    # Resampling overshoots by some percent.
    white = 1.0 if floating and highest <= 1.5 else 255.0 if highest <= 255 else 65535.0
    return (values * (255 / white)).clip(0, 255).round().astype(np.uint8)


def _identities(picture: Image.Image, lossy: bool) -> NDArray[np.int32]:
    if "A" in picture.getbands():
        alpha = np.asarray(picture.getchannel("A"))
        if alpha.min(initial=255) < 255:
            return _brightest(alpha)
    if picture.mode in ("P", "PA"):
        return _palette_identities(picture)
    if picture.mode[0] in "IF":
        return gray_identities(np.asarray(picture))
    if picture.mode in ("1", "L", "LA"):
        values = np.asarray(picture.convert("L"))
        return _brightest(values) if lossy else gray_identities(values)
    colors = np.asarray(picture.convert("RGB"))
    if lossy or picture.mode not in ("RGB", "RGBA"):
        return _brightest(colors.max(-1))
    return _color_identities(colors)


def _brightest(values: NDArray[Any]) -> NDArray[np.int32]:
    found: NDArray[np.int32] = (values > values.max(initial=0) / 2).astype(np.int32)
    return found


def gray_identities(values: NDArray[Any]) -> NDArray[np.int32]:
    """Return the identities of gray values ``(H, W)``; see `read_identities`.

    Example:
        >>> gray_identities(np.array([0, 1, 2, 255], dtype=np.uint8)).tolist()
        [0, 1, 2, 0]
        >>> gray_identities(np.array([0, 90, 200, 255], dtype=np.uint8)).tolist()
        [0, 0, 1, 1]
    """
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, posinf=0, neginf=0)
        if values.max(initial=0) <= 1 or (values % 1).any():
            return _brightest(values)
    deep = values.itemsize > 1
    values = (values.clip(0, 2**30) if values.itemsize > 2 else values).astype(np.int32)
    top = int(values.max(initial=0))
    if top == 255 or 65280 <= top <= 65535:  # some programs make white of 16 bits by multiplying by 256
        areas = np.bincount(values.ravel())
        others = areas[1:top]
        if others.sum() > areas[top] and not others[top // 4 :].any():
            return np.where(values == top, 0, values)
        return _brightest(values)
    return values if deep or top < 64 else _brightest(values)


def _palette_identities(picture: Image.Image) -> NDArray[np.int32]:
    indices = np.asarray(picture.getchannel("P"))
    if picture.has_transparency_data:
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
        if indices[alpha < 128].any():  # not only the background of identities
            return _brightest(alpha)
    palette = np.array(picture.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    used = np.unique(indices)
    if used.max(initial=0) < len(palette):
        colors = palette[used]
        # A soft mask has white, which is void in a palette of identities, if it is there at all.
        soft = _is_gray(colors) and (colors[used < 255] == 255).all(-1).any()
        if soft or (_is_gray(palette) and palette.any()) or (palette[0].any() and not colors.any(-1).all()):
            return _color_identities(palette[indices])
    return np.where(indices == 255, 0, indices).astype(np.int32)


def _is_gray(colors: NDArray[np.uint8]) -> bool:
    return bool((colors == colors[..., :1]).all())


def _color_identities(colors: NDArray[np.uint8]) -> NDArray[np.int32]:
    if _is_gray(colors):
        return gray_identities(colors[..., 0])
    red, green, blue = (colors[..., channel].astype(np.int32) for channel in range(3))
    packed = red << 16 | green << 8 | blue
    found, areas = _count_colors(colors)
    same = packed[1:] == packed[:-1]
    block = same[:, 1:] & same[:, :-1] & (packed[1:, 1:] == packed[1:, :-1])
    # The colors of smoothed edges fill no square, however small, but for tails that are nearly those of an area.
    kept = np.isin(found, np.unique(packed[1:, 1:][block])) if block.any() else np.ones(len(found), dtype=bool)
    nearest = 32 if 2 * kept.sum() < len(found) else 0
    parts = found[:, None] >> np.array([16, 8, 0]) & 255
    distance, numbers = np.full(len(found), 256), np.zeros(len(found), dtype=np.int32)
    count = 0
    for place in sorted(np.flatnonzero(kept), key=lambda place: -areas[place]):
        if distance[place] > nearest:
            away = np.abs(parts - parts[place]).max(-1)
            numbers[away < distance] = _palette_number(parts[place])
            distance = np.minimum(distance, away)
            count += 1
        if count > MAX_COLORS:
            raise ValueError(f"a mask needs a color for each object; this has more than {MAX_COLORS}")
    return numbers[np.searchsorted(found, packed)]


def _count_colors(colors: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the colors, 24 bits each and sorted, and the number of their pixels."""
    counted: Any = Image.fromarray(np.ascontiguousarray(colors)).getcolors(MAX_SHADES)
    if counted is None:
        raise ValueError(f"a mask needs a color for each object; this has more than {MAX_SHADES}")
    pairs = sorted((red << 16 | green << 8 | blue, count) for count, (red, green, blue) in counted)
    found, areas = np.array(pairs, dtype=np.int64).T
    return found, areas


def _palette_number(color: NDArray[Any]) -> int:
    """Return the place of a color in DAVIS' palette, Pascal VOC's, whose rule gives every color of 24 bits one."""
    bits = (color >> np.arange(7, -1, -1)[:, None]) & 1
    return int((bits.ravel() << np.arange(24)).sum())
