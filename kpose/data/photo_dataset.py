"""What the data sets of photographs have in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset

from kpose.data.crops import CropCache
from kpose.structures import Batch

__all__ = ["PhotoDataset", "byte_color"]


class PhotoDataset(Dataset[Batch], ABC):
    """Crops of one split of a set of photos, of which each has a row, whatever its split."""

    rows: list[int]
    """Row of each item among the photos of all splits."""
    boxes: Tensor
    """Square box of the crop of each row, in pixels of the photo."""
    image_size: int
    """Side of the crops, in pixels."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Identity of each item in files, in the order of the items."""

    @property
    @abstractmethod
    def image_files(self) -> list[Path]:
        """Photo of each item."""

    @property
    def indices(self) -> Int[Tensor, "N"]:
        """The ``index`` of each item."""
        return torch.tensor(self.rows)

    def __len__(self) -> int:
        """Count the items."""
        return len(self.rows)

    def new_cache(self, cache: bool | Path, origin: object, stamps: Sequence[object]) -> CropCache | None:
        """Make the store of decoded crops.

        Args:
            cache: Whether there is one, or the folder of its file.
            origin: What all crops depend on besides their boxes.
            stamps: What each item's crop depends on besides its box, such as the name of its file.

        Returns:
            The store, or ``None`` without one.
        """
        if cache is False:
            return None
        chosen = [(stamp, self.boxes[row].tolist()) for stamp, row in zip(stamps, self.rows, strict=True)]
        folder = None if isinstance(cache, bool) else Path(cache)
        return CropCache(len(self.rows), self.image_size, folder=folder, key=f"{origin} {chosen}")


def byte_color(fill: float | tuple[float, float, float]) -> tuple[int, int, int]:
    """Convert a colour in [0, 1], or a grey value, to one in 0 … 255.

    Args:
        fill: Colour or grey value.

    Returns:
        Red, green and blue.

    Example:
        >>> byte_color(1.0)
        (255, 255, 255)
    """
    red, green, blue = (fill, fill, fill) if isinstance(fill, float | int) else fill
    return round(255 * red), round(255 * green), round(255 * blue)
