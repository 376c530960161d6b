"""Square crops of photos and masks: boxes, decoding, and a cache shared by the loader's workers."""

import hashlib
import math
import mmap
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

__all__ = ["CropCache", "crop_image", "crop_pair", "load_crop", "square_box"]


def square_box(box: Float[Tensor, "*batch 4"], padding: float = 0.0) -> Float[Tensor, "*batch 4"]:
    """Grow boxes by a share of their longer side, and to squares about their centres.

    Args:
        box: Boxes ``(left, top, right, bottom)`` in pixels of the photo.
        padding: How far each edge moves outwards, as a share of the longer side.

    Returns:
        Square boxes; they may reach beyond the photo. A box without area gives one of side zero.

    Source:
        Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020 (released code), with the padding of the
        longer side, the only one that the square shows.

    Example:
        >>> square_box(torch.tensor([10.0, 10.0, 30.0, 20.0]), padding=0.1)
        tensor([ 8.,  3., 32., 27.])
    """
    centre = (box[..., :2] + box[..., 2:]) / 2
    half = (box[..., 2:] - box[..., :2]).amax(-1, keepdim=True) * (0.5 + padding)
    return torch.cat((centre - half, centre + half), -1)


def crop_image(image: Image.Image, box: Sequence[float], size: int, fill: int | tuple[int, ...] = 0) -> Image.Image:
    r"""Cut a box out of a picture and resample it to a square.

    The box is met to a fraction of a pixel and the resampling is antialiased; pixel centres are at halves.

    Args:
        image: Picture of any mode that Pillow can resample.
        box: Square ``(left, top, right, bottom)`` in pixels of the picture; it may reach beyond it.
        size: Side of the result, in pixels.
        fill: Value of a pixel outside the picture, in the picture's mode.

    Returns:
        Picture of ``size × size`` pixels.

    Raises:
        ValueError: If the box has no area or is not finite.

    Example:
        >>> crop_image(Image.new("L", (4, 4), 200), (-1.0, 0.0, 1.0, 2.0), 2).tobytes()
        b'\x00\xc8\x00\xc8'
    """
    if not all(map(math.isfinite, box)) or box[2] <= box[0] or box[3] <= box[1]:
        raise ValueError(f"crop_image needs a box with an area; got {tuple(box)}. Leave this image out.")
    left, top = math.floor(box[0]), math.floor(box[1])
    right, bottom = math.ceil(box[2]), math.ceil(box[3])
    canvas = Image.new(image.mode, (right - left, bottom - top), fill)
    canvas.paste(image, (-left, -top))
    inner = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    return canvas.resize((size, size), Image.Resampling.BILINEAR, box=inner)


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
        ValueError: If the mask's size is not the photo's.
    """
    with Image.open(image) as photo, Image.open(mask) as silhouette:
        if photo.size != silhouette.size:
            raise ValueError(
                f"load_crop needs a mask of the photo's size {photo.size}; got {silhouette.size} in {mask}. "
                "Replace the mask."
            )
        return crop_pair(photo, silhouette, box, size, fill)


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
