"""COCO's json files: which objects they annotate, and their segmentations as masks."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from pycocotools import mask as mask_api
from torch import Tensor

from kpose._files import existing, read_json
from kpose._messages import counted

__all__ = ["CocoObject", "decode_segmentation", "read_coco"]

_MAX_PIXELS = 178_956_970  # where Pillow, too, takes a file for an attack on the memory
_MAX_OUTLINE = 1_000_000  # of a polygon, in pixels
_COMPRESSED = re.compile(rb"([P-o]{0,5}[0-O])+")  # run lengths in groups of five bits; lower letters go on

Note = Mapping[str, Any]


@dataclass(frozen=True)
class CocoObject:
    """One annotated object of a COCO file."""

    file_name: str
    """Path of the image as the file says it, with forward slashes."""
    identity: str
    """``#`` and the annotation's id if the image has several objects, else empty."""
    segmentation: Any
    """Polygons or run lengths."""
    size: tuple[int, int]
    """Height and width of the image."""

    def mask(self) -> Bool[Tensor, "h w"]:
        """Decode the segmentation; see `decode_segmentation`."""
        return decode_segmentation(self.segmentation, self.size)


def read_coco(path: Path, category: str | None = None) -> tuple[list[CocoObject], list[str]]:
    """List the objects of a COCO file that have a segmentation.

    Tools mark the run lengths of single objects as those of crowds (``iscrowd``), CVAT all of them. They are taken
    for objects where they have CVAT's ``attributes``, or where no object of the file is marked as none; else they
    are crowds, and left out.

    Args:
        path: File.
        category: What the objects are. It need not be given if all annotations have the same one.

    Returns:
        Objects, and a line for each annotation that is damaged, or for each reason that leaves some out, with
        their number.

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
        found, faults = _objects(content, path, category)
    except (LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"read_coco needs images, annotations and categories in COCO's form; got {path} with the fault "
            f"{type(error).__name__} {error}. Export it again."
        ) from error
    return found, [f"{path}: {fault}" for fault in faults]


def _objects(content: Any, path: Path, category: str | None) -> tuple[list[CocoObject], list[str]]:  # noqa: ANN401
    images = {_key(image["id"]): image for image in content["images"]}
    known = {_key(entry["id"]): entry["name"] for entry in content.get("categories", ())}
    notes = content["annotations"]
    chosen, faults = _choose(notes, known, _category(path, known, notes, category))
    doubled = {key for key, count in Counter(_key(image["id"]) for image in content["images"]).items() if count > 1}
    counts = Counter(_key(note.get("image_id")) for note in chosen)
    found = []
    for note in chosen:
        number = _key(note.get("image_id"))
        what = f"annotation {note.get('id')!r} of image {note.get('image_id')!r}"
        if number not in images or number in doubled:
            owner = "two images have" if number in doubled else "no image has"
            faults.append(f"{what} is left out: {owner} that id")
            continue
        try:
            identity = f"#{note['id']}" if counts[number] > 1 else ""
            image = images[number]
            found.append(CocoObject(_file_name(image), identity, note["segmentation"], _size(image)))
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            faults.append(f"{what} is not in COCO's form ({type(error).__name__} {error})")
    if strays := sum(_is_stray(polygon) for thing in found for polygon in _polygons(thing.segmentation)):
        faults.append(f"{counted(strays, 'polygon')} of fewer than three points, or with half a point, passed over")
    if bare := len(images.keys() - {_key(note.get("image_id")) for note in notes}):
        faults.append(f"{counted(bare, 'image')} without annotation")
    return found, faults


def _choose(notes: Sequence[Note], known: Mapping[str, str], wanted: str | None) -> tuple[list[Note], list[str]]:
    """Return the annotations of objects, and how many are left out for which reason."""
    left_out = Counter[str]()
    chosen, crowds = [], []
    for note in notes:
        key = _key(note.get("category_id"))
        if known and key not in known:
            left_out[f"the categories do not list their category_id, {note.get('category_id')!r}"] += 1
        elif known.get(key) != wanted:
            continue  # asked for
        elif not note.get("segmentation"):
            left_out["they have no segmentation, which a box does not replace"] += 1
        elif note.get("iscrowd") and "attributes" not in note:
            crowds.append(note)
        else:
            chosen.append(note)
    if not chosen:
        chosen = [note for note in crowds if isinstance(note["segmentation"], Mapping)]
        crowds = [note for note in crowds if not isinstance(note["segmentation"], Mapping)]
    left_out["they are marked as crowds (iscrowd 1), and others are not"] += len(crowds)
    faults = [f"{counted(count, 'annotation')} left out: {why}" for why, count in left_out.items() if count]
    return chosen, faults


def _key(number: Any) -> str:  # noqa: ANN401 - an id, which some tools write as text
    return str(int(number)) if isinstance(number, float) and number.is_integer() else str(number)


def _file_name(image: Mapping[str, Any]) -> str:
    name = image["file_name"]
    if not isinstance(name, str) or not name.isprintable() or not name:
        raise TypeError("in the file name of an image")
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def _size(image: Mapping[str, Any]) -> tuple[int, int]:
    height, width = image["height"], image["width"]
    numbers = isinstance(height, int | float) and isinstance(width, int | float)
    if not (numbers and height > 0 < width and height * width <= _MAX_PIXELS and height % 1 == width % 1 == 0):
        raise TypeError("in the size of an image")
    return int(height), int(width)


def _category(path: Path, known: Mapping[str, str], notes: Sequence[Note], category: str | None) -> str | None:
    names = sorted(set(known.values()))
    if category is not None:
        if category not in names:
            raise ValueError(f"read_coco needs a category of {path}; got {category!r}, it has {names}. Name one.")
        return category
    # Roboflow lists a group beside the categories, which no annotation is of.
    used = sorted({known[key] for note in notes if (key := _key(note.get("category_id"))) in known}) or names
    if len(used) > 1:
        raise ValueError(f"read_coco needs the category of the objects; {path} has {used}. Name one.")
    return used[0] if used else None


def decode_segmentation(segmentation: Any, size: tuple[int, int]) -> Bool[Tensor, "h w"]:  # noqa: ANN401
    """Decode polygons, of which the union counts, or run lengths as a list or compressed, with pycocotools.

    Polygons of fewer than three points, or with half a point, are passed over if there are others.

    Raises:
        ValueError: If the segmentation is not in one of these forms, or run lengths are of another size.
    """
    if isinstance(segmentation, Mapping):
        run_lengths = _run_lengths(segmentation, *size)
    else:
        polygons = [_outline(polygon) for polygon in _polygons(segmentation) if not _is_stray(polygon)]
        if not polygons:
            raise ValueError("COCO segmentations need run lengths, or a polygon of three points or more.")
        run_lengths = mask_api.merge(mask_api.frPyObjects(polygons, *size))
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


def _polygons(segmentation: Any) -> Sequence[Any]:  # noqa: ANN401
    """Return the polygons of a segmentation; VIA writes a single one without a list around it."""
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str):
        return []
    return [segmentation] if segmentation and isinstance(segmentation[0], int | float) else segmentation


def _is_stray(polygon: Any) -> bool:  # noqa: ANN401
    """Return whether a polygon has no area, as single clicks leave them."""
    return isinstance(polygon, Sequence) and (len(polygon) < 6 or len(polygon) % 2 == 1)


def _outline(polygon: Any) -> list[float]:  # noqa: ANN401
    try:
        points = np.asarray(polygon, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.ndim != 1 or not len(points) or not np.isfinite(points).all():
        raise ValueError("COCO polygons need x and y of points as numbers; got others. Correct them.")
    corners = points.reshape(-1, 2)
    outline = np.abs(corners - np.roll(corners, 1, 0)).max(1).sum()
    # pycocotools walks along the outline in steps of a fifth of a pixel, and keeps all of them in memory.
    if max(outline, np.abs(points).max()) > _MAX_OUTLINE:
        raise ValueError(f"COCO polygons need an outline of at most {_MAX_OUTLINE} pixels. Correct them.")
    return list(points)
