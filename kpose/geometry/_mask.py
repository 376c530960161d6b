"""Silhouettes as masks of pixels."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import max_pool2d

from kpose._precision import common_precision

__all__ = ["connected_regions", "mask_iou", "mask_to_box"]


def connected_regions(mask: Bool[Tensor, "H W"]) -> Int[Tensor, "H W"]:
    """Number the connected regions of a mask; pixels that touch at a corner are connected.

    Args:
        mask: Silhouettes.

    Returns:
        Numbers from 1 on, in the order of the regions' last pixels; 0 outside of the mask.

    Example:
        >>> connected_regions(torch.tensor([[True, False, True], [True, False, False]]))
        tensor([[2, 0, 1],
                [2, 0, 0]])
    """
    # Each pixel takes the highest label around it, then the label of the pixel that this one started from, so that
    # labels travel twice as far in every round. Double precision holds whole numbers up to 2^53.
    labels = torch.arange(1, mask.numel() + 1, dtype=torch.float64, device=mask.device).view_as(mask) * mask
    while True:
        spread = max_pool2d(labels[None], 3, stride=1, padding=1)[0] * mask
        start = torch.cat((spread.new_zeros(1), spread.flatten()))
        spread = start[spread.long()]
        if torch.equal(spread, labels):
            break
        labels = spread
    numbers: Tensor = torch.unique(torch.cat((labels.new_zeros(1), labels.flatten())), return_inverse=True)[1]
    return numbers[1:].view_as(mask)


def mask_iou(
    mask: Float[Tensor, "*batch H W"] | Bool[Tensor, "*batch H W"],
    target_mask: Float[Tensor, "*batch H W"] | Bool[Tensor, "*batch H W"],
    *,
    soft: bool = True,
) -> Float[Tensor, "*batch"]:
    """Measure the intersection over union of two silhouettes for each image.

    Args:
        mask: Silhouettes in [0, 1].
        target_mask: True silhouettes in [0, 1], of the same size and the same crop.
        soft: Keep fractional pixels, ``sum(g m) / sum(g + m - g m)``; otherwise a pixel belongs to the object
            where it is above 0.5.

    Returns:
        Values in [0, 1], differentiable when soft. Two empty masks agree: 1. One empty mask: 0. NaN pixels give
        NaN when soft and count as background when hard.

    Raises:
        ValueError: If the two differ in shape.

    Source:
        Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020 (released benchmark), which takes the mean of
        the soft value over images.

    Example:
        >>> mask_iou(torch.tensor([[1.0, 0.5]]), torch.tensor([[True, False]]))
        tensor(0.6667)
    """
    if mask.shape != target_mask.shape:
        raise ValueError(
            f"mask_iou needs two masks of the same shape; got {tuple(mask.shape)} and {tuple(target_mask.shape)}. "
            "Render at the size of the annotated mask."
        )
    dtype = common_precision(mask, target_mask)
    first, second = mask.to(dtype), target_mask.to(dtype)
    if not soft:
        first, second = (first > 0.5).to(dtype), (second > 0.5).to(dtype)
    overlap = (first * second).sum((-2, -1))
    union = (first + second - first * second).sum((-2, -1))
    empty = union == 0
    return torch.where(empty, 1.0, overlap / torch.where(empty, 1.0, union))


def mask_to_box(mask: Bool[Tensor, "H W"]) -> tuple[float, float, float, float] | None:
    """Compute the box around the pixels of a mask.

    Args:
        mask: Silhouette.

    Returns:
        ``(left, top, right, bottom)`` in pixels, the right and lower edges behind the last pixels; None for a mask
        without pixels.

    Example:
        >>> mask_to_box(torch.tensor([[False, False, True], [False, True, False]]))
        (1.0, 0.0, 3.0, 2.0)
    """
    rows, columns = mask.any(1).nonzero()[:, 0].tolist(), mask.any(0).nonzero()[:, 0].tolist()
    if not rows:
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
