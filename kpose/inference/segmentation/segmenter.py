"""The interface of segmenters: a picture in, the objects in it out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from kpose.geometry import mask_to_box
from kpose.visualization import from_pillow

__all__ = ["Segment", "Segmenter", "find_objects"]

_SIDE = 512  # of what a segmenter sees: a box needs no more


class Segment(NamedTuple):
    """One object in a picture."""

    mask: Float[Tensor, "H W"]
    """How much each pixel belongs to the object, in [0, 1], of the picture's size."""
    score: float
    """How sure the segmenter is that this is an object of the kind it looks for, in [0, 1]."""

    @property
    def box(self) -> tuple[float, float, float, float] | None:
        """Box ``(left, top, right, bottom)`` in pixels around the mask above one half; none if it is nowhere."""
        return mask_to_box(self.mask > 0.5)


class Segmenter(ABC):
    """Something that finds the objects of a category in a picture.

    A segmenter holds no state between pictures, so that several threads may share one.

    Example:
        >>> import torch
        >>> class Bright(Segmenter):
        ...     def segment(self, image):
        ...         return [Segment(image.mean(0), 1.0)]
        >>> picture = torch.zeros(3, 8, 8)
        >>> picture[:, 2:4, 5:8] = 1
        >>> Bright().segment(picture)[0].box
        (5.0, 2.0, 8.0, 4.0)
    """

    @abstractmethod
    def segment(self, image: Float[Tensor, "3 H W"]) -> list[Segment]:
        """Find the objects in a picture.

        Args:
            image: RGB in [0, 1], of any size.

        Returns:
            Objects, the likeliest first; an empty list if there is none.
        """

    def segment_all(self, images: Sequence[Float[Tensor, "3 _ _"]]) -> list[list[Segment]]:
        """Find the objects in several pictures; override it where that takes less time than one by one.

        Args:
            images: RGB in [0, 1], of any sizes.

        Returns:
            What `segment` returns for each.
        """
        return [self.segment(image) for image in images]


def find_objects(
    photos: Sequence[Image.Image], segmenter: Segmenter
) -> list[tuple[float, float, float, float] | None]:
    """Find the likeliest object in each of several photos.

    Args:
        photos: Upright photos; large ones are scaled down for the segmenter.
        segmenter: What finds objects.

    Returns:
        For each photo a box ``(left, top, right, bottom)`` in its pixels; None if there is no object.
    """
    small = [photo.copy() for photo in photos]
    for picture in small:
        picture.thumbnail((_SIDE, _SIDE))
    segments = segmenter.segment_all([from_pillow(picture) for picture in small])
    return [_enlarged(*each) for each in zip(segments, small, photos, strict=True)]


def _enlarged(
    segments: list[Segment], small: Image.Image, photo: Image.Image
) -> tuple[float, float, float, float] | None:
    """Take the first box that there is to the pixels of the photo."""
    x, y = photo.width / small.width, photo.height / small.height
    for segment in segments:
        if (box := segment.box) is not None:
            left, top, right, bottom = box
            return left * x, top * y, right * x, bottom * y
    return None
