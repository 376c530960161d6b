"""Data sets of cropped photos: what they have in common, decoding, and a store of decoded crops."""

import hashlib
import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from kpose._cropping import crop_image, square_box
from kpose._files import existing
from kpose._limits import check_side
from kpose._pictures import read_mask, read_photo
from kpose.geometry import box_to_crop
from kpose.structures import Batch

__all__ = ["CropCache", "PhotoDataset", "crop_pair", "load_crop"]


class PhotoDataset(Dataset[Batch], ABC):
    """Crops of one split of a set of photos; a photo keeps its row in every split.

    An item is a `Batch` without the leading dimension; nothing about it is random. A subclass names the photos and
    decodes their crops; they are kept once decoded (see ``cache``).

    Args:
        root: Folder of the photos.
        split: Split that the items are of.
        splits: Split of each row, empty for a photo that no split holds.
        boxes: Box ``(left, top, right, bottom)`` of the object of each row, in pixels of the photo.
        stamp: Returns what the crop of a row depends on besides its box, such as the name of its file.
        image_size: Side of the crops, in pixels.
        padding: How far the crop's edges lie outside the box, as a share of the box's longer side.
        fill: Color outside the photo, in [0, 1].
        cache: Whether decoded crops are kept in memory; a folder keeps them on disk for later runs too.

    Attributes:
        rows: Row of each item.
        boxes: Square box of the crop of each row, in pixels of the photo.

    Raises:
        ValueError: If the split is empty.

    Example:
        A set of photos of your own is a subclass with ``names``, ``image_files`` and ``load``:
        `kpose.data.FolderDataset` is one.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        splits: Sequence[str],
        boxes: Float[Tensor, "N 4"],
        stamp: Callable[[int], object],
        image_size: int = 256,
        padding: float = 0.05,
        fill: float | tuple[float, float, float] = 1.0,
        cache: bool | Path = True,
    ) -> None:
        check_side(image_size, type(self).__name__)
        self.split = split
        self.image_size = image_size
        red, green, blue = (fill, fill, fill) if isinstance(fill, float | int) else fill
        self.fill = round(255 * red), round(255 * green), round(255 * blue)
        self.rows = [row for row, name in enumerate(splits) if name == split]
        if not self.rows:
            raise ValueError(
                f"{type(self).__name__} needs images in split {split!r} of {root}; there are "
                f"{sorted({name for name in splits if name})}. Name one of these."
            )
        self.boxes = square_box(boxes, padding)
        self.cache: CropCache | None = None
        if cache is not False:
            chosen = [(stamp(row), self.boxes[row].tolist()) for row in self.rows]
            folder = None if cache is True else Path(cache)
            self.cache = CropCache(
                len(self.rows), image_size, folder=folder, key=f"{root.resolve()} {self.fill} {chosen}"
            )

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Identity of each item in files, in the order of the items."""

    @property
    @abstractmethod
    def image_files(self) -> list[Path]:
        """Photo of each item."""

    @abstractmethod
    def load(self, row: int) -> UInt8[Tensor, "4 size size"]:
        """Decode the crop of a photo.

        Args:
            row: Row of the photo.

        Returns:
            Red, green, blue and mask, 0 to 255; the mask is zero outside the photo.
        """

    @property
    def indices(self) -> Int[Tensor, "N"]:
        """The ``index`` of each item: its row."""
        return torch.tensor(self.rows)

    def __len__(self) -> int:
        """Count the items."""
        return len(self.rows)

    def __getitem__(self, item: int) -> Batch:
        """Return one image with its mask, in its crop.

        Args:
            item: Position in the split.

        Returns:
            Batch without the leading dimension: ``image``, ``mask``, ``crop``, ``flipped`` (false) and ``index``.
        """
        row = self.rows[item]
        pixels = self.load(row) if self.cache is None else self.cache.get(item, lambda: self.load(row))
        return Batch(
            image=pixels[:3].float() / 255,
            mask=pixels[3] > 127,
            crop=box_to_crop(self.boxes[row]),
            flipped=torch.tensor(False),
            index=torch.tensor(row),
        )


def load_crop(
    image: Path, mask: Path, box: Sequence[float], size: int, fill: tuple[int, int, int]
) -> UInt8[Tensor, "4 size size"]:
    """Decode a photo and its mask of the same size and cut the same square out of both; see `PhotoDataset.load`.

    The photo's EXIF orientation is ignored, as annotations refer to the stored pixels.
    """
    advice = "Get the data again, or put the file back."
    photo = read_photo(existing(image, "load_crop", advice), upright=False)
    silhouette = read_mask(existing(mask, "load_crop", advice), upright=False)
    if photo.size != silhouette.size:
        raise ValueError(
            f"load_crop needs a mask of the photo's size {photo.size}; got {silhouette.size} in {mask}. "
            "Replace the mask."
        )
    return crop_pair(photo, silhouette, box, size, fill)


def crop_pair(
    photo: Image.Image, mask: Image.Image, box: Sequence[float], size: int, fill: tuple[int, int, int]
) -> UInt8[Tensor, "4 size size"]:
    """Cut the same square out of a photo, RGB, and its mask, 0 or 255; see `load_crop`."""
    colors = crop_image(photo, box, size, fill)
    colors.putalpha(crop_image(mask, box, size, 0))
    pixels = torch.frombuffer(bytearray(colors.tobytes()), dtype=torch.uint8)
    return pixels.reshape(size, size, 4).permute(2, 0, 1).contiguous()


class CropCache:
    """Store of decoded crops that is filled as they are asked for, each of them decoded once.

    The store is shared memory: workers that the loader forks fill it together. With a folder it is a file there,
    which later runs with the same key find again. On platforms that start new workers (Windows, macOS) the
    store in memory is one per worker; give a folder there.

    ``key`` is what the crops depend on (files, boxes, size); another key is another file.
    """

    def __init__(self, count: int, size: int, *, folder: Path | None = None, key: str = "") -> None:
        if count < 1 or size < 1:
            raise ValueError(
                f"CropCache needs at least one crop of one pixel; got {count} of {size}. Check the split."
            )
        self.count = count
        self.size = size
        self.folder = folder
        self.key = key
        self._open()

    def get(self, index: int, load: Callable[[], Tensor]) -> UInt8[Tensor, "4 size size"]:
        """Return a copy of a crop: from the store or, the first time, from ``load``."""
        if not self._filled[index]:
            self._crops[index] = load()
            self._filled[index] = 1  # last, so that a reader in another process never sees half a crop
        return self._crops[index].clone()

    def _open(self) -> None:
        length = self.count * (1 + 4 * self.size**2)
        if self.folder is None:  # not a tensor's shared memory, of which a container may have little
            store = torch.frombuffer(mmap.mmap(-1, length), dtype=torch.uint8)
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256(f"{self.count} {self.size} {self.key}".encode()).hexdigest()[:16]
            path = self.folder / f"crops-{digest}.bin"  # zeros where there was no such file
            store = torch.from_file(str(path), shared=True, size=length, dtype=torch.uint8)
        self._filled = store[: self.count]
        self._crops = store[self.count :].reshape(self.count, 4, self.size, self.size)

    def __getstate__(self) -> dict[str, object]:
        """Leave the store out: a file is opened again, memory starts empty."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_filled", "_crops")}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Open the store again."""
        self.__dict__.update(state)
        self._open()
