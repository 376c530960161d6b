"""Heatmaps: Gaussians drawn around points, and the sub-cell peaks read back from them.

Heatmaps share the one grid of kpose (``align_corners=False``): the map's corners are at ±1 and cell ``(row i,
column j)`` has its center at ``((2j + 1) / w - 1, (2i + 1) / h - 1)``.
"""

import torch
from jaxtyping import Float
from kornia.geometry.subpix import spatial_expectation2d
from torch import Tensor

from kpose._precision import widened
from kpose.geometry.camera import pixels_to_normalized

__all__ = ["gaussian_heatmaps", "heatmap_mean", "heatmap_peaks"]

# Share of the peak under which a cell's value says nothing about the peak's place (and has no logarithm at zero).
_FLOOR = 1e-4


def gaussian_heatmaps(
    points: Float[Tensor, "*batch N 2"], size: tuple[int, int], sigma: float = 0.05
) -> Float[Tensor, "*batch N h w"]:
    """Draw one isotropic Gaussian of peak value 1 for each point.

    Args:
        points: Positions in normalized coordinates (map corners at ±1); they may lie outside the map.
        size: Height and width of the maps, in cells.
        sigma: Standard deviation in normalized units: 0.05 is 1.6 cells of a 64-cell map.

    Returns:
        ``exp(-|p - u|² / (2 sigma²))`` at the cell centers ``p``. A point that is not finite gives a zero map.

    Raises:
        ValueError: If ``sigma`` is not positive.

    Source:
        Gharaee et al., Self-supervised Learning of Object Pose Estimation using Keypoint Prediction, Equation 4.

    Example:
        >>> maps = gaussian_heatmaps(torch.tensor([[0.25, -0.25]]), (4, 4), sigma=1 / 3)
        >>> maps[0, 1]
        tensor([0.0111, 0.3247, 1.0000, 0.3247])
    """
    if not sigma > 0:
        raise ValueError(f"gaussian_heatmaps needs a positive sigma; got {sigma}. Give it in normalized units.")
    height, width = size
    finite = points.isfinite().all(-1, keepdim=True)
    # A finite stand-in keeps the gradient finite; far outside the map the Gaussian is exactly zero.
    points = torch.where(finite, points, 1e3 * (1 + sigma))
    along_x = torch.exp(-((_centers(width, points) - points[..., :1]) / sigma).square() / 2)
    along_y = torch.exp(-((_centers(height, points) - points[..., 1:]) / sigma).square() / 2)
    return along_y[..., :, None] * along_x[..., None, :]


def _centers(count: int, like: Tensor) -> Tensor:
    return (2 * torch.arange(count, dtype=like.dtype, device=like.device) + 1) / count - 1


def heatmap_peaks(
    heatmaps: Float[Tensor, "*batch N h w"],
) -> tuple[Float[Tensor, "*batch N 2"], Float[Tensor, "*batch N"]]:
    """Read the highest peak of each heatmap, to a fraction of a cell.

    A parabola through the logarithm of the 3 × 3 cells around the highest one (summed across the other axis)
    gives the peak: exact for a Gaussian of any width, also where the window touches the border.

    Args:
        heatmaps: Maps whose peak is positive, such as those of `gaussian_heatmaps`; not logits.

    Returns:
        Positions in normalized coordinates, differentiable with respect to the maps, and the value of the highest
        cell as confidence. A map with no positive value gives the center of its (first) highest cell; ties give
        the first. A plateau or a lone cell gives the cell's center.

    Source:
        Zhang et al., Distribution-Aware Coordinate Representation for Human Pose Estimation, CVPR 2020, whose
        second-order expansion of the logarithm is this parabola when the map is a Gaussian.

    Example:
        >>> maps = gaussian_heatmaps(torch.tensor([[0.1, -0.33]]), (32, 32))
        >>> points, confidence = heatmap_peaks(maps)
        >>> points
        tensor([[ 0.1000, -0.3300]])
    """
    height, width = heatmaps.shape[-2:]
    heatmaps = widened(heatmaps)
    flat = heatmaps.flatten(-2)
    confidence, index = flat.max(-1)
    row, column = index // width, index % width
    # At the border the window moves inwards: the parabola need not be centered.
    top, left = (row - 1).clamp(0, max(height - 3, 0)), (column - 1).clamp(0, max(width - 3, 0))
    steps = torch.arange(3, device=index.device)
    rows = (top[..., None] + steps).clamp_max(height - 1)
    columns = (left[..., None] + steps).clamp_max(width - 1)
    cells = (rows[..., :, None] * width + columns[..., None, :]).flatten(-2)
    floor = (_FLOOR * confidence).clamp_min(torch.finfo(flat.dtype).tiny)
    window = flat.gather(-1, cells).clamp_min(floor[..., None]).reshape(*confidence.shape, 3, 3)
    x = _vertex(window.sum(-2), left, column, width)
    y = _vertex(window.sum(-1), top, row, height)
    return pixels_to_normalized(torch.stack((x, y), -1), (height, width)), confidence


def heatmap_mean(heatmaps: Float[Tensor, "*batch N h w"]) -> Float[Tensor, "*batch N 2"]:
    """Average the positions of the cells of each heatmap (the soft-argmax, if the map is a softmax).

    Args:
        heatmaps: Distributions over the cells: not negative, each of sum 1.

    Returns:
        Positions in normalized coordinates, differentiable with respect to the maps.

    Example:
        >>> heatmap_mean(torch.tensor([[[0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]]]))
        tensor([[ 0.0000, -0.5000]])
    """
    height, width = heatmaps.shape[-2:]
    cells = spatial_expectation2d(heatmaps.reshape(1, -1, height, width), normalized_coordinates=False)
    return pixels_to_normalized(cells.reshape(*heatmaps.shape[:-2], 2) + 0.5, (height, width))


def _vertex(values: Tensor, start: Tensor, peak: Tensor, count: int) -> Tensor:
    """Compute the position, in cells, of the peak of a Gaussian given at three cells from ``start`` on."""
    center = peak + 0.5
    if count < 3:
        return center.to(values)
    before, middle, after = values.log().unbind(-1)
    curvature = 2 * middle - before - after
    curved = curvature > 100 * torch.finfo(values.dtype).eps
    shift = (after - before) / (2 * torch.where(curved, curvature, 1.0))
    # Half a cell from the highest cell is as far as its peak can be, but that the border hides its other side.
    inner = (peak > 0) & (peak < count - 1)
    reach = torch.where(inner, 0.5, 1.0).to(values)
    vertex = torch.where(curved, (start + 1.5 + shift), center)
    return vertex.clamp(center - reach, center + reach).clamp(0, count)
