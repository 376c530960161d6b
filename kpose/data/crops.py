"""Square crops of photos and their masks: decoding, and a cache shared by the loader's workers."""

import hashlib
import mmap
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from kpose.cropping import crop_image
from kpose.messages import one_line

__all__ = ["CropCache", "crop_pair", "load_crop"]


def load_crop(
    image: Path, mask: Path, box: Sequence[float], size: int, fill: tuple[int, int, int]
) -> UInt8[Tensor, "4 size size"]:
    """Decode a photo and its mask and cut the same square out of both.

    Args:
        image: Photo of any format and mode that Pillow reads; its EXIF orientation is ignored, as annotations
            refer to the stored pixels.
        mask: Mask of the same size, 0 to 255.
        box: Square box in pixels of the photo.
        size: Side of the crop, in pixels.
        fill: Colour outside the photo, 0 to 255.

    Returns:
        Red, green, blue and mask, 0 to 255; the mask is zero outside the photo.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file cannot be decoded, or the mask's size is not the photo's.
    """
    photo, silhouette = _decode(image), _decode(mask)
    if photo.size != silhouette.size:
        raise ValueError(
            f"load_crop needs a mask of the photo's size {photo.size}; got {silhouette.size} in {mask}. "
            "Replace the mask."
        )
    return crop_pair(photo, silhouette, box, size, fill)


def _decode(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except FileNotFoundError:
        raise FileNotFoundError(
            f"Crops need {path}; there is no such file. Get the data again, or put the file back."
        ) from None
    except PermissionError:
        raise
    except Exception as error:  # Pillow's readers raise whatever their parsers do
        raise ValueError(f"{path} cannot be decoded ({one_line(error)}). Get the file again.") from error


def crop_pair(
    photo: Image.Image, mask: Image.Image, box: Sequence[float], size: int, fill: tuple[int, int, int]
) -> UInt8[Tensor, "4 size size"]:
    """Cut the same square out of a photo and its mask.

    Args:
        photo: Photo of any mode.
        mask: Mask of the same size, 0 to 255.
        box: Square box in pixels of the photo.
        size: Side of the crop, in pixels.
        fill: Colour outside the photo, 0 to 255.

    Returns:
        Red, green, blue and mask, 0 to 255; the mask is zero outside the photo.
    """
    colours = crop_image(photo.convert("RGB"), box, size, fill)
    colours.putalpha(crop_image(mask.convert("L"), box, size, 0))
    pixels = torch.frombuffer(bytearray(colours.tobytes()), dtype=torch.uint8)
    return pixels.reshape(size, size, 4).permute(2, 0, 1).contiguous()


class CropCache:
    """Store of decoded crops that is filled as they are asked for, each of them decoded once.

    The store is shared memory: workers that the loader forks fill it together. With a folder it is a file there,
    which later runs with the same key find again. On platforms that start workers afresh (Windows, macOS) the
    store in memory is one per worker; give a folder there.

    Args:
        count: Number of crops.
        size: Side of a crop, in pixels.
        folder: Where the file is kept; memory if not given.
        key: What the crops depend on (files, boxes, size); another key is another file.

    Raises:
        ValueError: If there are no crops, or their size is not positive.

    Example:
        >>> cache = CropCache(2, 3)
        >>> cache.get(1, lambda: torch.full((4, 3, 3), 7, dtype=torch.uint8)).sum().item()
        252
        >>> cache.get(1, lambda: torch.zeros(4, 3, 3, dtype=torch.uint8)).sum().item()
        252
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
        """Give a crop, from the store or, the first time, from ``load``.

        Args:
            index: Which crop.
            load: Decodes the crop; called only if it is not in the store.

        Returns:
            A copy of the crop.
        """
        if not self._filled[index]:
            self._crops[index] = load()
            self._filled[index] = 1  # last, so that a reader in another process never sees half a crop
        return self._crops[index].clone()

    def _open(self) -> None:
        length = self.count * (1 + 4 * self.size**2)
        if self.folder is None:
            memory = mmap.mmap(-1, length)
        else:
            with self._file(length).open("r+b") as file:
                memory = mmap.mmap(file.fileno(), length)
        store = torch.frombuffer(memory, dtype=torch.uint8)
        self._filled = store[: self.count]
        self._crops = store[self.count :].reshape(self.count, 4, self.size, self.size)

    def _file(self, length: int) -> Path:
        folder = self.folder or Path()
        name = hashlib.sha256(f"{self.count} {self.size} {self.key}".encode()).hexdigest()[:16]
        path = folder / f"crops-{name}.bin"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(f".{secrets.token_hex(4)}.tmp")
            with fresh.open("wb") as file:
                file.truncate(length)
            fresh.replace(path)
        return path

    def __getstate__(self) -> dict[str, object]:
        """Leave the store out: a file is opened again, memory starts empty."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_filled", "_crops")}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Open the store again."""
        self.__dict__.update(state)
        self._open()
