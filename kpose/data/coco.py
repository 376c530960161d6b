"""COCO's json files: which objects they annotate, and their segmentations as masks."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from pycocotools import mask as mask_api
from torch import Tensor

from kpose._files import existing, read_json

__all__ = ["CocoObject", "decode_segmentation", "read_coco"]

_MAX_PIXELS = 178_956_970  # where Pillow, too, takes a file for an attack on the memory
_MAX_OUTLINE = 1_000_000  # of a polygon, in pixels
_COMPRESSED = re.compile(rb"([P-o]{0,5}[0-O])+")  # run lengths in groups of five bits; lower letters go on


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
        """Decode the segmentation; see `decode_segmentation`."""
        return decode_segmentation(self.segmentation, self.size)


def read_coco(path: Path, category: str | None = None) -> tuple[list[CocoObject], list[str]]:
    """List the objects of a COCO file that have a segmentation, crowds left out.

    The category need not be given if the file has one only. Of an object whose own entries are wrong there is a
    line in the second list instead.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not in COCO's form, or the category is not clear.
    """
    path = existing(path, "read_coco", "Correct the path.")
    try:
        content = read_json(path)
    except ValueError as error:
        raise ValueError(
            f"read_coco needs json in COCO's form; got {path} with the fault {error}. Export it again."
        ) from error
    try:
        return _objects(content, path, category)
    except (LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"read_coco needs images, annotations and categories in COCO's form; got {path} with the fault "
            f"{type(error).__name__} {error}. Export it again."
        ) from error


def _objects(content: Any, path: Path, category: str | None) -> tuple[list[CocoObject], list[str]]:  # noqa: ANN401
    images = {image["id"]: image for image in content["images"]}
    known = {entry["id"]: entry["name"] for entry in content.get("categories", ())}
    wanted = _category(path, known, category)
    chosen = [
        note
        for note in content["annotations"]
        if note.get("segmentation") and not note.get("iscrowd") and known.get(note.get("category_id")) == wanted
    ]
    counts = Counter(note.get("image_id") for note in chosen)
    found, faults = [], []
    for note in chosen:
        number = note.get("image_id")
        try:
            image = images[note["image_id"]]
            stem = Path(_file_name(image)).with_suffix("").as_posix()
            name = f"{stem}#{note['id']}" if counts[number] > 1 else stem
            found.append(CocoObject(name, image["file_name"], note["segmentation"], _size(image)))
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            what = f"{path}: annotation {note.get('id')!r} of image {number!r}"
            faults.append(f"{what} is not in COCO's form ({type(error).__name__} {error})")
    return found, faults


def _file_name(image: Mapping[str, Any]) -> str:
    name = image["file_name"]
    if not isinstance(name, str) or not name.isprintable():
        raise TypeError("in the file name of an image")
    return name


def _size(image: Mapping[str, Any]) -> tuple[int, int]:
    height, width = image["height"], image["width"]
    numbers = isinstance(height, int | float) and isinstance(width, int | float)
    if not (numbers and height > 0 < width and height * width <= _MAX_PIXELS and height % 1 == width % 1 == 0):
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
    """Decode polygons, of which the union counts, or run lengths as a list or compressed, with pycocotools.

    Raises:
        ValueError: If the segmentation is not in one of these forms, or run lengths are of another size.
    """
    if isinstance(segmentation, Mapping):
        run_lengths = _run_lengths(segmentation, *size)
    elif isinstance(segmentation, Sequence) and not isinstance(segmentation, str) and segmentation:
        polygons = [_polygon(polygon) for polygon in segmentation]
        run_lengths = mask_api.merge(mask_api.frPyObjects(polygons, *size))
    else:
        raise ValueError("COCO segmentations need polygons or run lengths; got neither. Correct them.")
    return torch.from_numpy(np.ascontiguousarray(mask_api.decode(run_lengths))) > 0


def _run_lengths(segmentation: Mapping[str, Any], height: int, width: int) -> dict[str, Any]:
    """Check run lengths before pycocotools reads them: its C code goes on behind the end of a damaged text."""
    own, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(own, Sequence) or tuple(own) != (height, width):
        raise ValueError(f"COCO run lengths need the image's size {(height, width)}; got {own}. Correct them.")
    if isinstance(counts, list) and all(type(run) is int and 0 <= run <= height * width for run in counts):
        counts = mask_api.frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"]
    text = counts.encode("utf-8", "surrogatepass") if isinstance(counts, str) else counts
    if not isinstance(text, bytes) or not _COMPRESSED.fullmatch(text):
        raise ValueError("COCO run lengths need to be whole numbers, as a list or compressed. Correct them.")
    if not _fills(text, height * width) or _fills(text, height * width - 1):
        raise ValueError(
            f"COCO run lengths need to add up to the {height * width} pixels of the image. Correct them."
        )
    return {"size": [height, width], "counts": text}


def _fills(text: bytes, pixels: int) -> bool:
    """Check that run lengths end within so many pixels; pycocotools refuses those that go on."""
    try:
        mask_api.decode({"size": [pixels, 1], "counts": text})
    except ValueError:
        return False
    return True


def _polygon(polygon: Any) -> list[float]:  # noqa: ANN401
    try:
        points = np.asarray(polygon, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
        raise ValueError("COCO polygons need x and y of three points or more; got others. Correct them.")
    corners = points.reshape(-1, 2)
    outline = np.abs(corners - np.roll(corners, 1, 0)).max(1).sum()
    # pycocotools walks along the outline in steps of a fifth of a pixel, and keeps all of them in memory.
    if max(outline, np.abs(points).max()) > _MAX_OUTLINE:
        raise ValueError(f"COCO polygons need an outline of at most {_MAX_OUTLINE} pixels. Correct them.")
    return list(points)
