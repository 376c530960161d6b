"""Images and masks of a folder: which there are, reading them, and checking that they fit each other."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from kpose._files import existing, read_json, write_text
from kpose._messages import counted, one_line
from kpose.data.coco import CocoObject, read_coco
from kpose.data.coco_photos import CocoPhotos

__all__ = ["SPLITS", "SUFFIXES", "FolderEntry", "check_entries", "list_coco", "list_masked", "read_mask"]

SPLITS = ("train", "val", "test")
SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_EXIF_ORIENTATION = 0x0112
_MAX_THREADS = 8
_FORMAT = 2  # raised when a check finds more: results that were kept are then not found

Box = tuple[int, int, int, int]


def read_mask(path: Path) -> Image.Image:
    """Read a mask of any usual kind: black and white, 0 and 1, 0 and 255, colored, or an alpha channel.

    The result is 255 where the file is brighter than half of its brightest value (or, in a file with transparency,
    more opaque), else 0; whatever Pillow's readers raise passes through.
    """
    with Image.open(path) as picture:
        if picture.mode in ("RGBA", "LA", "PA"):
            alpha = picture.getchannel("A")
            if alpha.getextrema() != (255, 255):
                return _bright(np.asarray(alpha))
        if picture.mode in ("1", "L", "F") or picture.mode.startswith("I"):
            return _bright(np.asarray(picture))
        return _bright(np.asarray(picture.convert("RGB")).max(-1))


def _bright(values: npt.NDArray[Any]) -> Image.Image:
    top = values.max(initial=0)
    return Image.fromarray(np.where(values > top / 2, 255, 0).astype(np.uint8))


@dataclass(frozen=True)
class FolderEntry:
    """An image before it is checked."""

    name: str
    """Path without ending."""
    file: Path
    """The image."""
    mask: Path | CocoObject | None
    """Its mask, if it has one."""
    split: str = ""
    """Split that the COCO file stands for."""

    def stamp(self) -> tuple[str | int, ...]:
        """Return what would have changed if the image or its mask had: names, times and sizes of the files."""
        if isinstance(self.mask, CocoObject):
            drawn = hashlib.sha256(json.dumps([self.mask.segmentation, self.mask.size]).encode()).hexdigest()[:16]
            return (*_file_stamp(self.file), drawn)
        return (*_file_stamp(self.file), *(_file_stamp(self.mask) if self.mask else ()))

    def open(self) -> tuple[Image.Image, Image.Image]:
        """Read the photo and its mask, 0 or 255; whatever Pillow's readers raise passes through.

        The photo is turned upright as its EXIF orientation says if the mask is a file: COCO's annotations refer to
        the stored pixels.
        """
        with Image.open(self.file) as picture:
            picture.load()
            photo = ImageOps.exif_transpose(picture) if isinstance(self.mask, Path) else picture.copy()
        mask = self._open_mask()
        if photo.size != mask.size:
            raise ValueError(f"its mask is {_by(mask.size)}, the image {_by(photo.size)} pixels")
        return photo, mask

    def _open_mask(self) -> Image.Image:
        if self.mask is None:
            raise ValueError("it has no mask")
        if isinstance(self.mask, CocoObject):
            return Image.fromarray(self.mask.mask().numpy().astype(np.uint8) * 255)
        return read_mask(self.mask)

    def check(self) -> tuple[Box | None, str]:
        """Check the photo and its mask; return the mask's box and an empty text, or ``None`` and what is wrong."""
        try:
            with Image.open(self.file) as picture:
                size = picture.size
                if isinstance(self.mask, Path) and picture.getexif().get(_EXIF_ORIENTATION, 1) > 4:
                    size = size[::-1]
                picture.draft(picture.mode, (1, 1))  # the whole file is read, and few pixels are made of it
                picture.load()
        except Exception as error:  # Pillow's readers raise whatever their parsers do
            return None, f"it cannot be read ({one_line(error)})"
        if self.mask is None:
            return None, "it has no mask"
        try:
            mask = self._open_mask()
        except Exception as error:
            return None, f"its mask cannot be read ({one_line(error)})"
        if mask.size != size:
            return None, f"its mask is {_by(mask.size)}, the image {_by(size)} pixels"
        box = mask.getbbox()
        return (None, "its mask is empty") if box is None else (box, "")


def list_masked(root: Path) -> tuple[list[FolderEntry], list[str]]:
    """List the images of a folder with masks of the same name, and a line for each that is left out."""
    for name in ("images", "masks"):
        advice = "Put images under images/ and their masks, with the same names, under masks/, or give a COCO file."
        existing(root / name, "read_folder", advice)
    masks: dict[str, Path] = {}
    for path in _pictures(root / "masks"):
        masks.setdefault(_stem(path, root / "masks"), path)
    entries: dict[str, FolderEntry] = {}
    faults = []
    for path in _pictures(root / "images"):
        name = _stem(path, root / "images")
        if name in entries:
            faults.append(f"{path}: it has the name of {entries[name].file.name}, which is used")
            continue
        entries[name] = FolderEntry(name, path, masks.get(name))
    return list(entries.values()), faults


def list_coco(
    root: Path, annotations: Path | Mapping[str, Path], category: str | None
) -> tuple[list[FolderEntry], list[str]]:
    """List the objects of a COCO file, or of one for each split, and a line for each that is left out."""
    files = annotations if isinstance(annotations, Mapping) else {"": annotations}
    if unknown := sorted(files.keys() - {*SPLITS, ""}):
        raise ValueError(f"read_folder needs COCO files for {SPLITS}; got {unknown}. Rename the splits.")
    entries: dict[str, FolderEntry] = {}
    faults: list[str] = []
    for split, path in files.items():
        objects, wrong = read_coco(Path(path), category)
        photos = CocoPhotos(root, Path(path), [found.file_name for found in objects], split)
        missing = []
        for found in objects:
            paths = photos.find(found.file_name)
            name = photos.name(paths[0]) + found.identity if paths else ""
            if not paths:
                missing.append(found.file_name)
            elif len(paths) > 1:
                wrong.append(f"{path}: {found.file_name} may be {' or '.join(map(str, paths))}; it is left out")
            elif name in entries:
                wrong.append(f"{paths[0]}: a second object has the name {name}")
            else:
                entries[name] = FolderEntry(name, paths[0], found, split)
        if missing:
            lost = f"{counted(len(missing), 'object')} left out: there are no photos of these names below {root}"
            wrong.append(f"{path}: {lost} or beside the file; the first is {missing[0]}")
        faults += wrong
    return list(entries.values()), faults


def _pictures(folder: Path) -> list[Path]:
    paths = (Path(base) / name for base, _, names in os.walk(folder, followlinks=True) for name in names)
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))


def _stem(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def check_entries(entries: Sequence[FolderEntry], store: Path | None = None) -> list[tuple[Box | None, str]]:
    """Check images and masks as `FolderEntry.check` does, several at a time.

    Those that this process has checked are not read again, nor, with a folder ``store``, those of earlier ones.
    """
    stamps = [json.dumps(entry.stamp()) for entry in entries]
    path = None
    here = str(Path.cwd())  # paths may be relative
    known = {stamp: _checked[here, stamp] for stamp in stamps if (here, stamp) in _checked}
    if store is not None:
        place = json.dumps([_FORMAT, *sorted(str(entry.file.resolve()) for entry in entries)])
        path = Path(store) / f"checks-{hashlib.sha256(place.encode()).hexdigest()[:16]}.json"
        known |= _read_checks(path)
    fresh = [(stamp, entry) for stamp, entry in zip(stamps, entries, strict=True) if stamp not in known]
    if fresh:
        with ThreadPool(min(_MAX_THREADS, len(fresh))) as pool:
            results = pool.map(lambda pair: pair[1].check(), fresh)
        known |= {stamp: result for (stamp, _), result in zip(fresh, results, strict=True)}
    if path is not None and (fresh or not path.exists()):
        write_text(path, json.dumps({stamp: known[stamp] for stamp in stamps}))
    _checked.update({(here, stamp): known[stamp] for stamp in stamps})
    return [known[stamp] for stamp in stamps]


_checked: dict[tuple[str, str], tuple[Box | None, str]] = {}  # by this process; files are told apart by stamps


def _read_checks(path: Path) -> dict[str, tuple[Box | None, str]]:
    try:
        content = read_json(path)
        return {stamp: (None if box is None else (*box,), fault) for stamp, (box, fault) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # nothing there, or damaged: all is checked again


def _file_stamp(path: Path) -> tuple[str, int, int]:
    try:
        state = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), state.st_mtime_ns, state.st_size


def _by(size: tuple[int, ...]) -> str:
    return f"{size[0]} × {size[1]}"
