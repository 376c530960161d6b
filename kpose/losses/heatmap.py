"""Distances of heatmaps, all such that empty maps are no solution."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["heatmap_divergence", "heatmap_loss"]


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


def heatmap_divergence(
    logits: Float[Tensor, "*batch N h w"],
    targets: Float[Tensor, "*batch N h w"],
    weights: Float[Tensor, "*batch N"],
) -> Float[Tensor, ""]:
    """Measure how much the targets, as distributions over the cells, diverge from those that logits stand for.

    ``KL(t / Σt ‖ softmax(logits))``: what is compared is where, not how much, so an empty map is not on the way.

    Args:
        logits: Predicted maps; any real numbers.
        targets: Proxy maps, not negative. One that is zero everywhere does not count.
        weights: Weight of each map, 0 for a map that says nothing.

    Returns:
        Mean over the maps, weighted, in nats; zero (with zero gradient) when all weights are.

    Source:
        Nibali et al., Numerical Coordinate Regression with Convolutional Neural Networks, 2018, section 3.3.

    Example:
        >>> import torch
        >>> target = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
        >>> heatmap_divergence(torch.zeros(1, 2, 2), target, torch.ones(1)).exp()
        tensor(4.)
    """
    predicted = logits.flatten(-2).log_softmax(-1)
    total = targets.flatten(-2).sum(-1, keepdim=True)
    tiny = torch.finfo(targets.dtype).tiny
    wanted = targets.flatten(-2) / total.clamp_min(tiny)
    divergence = (torch.special.xlogy(wanted, wanted) - wanted * predicted).sum(-1)
    return weighted_mean(divergence, weights * (total[..., 0] > 0))


def weighted_mean(values: Float[Tensor, "*batch"], weights: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """Average values; zero when all weights are."""
    return (weights * values).sum() / weights.sum().clamp_min(1e-12)
