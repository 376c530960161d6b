"""How good the cameras of a multiplex are: the best by loss, and the best that there are."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.geometry import geodesic_distance

__all__ = ["multiplex_error"]


def multiplex_error(
    rotations: Float[Tensor, "N P 3 3"], losses: Float[Tensor, "N P"], truth: Float[Tensor, "N 3 3"]
) -> dict[str, Float[Tensor, "N"]]:
    """Compare the cameras of images with the true ones; the errors bound whatever is learned from these cameras.

    Args:
        rotations: Rotations of the cameras.
        losses: Losses by which one of them is chosen, lower is better.
        truth: True rotations.

    Returns:
        Angles in degrees, one for each image: ``best_deg`` of the camera of least loss, ``top4_deg`` the least
        among the four of least loss, ``best_of_all_deg`` the least among all.

    Example:
        >>> rotations = torch.eye(3).expand(1, 2, 3, 3)
        >>> multiplex_error(rotations, torch.zeros(1, 2), torch.eye(3)[None])["best_deg"].round()
        tensor([0.])
    """
    angles = geodesic_distance(rotations, truth[:, None].expand_as(rotations)) * (180 / math.pi)
    angles = angles.gather(-1, torch.argsort(losses, stable=True, dim=-1))
    return {
        "best_deg": angles[:, 0],
        "top4_deg": angles[:, :4].amin(-1),
        "best_of_all_deg": angles.amin(-1),
    }
