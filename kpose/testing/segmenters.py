"""The contract of segmenters."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.inference.segmentation import Segmenter
from kpose.testing.expect import Expect, expecting

__all__ = ["check_segmenter"]


def check_segmenter(segmenter: Segmenter, images: Sequence[Float[Tensor, "3 _ _"]] = ()) -> None:
    """Check that a segmenter keeps the contract of `Segmenter`.

    Objects come as masks of the picture's size in [0, 1] with scores in [0, 1], the likeliest first; the same
    picture gives the same objects whatever came between, and is left as it is; a black picture and noise are no
    errors.

    Args:
        segmenter: Segmenter.
        images: Pictures beside a black one and noise; in each of them it has to find an object.

    Raises:
        AssertionError: If the segmenter breaks a rule; the message names it.

    Example:
        >>> from kpose.inference.segmentation import Segment
        >>> class Bright(Segmenter):
        ...     def segment(self, image):
        ...         return [Segment((image.mean(0) > 0.5).float(), 1.0)] if image.max() > 0.5 else []
        >>> picture = torch.zeros(3, 40, 60)
        >>> picture[:, 10:30, 20:45] = 1
        >>> check_segmenter(Bright(), [picture])
    """
    expect = expecting("A segmenter")
    noise = torch.rand(3, 50, 70, generator=torch.Generator().manual_seed(0))
    for image in (torch.zeros(3, 40, 60), noise, *images):
        _check_segments(expect, segmenter, image)
    for image in images:
        expect(len(segmenter.segment(image)) > 0, "to find an object in every picture that it is given here")


def _check_segments(expect: Expect, segmenter: Segmenter, image: Tensor) -> None:
    before = image.clone()
    segments = segmenter.segment(image)
    expect(isinstance(segments, list), f"to return a list; got {type(segments).__name__}")
    expect(torch.equal(image, before), "to leave the picture as it is")
    for segment in segments:
        shape, size = tuple(segment.mask.shape), tuple(image.shape[1:])
        expect(shape == size, f"masks of the picture's size, {size}; got {shape}")
        expect(bool((segment.mask >= 0).all() & (segment.mask <= 1).all()), "masks in [0, 1]")
        expect(0 <= segment.score <= 1, f"scores in [0, 1]; got {segment.score}")
    scores = [segment.score for segment in segments]
    expect(scores == sorted(scores, reverse=True), f"the likeliest object first; got scores {scores}")
    segmenter.segment(image.flip(-1))
    again = segmenter.segment(image)
    same = len(again) == len(segments) and all(
        torch.equal(one.mask, other.mask) for one, other in zip(segments, again, strict=True)
    )
    expect(same, "the same objects of the same picture, whatever came between")
