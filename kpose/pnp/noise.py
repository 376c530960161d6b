"""How many degrees of freedom weighted points have, and the noise that their residuals show."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__: list[str] = []


def freedom(weights: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch"]:
    """Count the degrees of freedom of the residuals, each as often as its point weighs.

    They are ``2 N - 6`` where points weigh one each. In general a point lacks its leverage on the camera, taken to
    be in proportion to its weight up to two: then the camera passes through it.
    """
    ordered = weights.sort(-1, descending=True).values
    tiny = torch.finfo(weights.dtype).tiny
    # With the camera through the 0, 1 or 2 heaviest points; the largest is the one that holds.
    counts = []
    for fixed in range(3):
        rest = ordered[..., fixed:]
        total = rest.sum(-1)
        counts.append(2 * total - (6 - 2 * fixed) * rest.square().sum(-1) / total.clamp_min(tiny))
    return torch.stack(counts).amax(0)


def free_share(weights: Float[Tensor, "*batch N"], free: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Compute the share of all coordinates that the camera leaves free, in [0, 1)."""
    return free / (2 * weights.sum(-1)).clamp_min(torch.finfo(free.dtype).tiny)


def variance(
    weights: Float[Tensor, "P 1 N"],
    free: Float[Tensor, "P 1"],
    trust: Float[Tensor, "P K N"],
    squared: Float[Tensor, "P K N"],
) -> Float[Tensor, "P K"]:
    """Estimate the variance of an inlier's coordinate, from squared residuals and the trust in each."""
    tiny = torch.finfo(free.dtype).tiny
    # Where none is left, that of half a point.
    left = torch.maximum(free - 2 * (weights * (1 - trust)).sum(-1), free_share(weights, free))
    return (weights * trust * squared).sum(-1) / left.clamp_min(tiny)
