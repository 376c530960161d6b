"""CUB-200-2011 (Wah et al. 2011): annotations, structure-from-motion cameras and the data set of crops.

Positions leave this module in photo pixels with the origin at the corner of the first pixel; CUB and CMR count
pixels from 1, so their position k is read as k − 0.5 here and nowhere else.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from kpose._files import existing, write_text
from kpose.data.photo_dataset import PhotoDataset, load_crop
from kpose.geometry import apply_crop, crop_camera, matrix_to_quaternion, quaternion_to_matrix
from kpose.structures import Batch, Camera

__all__ = [
    "CUBAnnotations",
    "CUBDataset",
    "from_cub_pixels",
    "read_cameras",
    "read_cub",
    "read_mean_parts",
    "write_cameras",
    "write_mean_parts",
]

_DOWNLOAD = "Get it by `python -m kpose.data.download FOLDER`, or correct the folder."
_CAMERA_COLUMNS = ("image_id", "split", "scale", "tx", "ty", "qw", "qx", "qy", "qz")
# From CUB's 1-based pixel index to the position of that pixel's center.
_OFFSET = -0.5


@dataclass(frozen=True)
class CUBAnnotations:
    """Annotations of a folder in CUB's layout, one row for each image, in photo pixels."""

    root: Path
    """The folder."""
    image_ids: tuple[int, ...]
    """CUB's numbers of the images, in the order of ``images.txt``."""
    files: tuple[str, ...]
    """Paths of the photos under ``images/``."""
    splits: tuple[str, ...]
    """``train``, ``val`` or ``test``; empty for an image that no split holds."""
    boxes: Float[Tensor, "N 4"]
    """Annotated boxes ``(left, top, right, bottom)``."""
    parts: Float[Tensor, "N P 2"]
    """Annotated parts, zero where not visible."""
    parts_visible: Bool[Tensor, "N P"]
    """Which parts are visible."""
    part_names: tuple[str, ...]
    """Names of the parts."""
    camera: Camera | None
    """Cameras in photo pixels, not a number where an image has none; ``None`` without a cameras file."""


def from_cub_pixels(positions: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
    """Convert positions that count pixels from 1 (CUB's, CMR's, MATLAB's) to photo pixels."""
    return positions + _OFFSET


def read_cub(root: Path, cameras: Path | None = None) -> CUBAnnotations:
    """Read the annotations of a folder in CUB's layout.

    The ``split`` column of the cameras file decides who is in which split, and an image without a camera is in
    none. Without that file (or column) it is ``train_test_split.txt``, where every other image that is not for
    training, beginning with the first, is ``val`` and the rest is ``test``.

    Args:
        root: Folder with ``images.txt`` and the others.
        cameras: Cameras file; ``sfm/cameras.csv`` of the folder, if there is one, when not given.

    Returns:
        Annotations of all images.

    Raises:
        FileNotFoundError: If a file is missing; the message names the command that gets it.
        ValueError: If the files do not belong together.

    Example:
        How many photos each split has::

            annotations = read_cub(Path("data/CUB_200_2011"))
            Counter(annotations.splits)
    """
    root = Path(root)
    listed = _numbered(root / "images.txt")
    ids = [number for number, _ in listed]
    rows = {number: row for row, number in enumerate(ids)}
    names = tuple(name for _, name in _numbered(root / "parts" / "parts.txt"))
    boxes = _by_image(root / "bounding_boxes.txt", rows, columns=5)[:, 0, 1:]
    boxes = np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1) + _OFFSET
    parts = _by_image(root / "parts" / "part_locs.txt", rows, columns=5, repeats=len(names))
    visible = parts[..., 4] > 0
    positions = np.where(visible[..., None], parts[..., 2:4] + _OFFSET, 0.0)
    splits = _official_splits(root, rows)
    path = root / "sfm" / "cameras.csv" if cameras is None else Path(cameras)
    camera = None
    if cameras is not None or path.exists():
        camera, column = read_cameras(path, ids)
        has_camera = camera.scale.isfinite().tolist()
        splits = [(column or splits)[row] if has_camera[row] else "" for row in range(len(ids))]
    return CUBAnnotations(
        root=root,
        image_ids=tuple(ids),
        files=tuple(name for _, name in listed),
        splits=tuple(splits),
        boxes=torch.from_numpy(boxes).float(),
        parts=torch.from_numpy(positions).float(),
        parts_visible=torch.from_numpy(visible),
        part_names=names,
        camera=camera,
    )


def read_cameras(path: Path, image_ids: Sequence[int]) -> tuple[Camera, list[str] | None]:
    """Read the cameras and splits of images from a cameras file, the inverse of `write_cameras`.

    Its columns are ``image_id,split,scale,tx,ty,qw,qx,qy,qz``; ``tx``, ``ty`` in CUB's 1-based pixels, ``split``
    optional. Cameras are in photo pixels, not a number where the file has none for an image; there, splits are
    empty. They are ``None`` if the file has no such column.
    """
    existing(path, "read_cameras", f"Make it by `python -m kpose.data.sfm ROOT --out {path}`.")
    with path.open(newline="", encoding="utf-8") as file:
        try:
            reader = csv.DictReader(file)
            found = reader.fieldnames or ()
            records = {row["image_id"]: row for row in reader} if "image_id" in found else {}
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"read_cameras needs a table; {path} is none ({error}). Make it again.") from error
    needed = [name for name in _CAMERA_COLUMNS if name != "split"]
    if missing := [name for name in needed if name not in found]:
        raise ValueError(f"read_cameras needs the columns {needed} in {path}; {missing} are missing. Add them.")
    nothing = dict.fromkeys(_CAMERA_COLUMNS, "nan")
    rows = [records.get(str(number), nothing) for number in image_ids]
    try:
        table = np.array([[float(row[name]) for name in _CAMERA_COLUMNS[2:]] for row in rows]).reshape(-1, 7)
    except (TypeError, ValueError) as error:  # a short line has None
        raise ValueError(
            f"read_cameras needs numbers in {path}; it has others ({error}). Correct its lines."
        ) from error
    values = torch.from_numpy(table).float()
    camera = Camera(values[:, 0], from_cub_pixels(values[:, 1:3]), quaternion_to_matrix(values[:, 3:]))
    if "split" not in found:
        return camera, None
    return camera, ["" if row is nothing else row["split"] or "" for row in rows]


def write_cameras(path: Path, image_ids: Sequence[int], splits: Sequence[str], camera: Camera) -> None:
    """Write a cameras file, the inverse of `read_cameras`; images whose camera is not finite are left out."""
    values = torch.cat(
        (camera.scale[:, None], camera.translation - _OFFSET, matrix_to_quaternion(camera.rotation)), 1
    ).tolist()
    rows = [
        [number, split, *(f"{value:.6f}" for value in row)]
        for number, split, row in zip(image_ids, splits, values, strict=True)
        if all(map(math.isfinite, row))
    ]
    _write_table(Path(path), _CAMERA_COLUMNS, rows)


def read_mean_parts(path: Path) -> Float[Tensor, "P 3"]:
    """Read the mean positions of the parts in the object frame.

    Args:
        path: File with a header and the columns ``part_id,x,y,z``, such as ``sfm/mean_parts.csv``.

    Returns:
        Positions in the order of the part numbers, object units.

    Raises:
        FileNotFoundError: If there is no such file.

    Example:
        >>> file = getfixture("tmp_path") / "mean_parts.csv"
        >>> _ = file.write_text(chr(10).join(("part_id,x,y,z", "1,0.0,-1.0,0.5")))
        >>> read_mean_parts(file)
        tensor([[ 0.0000, -1.0000,  0.5000]])
    """
    existing(path, "read_mean_parts", "Make it by `python -m kpose.data.sfm ROOT`.")
    table = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    return torch.from_numpy(table[np.argsort(table[:, 0]), 1:4]).float()


def write_mean_parts(path: Path, parts: Float[Tensor, "P 3"]) -> None:
    """Write the mean positions of the parts, the inverse of `read_mean_parts`."""
    rows = [[number, *(f"{value:.6f}" for value in row)] for number, row in enumerate(parts.tolist(), start=1)]
    _write_table(Path(path), ("part_id", "x", "y", "z"), rows)


class CUBDataset(PhotoDataset):
    """Crops of one split of a folder in CUB's layout.

    An item is a `Batch` without the leading dimension: ``image``, ``mask``, ``parts``, ``parts_visible``, ``crop``,
    ``flipped`` (false), ``index`` (row in ``annotations``, whatever the split) and, when there is a cameras file,
    ``camera`` in the crop. Nothing about an item is random. Crops are decoded once.

    Args:
        root: Folder in CUB's layout.
        split: ``train``, ``val`` or ``test``.
        cameras: Cameras file (see `read_cub`).
        annotations: Annotations of ``root`` if they have been read already; ``cameras`` is then not looked at.
        **options: Those of `PhotoDataset`: ``image_size``, ``padding``, ``fill`` and ``cache``.

    Raises:
        FileNotFoundError: If a file is missing; the message names the command that gets it.
        ValueError: If the split is empty.

    Example:
        One photo of the validation split::

            birds = CUBDataset(Path("data/CUB_200_2011"), "val", image_size=256)
            birds[0]["image"].shape, birds[0]["camera"].rotation.shape  # (3, 256, 256), (3, 3)
    """

    def __init__(
        self,
        root: Path,
        split: str = "train",
        *,
        cameras: Path | None = None,
        annotations: CUBAnnotations | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        self.annotations = notes = read_cub(Path(root), cameras) if annotations is None else annotations
        self.root, stamp = notes.root, notes.files.__getitem__
        super().__init__(self.root, split, splits=notes.splits, boxes=notes.boxes, stamp=stamp, **options)
        for folder in ("images", "segmentations"):
            existing(self.root / folder, "CUB data", _DOWNLOAD)

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the parts."""
        return self.annotations.part_names

    @property
    def image_files(self) -> list[Path]:
        """Photos of the split, in the order of the items."""
        return [self.root / "images" / self.annotations.files[row] for row in self.rows]

    @property
    def names(self) -> tuple[str, ...]:
        """CUB's numbers of the images as text, in the order of the items."""
        return tuple(str(self.annotations.image_ids[row]) for row in self.rows)

    def __getitem__(self, item: int) -> Batch:
        """Return one image with its annotations, in its crop.

        Args:
            item: Position in the split.

        Returns:
            Batch without the leading dimension.
        """
        batch, row, notes = super().__getitem__(item), self.rows[item], self.annotations
        batch["parts_visible"] = visible = notes.parts_visible[row]
        batch["parts"] = torch.where(visible[:, None], apply_crop(notes.parts[row], batch["crop"]), 0.0)
        if notes.camera is not None:
            batch["camera"] = crop_camera(notes.camera.at(row), batch["crop"])
        return batch

    def load(self, row: int) -> UInt8[Tensor, "4 size size"]:
        """Decode the crop of a photo; see `PhotoDataset.load`."""
        file = self.annotations.files[row]
        mask = (self.root / "segmentations" / file).with_suffix(".png")
        return load_crop(self.root / "images" / file, mask, self.boxes[row].tolist(), self.image_size, self.fill)


def _lines(path: Path) -> list[str]:
    existing(path, "CUB data", _DOWNLOAD)
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"CUB data needs text in {path}; got other bytes ({error}). Get it again.") from error


def _numbered(path: Path) -> list[tuple[int, str]]:
    """Read lines of a number and a text."""
    found = [line.split(maxsplit=1) for line in _lines(path)]
    for number, line in enumerate(found, start=1):
        if len(line) != 2 or not line[0].isdecimal() or len(line[0]) > 18:
            raise ValueError(
                f"CUB data needs a number and a name on each line of {path}; got {' '.join(line)[:60]!r} as number "
                f"{number}. {_DOWNLOAD}"
            )
    return [(int(number), name) for number, name in found]


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    write_text(path, "".join(",".join(map(str, row)) + "\n" for row in (header, *rows)))


def _by_image(path: Path, rows: dict[int, int], *, columns: int, repeats: int = 1) -> np.ndarray:
    """Read a table that has ``repeats`` lines for each image, in any order, as (images, repeats, columns)."""
    try:
        table = np.array([line.split() for line in _lines(path)], dtype=np.float64).reshape(-1, columns)
    except ValueError as error:
        raise ValueError(f"CUB data needs {columns} numbers a line in {path}; got others ({error}).") from error
    table = table[[number in rows for number in table[:, 0].tolist()]]
    if len(table) != repeats * len(rows):
        raise ValueError(
            f"CUB data needs {repeats} line(s) in {path} for each of the {len(rows)} images of images.txt; "
            f"got {len(table)} in all. {_DOWNLOAD}"
        )
    part = table[:, 1] if repeats > 1 else np.zeros(len(table))
    order = np.lexsort((part, np.array([rows[int(number)] for number in table[:, 0]])))
    return table[order].reshape(len(rows), repeats, columns)


def _official_splits(root: Path, rows: dict[int, int]) -> list[str]:
    flags = _by_image(root / "train_test_split.txt", rows, columns=2)[:, 0, 1]
    held_out = ("val", "test")
    counts = np.cumsum(flags == 0)
    return ["train" if flag else held_out[(count + 1) % 2] for flag, count in zip(flags, counts, strict=True)]
