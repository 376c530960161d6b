"""Images and masks of a folder: which there are, reading them, and checking that they fit each other."""

import hashlib
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
from PIL import Image

from kpose._files import existing, read_json, write_text
from kpose._messages import counted, one_line, warn_once
from kpose._pictures import DECODING_ERRORS, list_pictures, read_mask, read_photo
from kpose.data.coco import CocoObject, read_coco
from kpose.data.coco_photos import CocoPhotos

__all__ = ["SPLITS", "UNCLEAR", "FolderEntry", "check_entries", "list_coco", "list_masked"]

_log = logging.getLogger(__name__)

UNCLEAR = "its EXIF orientation turns it, and its size does not tell whether the object was drawn before or after"

SPLITS = ("train", "val", "test")
_MAX_THREADS = 8
_EXIF_ORIENTATION, _QUARTER_TURNS = 0x0112, range(5, 9)
_FORMAT = 5  # raised when a check finds more: results that were kept are then not found

Box = tuple[int, int, int, int]


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
    drawn_upright: bool = True
    """Whether the object was drawn on the upright photo, where width and height do not tell."""

    def stamp(self) -> tuple[str | int, ...]:
        """Return what would have changed if the image or its mask had: names, times and sizes of the files."""
        if isinstance(self.mask, CocoObject):
            drawn = hashlib.sha256(json.dumps([self.mask.segmentation, self.mask.size]).encode()).hexdigest()[:16]
            return (*_file_stamp(self.file), drawn, self.drawn_upright)
        return (*_file_stamp(self.file), *(_file_stamp(self.mask) if self.mask else ()), self.drawn_upright)

    def open(self) -> tuple[Image.Image, Image.Image]:
        """Read the photo, RGB, and its mask, 0 or 255.

        Each is turned upright as its EXIF orientation says, but for photos whose COCO file, or mask without an
        orientation of its own, has the width and height of the stored pixels: the object was drawn on these.

        Raises:
            ValueError: If one of them cannot be used; the text goes on where a line names the photo.
        """
        if self.mask is None:
            raise ValueError("it has no mask")
        try:
            tells_upright = self._tells_upright()
            photo = read_photo(self.file, upright=self.drawn_upright if tells_upright is None else tells_upright)
        except (OSError, ValueError) as error:
            raise ValueError(f"it cannot be read ({one_line(error.__cause__ or error)})") from error
        try:
            mask = self._open_mask(self.mask)
        except Exception as error:  # pycocotools raises whatever its parsers do
            raise ValueError(f"its mask cannot be read ({one_line(error.__cause__ or error)})") from error
        if photo.size != mask.size:
            raise ValueError(f"its mask is {_by(mask.size)}, the image {_by(photo.size)} pixels")
        return photo, mask

    def _tells_upright(self) -> bool | None:
        """Return whether the mask was drawn on the upright photo; None where it matters and nothing tells."""
        stored, orientation = _frame(self.file)
        if orientation == 1 or self.mask is None:
            return True
        drawn, own = (self.mask.size[::-1], 1) if isinstance(self.mask, CocoObject) else _frame(self.mask)
        if own != 1:
            return True
        if orientation in _QUARTER_TURNS and stored[0] != stored[1]:
            return drawn != stored
        return None

    @staticmethod
    def _open_mask(mask: Path | CocoObject) -> Image.Image:
        if isinstance(mask, CocoObject):
            return Image.fromarray(mask.mask().numpy().astype(np.uint8) * 255)
        return read_mask(mask)

    def check(self) -> tuple[Box | None, str]:
        """Check the photo and its mask.

        Returns:
            The mask's box, and `UNCLEAR` if it is not clear how it lies on the photo, or else an empty text; or
            ``None`` and what is wrong.
        """
        try:
            _, mask = self.open()
        except (ValueError, MemoryError) as error:
            return None, one_line(error)
        box = mask.getbbox()
        if box is None:
            return None, "its mask is empty"
        return box, UNCLEAR if self._tells_upright() is None else ""


def list_masked(root: Path, *, drawn_upright: bool = True) -> tuple[list[FolderEntry], list[str]]:
    """List the images of a folder with masks of the same name, and a line for each that is left out."""
    for name in ("images", "masks"):
        advice = "Put images under images/ and their masks, with the same names, under masks/, or give a COCO file."
        existing(root / name, "read_folder", advice)
    (images, passed), (drawn, more) = (list_pictures(root / name, deep=True) for name in ("images", "masks"))
    for line in passed + more:
        warn_once(_log, line)
    masks: dict[str, Path] = {}
    for path in drawn:
        masks.setdefault(_stem(path, root / "masks"), path)
    entries: dict[str, FolderEntry] = {}
    faults = []
    for path in images:
        name = _stem(path, root / "images")
        if name in entries:
            faults.append(f"{path}: it has the name of {entries[name].file.name}, which is used")
            continue
        entries[name] = FolderEntry(name, path, masks.get(name), drawn_upright=drawn_upright)
    return list(entries.values()), faults


def list_coco(
    root: Path, annotations: Path | Mapping[str, Path], category: str | None, *, drawn_upright: bool = True
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
                entries[name] = FolderEntry(name, paths[0], found, split, drawn_upright)
        if missing:
            lost = f"{counted(len(missing), 'object')} left out: there are no photos of these names below {root}"
            wrong.append(f"{path}: {lost} or beside the file; the first is {missing[0]}")
        faults += wrong
    return list(entries.values()), faults


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


def _frame(path: Path) -> tuple[tuple[int, int], int]:
    """Return width and height of the stored pixels, and the orientation, 1 where there is none that exists."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as picture:
                orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
                return picture.size, orientation if orientation in range(1, 9) else 1
        except (Image.DecompressionBombError, *DECODING_ERRORS):  # which reading it tells of
            return (0, 0), 1


def _file_stamp(path: Path) -> tuple[str, int, int]:
    try:
        state = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), state.st_mtime_ns, state.st_size


def _by(size: tuple[int, ...]) -> str:
    return f"{size[0]} × {size[1]}"
