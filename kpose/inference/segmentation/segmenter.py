"""The interface of segmenters: a picture in, the objects in it out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from kpose.geometry import mask_to_box
from kpose.visualization import from_pillow

__all__ = ["Segment", "Segmenter", "find_masks", "find_objects"]

_SIDE = 512  # of what a segmenter sees: a box needs no more
_MASK_SIDE = 1024  # two looks at a bird see no finer


class Segment(NamedTuple):
    """One object in a picture.

    Example:
        >>> import torch
        >>> Segment(torch.ones(4, 6), score=0.9).mask.shape
        torch.Size([4, 6])
    """

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

    Example:
        >>> import torch
        >>> class Everything(Segmenter):
        ...     def segment(self, image):
        ...         return [Segment(torch.ones(image.shape[1:]), 1.0)]
        >>> find_objects([Image.new("RGB", (40, 30))], Everything())
        [(0.0, 0.0, 40.0, 30.0)]
    """
    found = _likeliest(photos, segmenter, _SIDE)
    return [None if one is None else _enlarged_box(one, photo) for one, photo in zip(found, photos, strict=True)]


def find_masks(photos: Sequence[Image.Image], segmenter: Segmenter) -> list[Image.Image | None]:
    """Find the pixels of the likeliest object in each of several photos.

    Args:
        photos: Upright photos; large ones are scaled down for the segmenter.
        segmenter: What finds objects.

    Returns:
        For each photo a mask of its size, of mode ``L``, 255 where the object is and 0 elsewhere; None if there is
        no object.

    Example:
        >>> import torch
        >>> class Everything(Segmenter):
        ...     def segment(self, image):
        ...         return [Segment(torch.ones(image.shape[1:]), 1.0)]
        >>> [mask] = find_masks([Image.new("RGB", (40, 30))], Everything())
        >>> mask.size, mask.getpixel((0, 0))
        ((40, 30), 255)
    """
    found = _likeliest(photos, segmenter, _MASK_SIDE)
    return [None if one is None else _enlarged_mask(one, photo) for one, photo in zip(found, photos, strict=True)]


def _likeliest(photos: Sequence[Image.Image], segmenter: Segmenter, side: int) -> list[Segment | None]:
    """Return the first object with a box in each photo, scaled down to a side."""
    small = [photo.copy() for photo in photos]
    for picture in small:
        picture.thumbnail((side, side))
    segments = segmenter.segment_all([from_pillow(picture) for picture in small])
    return [next((one for one in each if one.box is not None), None) for each in segments]


def _enlarged_box(segment: Segment, photo: Image.Image) -> tuple[float, float, float, float]:
    """Return the box in the pixels of the photo."""
    assert segment.box is not None
    height, width = segment.mask.shape
    x, y = photo.width / width, photo.height / height
    left, top, right, bottom = segment.box
    return left * x, top * y, right * x, bottom * y


def _enlarged_mask(segment: Segment, photo: Image.Image) -> Image.Image:
    """Return the mask in the pixels of the photo."""
    shares = Image.fromarray((segment.mask * 255).round().byte().cpu().numpy())
    return shares.resize(photo.size, Image.Resampling.BILINEAR).point(lambda share: 255 * (share > 127))
