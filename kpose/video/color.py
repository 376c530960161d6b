"""What an object looks like by its colors alone, and where in the next frame the same pixels are."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, avg_pool3d, conv2d

from kpose.geometry import mask_to_box

__all__ = ["color_histogram", "color_share", "color_similarity", "find_shift"]

_NUM_BINS = 16
_MAX_TEMPLATE_PIXELS = 1024  # of the picture that is searched for: the search costs as many products a position


def color_histogram(image: Float[Tensor, "3 H W"], mask: Bool[Tensor, "H W"]) -> Float[Tensor, "bins"]:
    """Compute the shares of the colors of some pixels, neighboring colors together; zero without pixels."""
    counts = torch.bincount(_bins(image)[mask], minlength=_NUM_BINS**3).to(image)
    cube = counts.view(1, 1, _NUM_BINS, _NUM_BINS, _NUM_BINS)
    counts = avg_pool3d(cube, 3, stride=1, padding=1).flatten()
    return counts / counts.sum().clamp_min(1e-6)


def color_share(
    image: Float[Tensor, "3 H W"], inside: Float[Tensor, "bins"], outside: Float[Tensor, "bins"]
) -> Float[Tensor, "H W"]:
    """Compute how much likelier each pixel's color is on an object than beside it, from their histograms.

    Values are in [0, 1], averaged over neighbors; one half for colors of neither.
    """
    floor = 0.01 / _NUM_BINS**3
    share = ((inside + floor) / (inside + outside + 2 * floor))[_bins(image)]
    mean: Tensor = avg_pool2d(share[None, None], 3, stride=1, padding=1, count_include_pad=False)[0, 0]
    return mean


def color_similarity(first: Float[Tensor, "bins"], second: Float[Tensor, "bins"]) -> float:
    """Compute the Bhattacharyya coefficient of two histograms: 1 for equal ones."""
    return float((first * second).sqrt().sum())


def find_shift(
    before: Float[Tensor, "3 H W"], after: Float[Tensor, "3 H W"], mask: Bool[Tensor, "H W"], reach: int
) -> tuple[int, int]:
    """Find where the pixels of a mask went: the shift under which the two pictures differ least there.

    The shift is to the right and down, by at most ``reach`` pixels: a multiple of two or more for large objects.
    The mask has a pixel at least; parts that leave the picture are compared with its edge.
    """
    box = mask_to_box(mask)
    assert box is not None
    left, top, right, bottom = (int(number) for number in box)
    step = 1
    while (right - left) * (bottom - top) > _MAX_TEMPLATE_PIXELS * step**2:
        step += 1
    reach = max(reach // step, 1)
    template = avg_pool2d(before[None, :, top:bottom, left:right], step, ceil_mode=True, count_include_pad=False)
    weight = avg_pool2d(mask[None, None, top:bottom, left:right].to(before), step, ceil_mode=True)
    margin = reach * step
    wide = torch.nn.functional.pad(after[None], (margin, margin + step, margin, margin + step), mode="replicate")
    window = wide[:, :, top : bottom + 2 * margin + step, left : right + 2 * margin + step]
    window = avg_pool2d(window, step)
    # Sum of w (I - T)² over the object, without the term that does not depend on the shift.
    squared = conv2d(window.square().sum(1, keepdim=True), weight)
    cost = (squared - 2 * conv2d(window, weight * template))[0, 0, : 2 * reach + 1, : 2 * reach + 1]
    # Of equal ones the smallest shift is taken.
    away = torch.arange(-reach, reach + 1).to(cost)
    cost = cost + 1e-4 * weight.sum() * (away.square()[:, None] + away.square()) / reach**2
    row, column = divmod(int(cost.argmin()), 2 * reach + 1)
    return (column - reach) * step, (row - reach) * step


def _bins(image: Tensor) -> Tensor:
    red, green, blue = (image.clamp(0, 1) * _NUM_BINS).long().clamp_max(_NUM_BINS - 1).unbind()
    return (red * _NUM_BINS + green) * _NUM_BINS + blue
