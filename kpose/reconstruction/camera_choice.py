"""Choosing among the cameras of an image by their losses."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kpose.geometry import geodesic_distance

__all__ = ["camera_weights", "distinct_best"]


def camera_weights(losses: Float[Tensor, "*batch P"], temperature: float = 0.05) -> Float[Tensor, "*batch P"]:
    """Weigh the cameras of each image by their losses.

    Args:
        losses: Loss of every camera.
        temperature: Temperature of the soft minimum over losses rescaled to [0, 1] for each image; the released
            code's factor 20 is its inverse.

    Returns:
        Positive weights that sum to 1 for each image, without gradient. Equal losses give equal weights.

    Source:
        Seed paper, Eq. 1 (p_k), with the rescaling of Goel et al., ECCV 2020 (released code): raw losses differ by
        hundredths, so that a soft minimum of them would be nearly uniform.

    Example:
        >>> camera_weights(torch.tensor([1.0, 1.1, 2.0])).round(decimals=3)
        tensor([0.8810, 0.1190, 0.0000])
    """
    losses = losses.detach()
    least, most = losses.amin(-1, keepdim=True), losses.amax(-1, keepdim=True)
    return torch.softmax((least - losses) / ((most - least + 1e-6) * temperature), -1)


def distinct_best(
    rotation: Float[Tensor, "N P 3 3"], losses: Float[Tensor, "N P"], keep: int, min_angle: float
) -> Int[Tensor, "N keep"]:
    """Pick cameras by loss, best first; one closer than ``min_angle`` to a picked one comes after all others."""
    remaining = losses.clone()
    picked = []
    for _ in range(keep):
        choice = remaining.argmin(-1)
        picked.append(choice)
        chosen = rotation.gather(1, choice[:, None, None, None].expand(-1, 1, 3, 3)).expand_as(rotation)
        near = geodesic_distance(rotation, chosen) < min_angle
        # Neighbours are put behind every distinct camera, in their own order; what is taken never comes again.
        spread = losses.amax(-1, keepdim=True) - losses.amin(-1, keepdim=True) + 1
        remaining = torch.where(near & (remaining < spread + losses), losses + spread, remaining)
        remaining = remaining.scatter(1, choice[:, None], torch.inf)
    return torch.stack(picked, -1)
