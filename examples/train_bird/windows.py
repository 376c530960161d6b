"""Square windows of whole photographs, from close to far, that a segmentation network learns from."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.utils.data import Dataset

from kpose.data import CUBDataset

Window = tuple[float, float, float, float]


class WindowDataset(Dataset[tuple[Tensor, Tensor]]):
    """Photographs and masks, each in a window drawn at every read: around the bird, or the whole photo and beyond.

    One in five is a mosaic of four windows, in which birds are small and several.

    Args:
        root: Folder in CUB's layout.
        split: Of its photographs.
        size: Side of the windows in pixels.
    """

    def __init__(self, root: Path, split: str, size: int) -> None:
        images = CUBDataset(root, split, image_size=size)
        self.files = images.image_files
        self.boxes = [images.annotations.boxes[row].tolist() for row in images.rows]
        self.root, self.size = Path(root), size

    def __len__(self) -> int:
        """Count the photographs."""
        return len(self.files)

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        """Return RGB in [0, 1] and the mask at half its size."""
        if random.random() < 0.2:
            others = [item, *(random.randrange(len(self)) for _ in range(3))]
            photo, mask = Image.new("RGB", (self.size,) * 2), Image.new("L", (self.size,) * 2)
            half = self.size // 2
            for place, (small, small_mask) in enumerate(self._window(one, half) for one in others):
                corner = (place % 2 * half, place // 2 * half)
                photo.paste(small, corner)
                mask.paste(small_mask, corner)
        else:
            photo, mask = self._window(item, self.size)
        photo = _recolored(photo)
        image = torch.from_numpy(np.array(photo)).permute(2, 0, 1).float() / 255
        area = torch.from_numpy(np.array(mask)).float()[None, None] / 255
        half_mask = torch.nn.functional.avg_pool2d(area, 2)[0, 0]
        return (image.flip(-1), half_mask.flip(-1)) if random.random() < 0.5 else (image, half_mask)

    def _window(self, item: int, size: int) -> tuple[Image.Image, Image.Image]:
        photo = Image.open(self.files[item]).convert("RGB")
        mask = Image.open(
            (self.root / "segmentations" / self.files[item].relative_to(self.root / "images")).with_suffix(".png")
        )
        square = _draw_square(photo.size, self.boxes[item])
        return cut(photo, square, size), cut(mask.convert("L"), square, size)


def cut(picture: Image.Image, square: Window, size: int) -> Image.Image:
    """Cut a window, which may reach beyond the picture, and scale it without aliasing."""
    left, top, right, bottom = (round(edge) for edge in square)
    return picture.crop((left, top, max(right, left + 1), max(bottom, top + 1))).resize(
        (size, size), Image.Resampling.BILINEAR
    )


def _draw_square(photo: tuple[int, int], box: Sequence[float]) -> Window:
    """Draw a window: three in five around the bird, as a second look sees it, the others around the photo."""
    if random.random() < 0.6:
        left, top, right, bottom = box
        side = max(right - left, bottom - top) * random.uniform(1.05, 2.0)
        jitter = 0.15 * side
    else:
        left, top, right, bottom = 0, 0, *photo
        side = max(photo) * random.uniform(0.8, 1.5)
        jitter = 0.15 * side
    x = (left + right) / 2 + random.uniform(-jitter, jitter)
    y = (top + bottom) / 2 + random.uniform(-jitter, jitter)
    return x - side / 2, y - side / 2, x + side / 2, y + side / 2


def _recolored(photo: Image.Image) -> Image.Image:
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        photo = enhance(photo).enhance(random.uniform(0.7, 1.3))
    return photo
