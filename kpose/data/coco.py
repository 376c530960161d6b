"""COCO's json files: which objects they annotate, and their segmentations as masks, without pycocotools."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool
from torch import Tensor

from kpose.files import read_json

__all__ = ["CocoObject", "decode_counts", "decode_segmentation", "read_coco"]

MOST_PIXELS = 178_956_970  # where Pillow, too, takes a file for an attack on the memory
MOST_GROUPS = 12  # of five bits, in one run length


@dataclass(frozen=True)
class CocoObject:
    """One annotated object of a COCO file."""

    name: str
    """Path of the image without its ending; followed by ``#`` and the annotation's id if the image has several."""
    file_name: str
    """Path of the image as the file says it."""
    segmentation: Any
    """Polygons or run lengths."""
    size: tuple[int, int]
    """Height and width of the image."""

    def mask(self) -> Bool[Tensor, "h w"]:
        """Decode the segmentation.

        Returns:
            The mask.

        Raises:
            ValueError: If the segmentation is not in COCO's form.
        """
        return decode_segmentation(self.segmentation, self.size)


def read_coco(path: Path, category: str | None = None, *, faults: list[str] | None = None) -> list[CocoObject]:
    """List the objects of a COCO file.

    Args:
        path: File with ``images``, ``annotations`` and ``categories``.
        category: Name of the objects' category; not needed if the file has one category only.
        faults: Takes a line for each object whose own entries are wrong, and it is left out; when None, the whole
            file is refused for it.

    Returns:
        Objects with a segmentation, crowds left out, in the order of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not in COCO's form, or the category is not clear.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"read_coco needs {path}; there is no such file. Correct the path.")
    try:
        return _objects(_read_json(path), path, category, faults)
    except (LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"read_coco needs images, annotations and categories in COCO's form; got {path} with the fault "
            f"{type(error).__name__} {error}. Export it again."
        ) from error


def _read_json(path: Path) -> Any:  # noqa: ANN401
    try:
        return read_json(path)
    except ValueError as error:
        raise ValueError(
            f"read_coco needs json in COCO's form; got {path} with the fault {error}. Export it again."
        ) from error


def _objects(
    content: Any,  # noqa: ANN401
    path: Path,
    category: str | None,
    faults: list[str] | None,
) -> list[CocoObject]:
    images = {image["id"]: image for image in content["images"]}
    known = {entry["id"]: entry["name"] for entry in content.get("categories", ())}
    wanted = _category(path, known, category)
    chosen = [
        note
        for note in content["annotations"]
        if note.get("segmentation") and not note.get("iscrowd") and known.get(note.get("category_id")) == wanted
    ]
    counts: dict[Any, int] = {}
    for note in chosen:
        counts[note.get("image_id")] = counts.get(note.get("image_id"), 0) + 1
    several = {number for number, count in counts.items() if count > 1}
    found = (_object(note, images, several, path, faults) for note in chosen)
    return [thing for thing in found if thing is not None]


def _object(
    note: Mapping[str, Any],
    images: Mapping[Any, Any],
    several: Collection[Any],
    path: Path,
    faults: list[str] | None,
) -> CocoObject | None:
    """Describe an object; one with a fault is listed and gives None, or raises if there is no list."""
    try:
        image = images[note["image_id"]]
        stem = Path(_file_name(image)).with_suffix("").as_posix()
        name = f"{stem}#{note['id']}" if note["image_id"] in several else stem
        return CocoObject(name, image["file_name"], note["segmentation"], _size(image))
    except (LookupError, TypeError, AttributeError, OverflowError) as error:
        if faults is None:
            raise
        what = f"{path}: annotation {note.get('id')} of image {note.get('image_id')}"
        faults.append(f"{what} is not in COCO's form ({type(error).__name__} {error})")
        return None


def _file_name(image: Mapping[str, Any]) -> str:
    name = image["file_name"]
    if not isinstance(name, str) or not name.isprintable():
        raise TypeError("in the file name of an image")
    return name


def _size(image: Mapping[str, Any]) -> tuple[int, int]:
    height, width = image["height"], image["width"]
    numbers = isinstance(height, int | float) and isinstance(width, int | float)
    if not (numbers and height > 0 < width and height * width <= MOST_PIXELS and height % 1 == width % 1 == 0):
        raise TypeError("in the size of an image")
    return int(height), int(width)


def _category(path: Path, known: Mapping[Any, str], category: str | None) -> str | None:
    names = sorted(set(known.values()))
    if category is None and len(names) > 1:
        raise ValueError(f"read_coco needs the category of the objects; {path} has {names}. Name one.")
    if category is not None and category not in names:
        raise ValueError(f"read_coco needs a category of {path}; got {category!r}, it has {names}. Name one.")
    return names[0] if category is None and names else category


def decode_segmentation(segmentation: Any, size: tuple[int, int]) -> Bool[Tensor, "h w"]:  # noqa: ANN401
    """Draw a segmentation in COCO's form.

    Args:
        segmentation: Polygons, lists of ``x, y, x, y, ...`` in pixels with the origin at the corner of the first
            one, of which the union counts; or ``{"size": [h, w], "counts": ...}`` with run lengths as a list or in
            COCO's compressed text.
        size: Height and width of the mask.

    Returns:
        Mask: of polygons, the pixels whose centre is inside one.

    Raises:
        ValueError: If the segmentation is not in one of these forms, or run lengths are of another size.

    Example:
        >>> decode_segmentation([[1, 0, 3, 0, 3, 1, 1, 1]], (2, 4)).int().tolist()
        [[0, 1, 1, 0], [0, 0, 0, 0]]
        >>> decode_segmentation({"size": [2, 2], "counts": [1, 2, 1]}, (2, 2)).int().tolist()
        [[0, 1], [1, 0]]
    """
    height, width = size
    mask: npt.NDArray[np.bool_]
    if isinstance(segmentation, Mapping):
        own = segmentation.get("size")
        if not isinstance(own, Sequence) or tuple(own) != (height, width):
            raise ValueError(f"COCO run lengths need the image's size {(height, width)}; got {own}. Correct them.")
        counts = segmentation.get("counts")
        runs: Any = decode_counts(counts) if isinstance(counts, str | bytes) else counts
        whole = isinstance(runs, list) and all(type(run) is int and run >= 0 for run in runs)
        if not whole or sum(runs) != height * width:
            raise ValueError(
                f"COCO run lengths need to be whole numbers that add up to the {height * width} pixels of the "
                "image; they do not. Correct them."
            )
        values = np.arange(len(runs)) % 2 == 1
        mask = np.repeat(values, runs).reshape(width, height).T
    else:
        if not isinstance(segmentation, Sequence) or isinstance(segmentation, str):
            raise ValueError("COCO segmentations need polygons or run lengths; got neither. Correct them.")
        mask = np.zeros((height, width), dtype=bool)
        for polygon in segmentation:
            _draw(mask, polygon)
    return torch.from_numpy(np.ascontiguousarray(mask))


def decode_counts(counts: str | bytes) -> list[int]:
    """Read COCO's compressed run lengths.

    Each number is written in groups of five bits, lowest first, a character each (48 added, 32 more while groups
    follow), its sign being the highest bit of the last group; from the fourth on, a number is the difference to
    the one two before it.

    Args:
        counts: Text of the run lengths.

    Returns:
        Run lengths.

    Raises:
        ValueError: If the text ends within a number or has other characters.

    Example:
        >>> decode_counts("1d02")
        [1, 20, 2]
    """
    text = counts.encode("ascii", "replace") if isinstance(counts, str) else counts
    runs: list[int] = []
    value = shift = 0
    for byte in text:
        group = byte - 48
        if not 0 <= group < 64:
            raise ValueError("COCO run lengths need characters from '0' to 'o'; got others. Correct them.")
        value |= (group & 31) << shift
        shift += 5
        if shift > 5 * MOST_GROUPS:
            raise ValueError(
                "COCO run lengths need numbers of the size of an image; got a longer one. Correct them."
            )
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("COCO run lengths need whole numbers; the text ends within one. Correct them.")
    return runs


def _draw(mask: npt.NDArray[np.bool_], polygon: Any) -> None:  # noqa: ANN401
    """Add a polygon to a mask."""
    try:
        points = np.asarray(polygon, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
        raise ValueError("COCO polygons need x and y of three points or more; got others. Correct them.")
    points = points.reshape(-1, 2)
    inside = np.zeros_like(mask)
    centres = np.arange(mask.shape[1]) + 0.5
    for (x, y), (next_x, next_y) in zip(points, np.roll(points, -1, 0), strict=True):
        # Rows whose middle the edge crosses; its upper end counts and its lower one does not.
        rows = np.arange(max(0, math.ceil(min(y, next_y) - 0.5)), min(len(mask), math.ceil(max(y, next_y) - 0.5)))
        if len(rows):
            crossings = x + (rows + 0.5 - y) * ((next_x - x) / (next_y - y))
            inside[rows] ^= centres >= crossings[:, None]
    mask |= inside
