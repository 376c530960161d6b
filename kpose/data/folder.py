"""Photos of a category of one's own: a folder of images with masks of the same name, or with a COCO file."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kpose._files import existing
from kpose._messages import counted, one_line, warn_once
from kpose._pictures import picture_endings
from kpose.data.folder_files import SPLITS, UNCLEAR, FolderEntry, check_entries, list_coco, list_masked
from kpose.data.photo_dataset import PhotoDataset, crop_pair
from kpose.structures import Batch

__all__ = ["FolderAnnotations", "FolderDataset", "read_folder"]

_log = logging.getLogger(__name__)

_MAX_REASONS = 5  # in the text of an error


@dataclass(frozen=True)
class FolderAnnotations:
    """What is known of the images of a folder, one row for each, sorted by name."""

    root: Path
    """The folder."""
    entries: tuple[FolderEntry, ...]
    """The images with their masks."""
    splits: tuple[str, ...]
    """``train``, ``val`` or ``test``; empty for an image that no split holds or that cannot be used."""
    boxes: Float[Tensor, "N 4"]
    """Box ``(left, top, right, bottom)`` of each mask in pixels, not a number for an image that cannot be used."""
    problems: tuple[str, ...]
    """For each image that cannot be used, one line with its path that says why; for what else a COCO file has that
    is left out, a line for each reason."""

    @property
    def names(self) -> tuple[str, ...]:
        """Path of each image without its ending.

        With a COCO file there is one for each object, and ``#`` and its id follow where an image has several.
        """
        return tuple(entry.name for entry in self.entries)


def read_folder(
    root: Path,
    annotations: Path | Mapping[str, Path] | None = None,
    *,
    category: str | None = None,
    splits: Path | None = None,
    val_share: float = 0.1,
    seed: int = 0,
    store: Path | None = None,
    drawn_upright: bool | None = None,
) -> FolderAnnotations:
    """List the images of a folder with their masks, and check them.

    Images are ``images/**`` with masks of the same path, whatever the ending, under ``masks/``; or, with a COCO
    file, the objects that it annotates, wherever below the root or beside the file their images are (see
    `kpose.data.coco_photos.CocoPhotos`). The split of an image is decided by, in this order: the COCO file it is
    from, if there is one for each split; a file of splits; its top folder (``images/train/...``), unless all are in
    ``train``; chance, where ``train`` and ``val`` are the only ones.

    An image that cannot be used (no mask, an empty one, one of another size, an unreadable file) is left out; one
    line says so in the log.

    Args:
        root: Folder.
        annotations: COCO file, or one for each split.
        category: Category of the objects, for COCO files with several.
        splits: Text file with a name and its split, separated by white space, on each line; names with or without
            ending. ``splits.txt`` of the folder, if there is one, when not given.
        val_share: Share of the images that chance puts into ``val``, in [0, 1).
        seed: Decides which.
        store: Folder where the results of the check are kept for later runs.
        drawn_upright: Whether objects were drawn on photos that EXIF had turned upright, or on the stored pixels.
            Only read where width and height of the COCO file or the mask do not tell: for half turns, mirrored
            photos and squares. Upright when None, which one line in the log says if it matters.

    Returns:
        Annotations of all images.

    Raises:
        FileNotFoundError: If a folder or file is missing.
        ValueError: If no image can be used, or if the COCO file or the file of splits is not one.

    Example:
        >>> from PIL import Image
        >>> folder = getfixture("tmp_path")
        >>> for kind, color in (("images", "red"), ("masks", "white")):
        ...     (folder / kind).mkdir()
        ...     Image.new("RGB", (40, 30), color).save(folder / kind / "car.png")
        >>> read_folder(folder).boxes
        tensor([[ 0.,  0., 40., 30.]])
    """
    root = Path(root)
    if not 0 <= val_share < 1:
        raise ValueError(f"read_folder needs a share of validation images in [0, 1); got {val_share}. Change it.")
    upright = drawn_upright is not False
    found, faults = (
        list_masked(root, drawn_upright=upright)
        if annotations is None
        else list_coco(root, annotations, category, drawn_upright=upright)
    )
    found.sort(key=lambda entry: entry.name)
    checked = check_entries(found, store)
    good = [box is not None for box, _ in checked]
    chosen = _splits(root, found, good, splits, val_share, seed)
    unclear = sum(fault == UNCLEAR for _, fault in checked)
    if unclear and drawn_upright is None:
        advice = "Objects are taken to be drawn on the upright photo; drawn_upright=False takes the stored one."
        warn_once(_log, f"{counted(unclear, 'photo')} of {root}: {UNCLEAR}. {advice}")
    pairs = [(entry.file, fault) for entry, (box, fault) in zip(found, checked, strict=True) if box is None]
    faults += [f"{file}: {fault}" for file, fault in pairs]
    for line in faults:
        warn_once(_log, line)  # a pipeline reads a folder a dozen times
    if not all(good):
        warn_once(_log, f"{good.count(False)} of {counted(len(good), 'image')} of {root} left out.")
    if not any(good):
        why = "; ".join(faults[:_MAX_REASONS]) + (", ..." if len(faults) > _MAX_REASONS else "")
        raise ValueError(
            f"read_folder needs an image that can be used; got {len(found)} in {root}, and none can: "
            f"{why or 'there is no picture'}. Correct the folder."
        )
    nothing = [float("nan")] * 4
    return FolderAnnotations(
        root=root,
        entries=tuple(found),
        splits=tuple(split if fine else "" for split, fine in zip(chosen, good, strict=True)),
        boxes=torch.tensor([nothing if box is None else box for box, _ in checked], dtype=torch.float32),
        problems=tuple(faults),
    )


class FolderDataset(PhotoDataset):
    """Crops of one split of a folder of images with masks.

    An item is a `Batch` without the leading dimension: ``image``, ``mask``, ``crop``, ``flipped`` (false) and
    ``index`` (row in ``annotations``, whatever the split). Nothing about an item is random. Crops are decoded once.
    An image that turns out to be damaged when it is decoded is reported once, and the next one of the split takes
    its place.

    Args:
        root: Folder (see `read_folder`).
        split: ``train``, ``val`` or ``test``.
        annotations: What `read_folder` returned for ``root``, if it has been read already.
        **options: Those of `PhotoDataset`: ``image_size``, ``padding``, ``fill`` and ``cache``.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If the split is empty.

    Example:
        >>> from PIL import Image
        >>> folder = getfixture("tmp_path")
        >>> for kind, color in (("images", "red"), ("masks", "white")):
        ...     (folder / kind).mkdir()
        ...     Image.new("RGB", (40, 30), color).save(folder / kind / "car.png")
        >>> _ = (folder / "splits.txt").write_text("car train")
        >>> images = FolderDataset(folder, "train", image_size=32)
        >>> images.names, images[0]["mask"].shape
        (('car',), torch.Size([32, 32]))
    """

    def __init__(
        self,
        root: Path,
        split: str = "train",
        *,
        annotations: FolderAnnotations | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        self.annotations = notes = read_folder(Path(root)) if annotations is None else annotations

        def stamp(row: int) -> object:
            return notes.entries[row].stamp()

        super().__init__(notes.root, split, splits=notes.splits, boxes=notes.boxes, stamp=stamp, **options)
        self._broken = torch.zeros(len(self.rows), dtype=torch.bool)
        self._broken.share_memory_()  # type: ignore[no-untyped-call]  # workers see and set it

    @property
    def names(self) -> tuple[str, ...]:
        """Paths of the images without ending, in the order of the items."""
        return tuple(self.annotations.entries[row].name for row in self.rows)

    @property
    def image_files(self) -> list[Path]:
        """Photos of the split, in the order of the items."""
        return [self.annotations.entries[row].file for row in self.rows]

    @property
    def problems(self) -> tuple[str, ...]:
        """One line for each image of the folder that was left out, and of the split that could not be decoded."""
        files = self.image_files
        late = [files[item] for item in self._broken.nonzero().flatten().tolist()]
        return self.annotations.problems + tuple(f"{file}: it cannot be decoded" for file in late)

    def __getitem__(self, item: int) -> Batch:
        """Return one image with its mask, in its crop.

        Args:
            item: Position in the split.

        Returns:
            Batch without the leading dimension.

        Raises:
            ValueError: If no image of the split can be decoded.
        """
        start = range(len(self.rows))[item]
        for place in (*range(start, len(self.rows)), *range(start)):
            if self._broken[place]:
                continue
            try:
                return super().__getitem__(place)
            except (ValueError, MemoryError) as error:
                self._broken[place] = True
                file = self.annotations.entries[self.rows[place]].file
                warn_once(_log, f"{file}: {one_line(error)}; the next image takes its place.")
        raise ValueError(f"FolderDataset cannot decode any image of split {self.split!r}; see the log for each.")

    def load(self, row: int) -> UInt8[Tensor, "4 size size"]:
        """Decode the crop of a photo; see `PhotoDataset.load`."""
        photo, mask = self.annotations.entries[row].open()
        return crop_pair(photo, mask, self.boxes[row].tolist(), self.image_size, self.fill)


def _splits(
    root: Path, entries: Sequence[FolderEntry], good: Sequence[bool], file: Path | None, share: float, seed: int
) -> list[str]:
    """Decide the split of each image."""
    if any(entry.split for entry in entries):
        return [entry.split for entry in entries]
    if file is not None or (root / "splits.txt").is_file():
        table = _read_splits(root / "splits.txt" if file is None else Path(file))
        # A name that an image of a COCO file shares with others has a number behind it.
        keys = [(entry.name, entry.name.partition("#")[0]) for entry in entries]
        return [table.get(name, table.get(image, "")) for name, image in keys]
    tops = [entry.name.split("/")[0] if "/" in entry.name else "" for entry in entries]
    if any(top in SPLITS for top in tops) and set(tops) != {"train"}:
        return [top if top in SPLITS else "" for top in tops]
    # The order is each image's own: others that come or go do not change it. Objects of one image stay together.
    images = sorted(
        {str(entry.file) for entry, fine in zip(entries, good, strict=True) if fine},
        key=lambda path: hashlib.sha256(f"{seed} {Path(relpath(path, root)).as_posix()}".encode()).digest(),
    )
    count = max(1, round(share * len(images))) if share and len(images) > 1 else 0
    held_out = set(images[:count])
    return ["val" if str(entry.file) in held_out else "train" for entry in entries]


def _read_splits(path: Path) -> dict[str, str]:
    """Read a file of splits: names without ending."""
    existing(path, "read_folder, for its splits,", "Correct the path.")
    table, endings = {}, picture_endings()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        name, _, split = line.strip().replace("\t", " ").rpartition(" ")
        if split not in SPLITS or not name:
            raise ValueError(
                f"read_folder needs a name and one of {SPLITS} on each line of {path}; line {number} is {line!r}."
            )
        stem = Path(name.strip())
        table[stem.with_suffix("").as_posix() if stem.suffix.lower() in endings else stem.as_posix()] = split
    return table
