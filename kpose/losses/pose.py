"""Distances between cameras that losses are made of, one value for each image."""

from jaxtyping import Float
from torch import Tensor

__all__ = ["chordal_distance", "quaternion_distance"]


def quaternion_distance(
    first: Float[Tensor, "*batch 4"], second: Float[Tensor, "*batch 4"]
) -> Float[Tensor, "*batch"]:
    """Measure the distance of unit quaternions on the double cover, where ``q`` and ``-q`` are one rotation.

    Half of ``min(|q - r|², |q + r|²)``, which is ``1 - |<q, r>|`` = ``1 - cos(angle / 2)``: continuous over SO(3),
    unlike the distance of quaternions with a fixed sign.

    Args:
        first: Unit quaternions.
        second: Unit quaternions.

    Returns:
        Distances in [0, 1]; 1 at opposite orientations (an angle of π), where the gradient takes one of the two
        ways round.

    Source:
        Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020 (camera loss); the continuous loss of the
        quaternion row of Table 1 of Gharaee et al. 2022.

    Example:
        >>> import torch
        >>> q = torch.tensor([0.0, 1.0, 0.0, 0.0])
        >>> quaternion_distance(q, -q)
        tensor(0.)
    """
    # The smaller squared chord keeps its precision near zero, where 1 - |<q, r>| loses it.
    difference = (first - second).square().sum(-1)
    total = (first + second).square().sum(-1)
    return difference.minimum(total) / 2


def chordal_distance(
    first: Float[Tensor, "*batch 3 3"], second: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch"]:
    """Measure the squared Frobenius distance of rotations, scaled to [0, 1]: ``sin²(angle / 2)``.

    Args:
        first: Rotation matrices.
        second: Rotation matrices.

    Returns:
        ``|first - second|² / 8``, smooth everywhere.

    Source:
        Levinson et al., An Analysis of SVD for Deep Rotation Estimation, NeurIPS 2020, section 3; the factor is
        ours.

    Example:
        >>> import torch
        >>> chordal_distance(torch.eye(3), torch.diag(torch.tensor([1.0, -1.0, -1.0])))
        tensor(1.)
    """
    return (first - second).square().sum((-2, -1)) / 8
