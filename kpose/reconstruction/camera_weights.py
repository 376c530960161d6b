"""Weights and choice among the cameras of an image."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kpose.geometry import geodesic_distance

__all__ = ["camera_weights", "distinct_best", "rescale"]


def camera_weights(losses: Float[Tensor, "*batch P"], temperature: float = 0.05) -> Float[Tensor, "*batch P"]:
    """Weigh the cameras of each image by a soft minimum of their losses rescaled to [0, 1], without gradient.

    The released code's factor 20 is the inverse of the temperature. Equal losses give equal weights.

    Source:
        Gharaee et al. 2022, Eq. 1 (p_k), with the rescaling of Goel et al., ECCV 2020 (released code): raw losses
        differ by hundredths, so that a soft minimum of them would be nearly uniform.

    Example:
        >>> camera_weights(torch.tensor([1.0, 1.1, 2.0])).round(decimals=3)
        tensor([0.8810, 0.1190, 0.0000])
    """
    return torch.softmax(-rescale(losses.detach()) / temperature, -1)


def rescale(values: Float[Tensor, "*batch P"]) -> Float[Tensor, "*batch P"]:
    """Bring the values of each image to [0, 1]; equal ones to 0."""
    least, most = values.amin(-1, keepdim=True), values.amax(-1, keepdim=True)
    return (values - least) / (most - least).clamp_min(1e-6)


def distinct_best(
    rotation: Float[Tensor, "N P 3 3"], order: Int[Tensor, "N P"], keep: int, min_angle: float
) -> Int[Tensor, "N keep"]:
    """Pick the first cameras in order; one closer than ``min_angle`` to a picked one comes after all others."""
    count = order.shape[1]
    rank = order.argsort(-1)
    place = rank
    picked = []
    for _ in range(keep):
        choice = place.argmin(-1)
        picked.append(choice)
        chosen = rotation.gather(1, choice[:, None, None, None].expand(-1, 1, 3, 3)).expand_as(rotation)
        near = geodesic_distance(rotation, chosen) < min_angle
        place = torch.where(near & (place < count), rank + count, place)
        place = place.scatter(1, choice[:, None], 2 * count)  # what is taken never comes again
    return torch.stack(picked, -1)
