"""Weighted least squares between heatmaps, balanced so that empty maps are no solution."""

from jaxtyping import Float
from torch import Tensor

__all__ = ["heatmap_loss"]


def heatmap_loss(
    heatmaps: Float[Tensor, "*batch N h w"],
    targets: Float[Tensor, "*batch N h w"],
    weights: Float[Tensor, "*batch N"],
) -> Float[Tensor, ""]:
    """Sum the squared differences of heatmaps, each weighted, in units of the target's own energy.

    A Gaussian covers a few of a map's many cells, so a mean over cells is almost the same for the right map and for
    an empty one, and training stops at empty maps. Here the squared differences are summed over the cells and
    divided by the mean energy of the targets: an empty map scores 1, whatever the resolution and the width.

    Args:
        heatmaps: Predicted maps.
        targets: Proxy maps, in [0, 1].
        weights: Weight of each map, 0 for a map that says nothing.

    Returns:
        Mean over the maps, weighted; zero (with zero gradient) when all weights are.

    Source:
        Equation 3 of the keypoint paper kpose implements; the normalisation is ours.

    Example:
        >>> import torch
        >>> target = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
        >>> heatmap_loss(torch.zeros(1, 2, 2), target, torch.ones(1))
        tensor(1.)
    """
    error = (heatmaps - targets).square().sum((-2, -1))
    energy = targets.square().sum((-2, -1))
    tiny = 1e-12
    return (weights * error).sum() / (weights * energy).sum().clamp_min(tiny)
