"""Rotations: maps onto SO(3), conversions, distances and sampling.

Rotations are matrices ``(..., 3, 3)`` that take the object frame to the camera frame. Quaternions are
``(w, x, y, z)``; `roma` puts the scalar last, so it is converted at every call. Everything is differentiable
and takes any leading dimensions.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import ParamSpec, cast

import roma
import torch
from jaxtyping import Float
from torch import Tensor

from kpose._precision import common_precision
from kpose.geometry._eigenvector import nearest_quaternion

__all__ = [
    "axis_angle_to_matrix",
    "geodesic_distance",
    "gram_schmidt",
    "matrix_to_axis_angle",
    "matrix_to_quaternion",
    "matrix_to_viewpoint",
    "mirror_points",
    "mirror_rotation",
    "procrustes",
    "quaternion_to_matrix",
    "random_rotation",
    "rotation_grid",
    "viewpoint_to_matrix",
]

_P = ParamSpec("_P")


def _widened(function: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
    """Compute in float32 what comes in half precision, also under autocast, and give it back as it came."""

    @functools.wraps(function)
    def wide(*args: _P.args, **kwargs: _P.kwargs) -> Tensor:
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        dtype = functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors))
        with torch.autocast(tensors[0].device.type, enabled=False):
            working = common_precision(*tensors)
            widened = [arg.to(working) if isinstance(arg, Tensor) else arg for arg in args]
            return function(*widened, **kwargs).to(dtype)  # type: ignore[arg-type]

    return wide


def _shortened(vector: Tensor) -> Tensor:
    """Divide long vectors by their largest entry, whose squares would overflow."""
    return vector / vector.detach().abs().amax(-1, keepdim=True).clamp_min(1)


@_widened
def quaternion_to_matrix(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Convert quaternions of any positive length to rotation matrices.

    Args:
        quaternion: Quaternions ``(w, x, y, z)``, not necessarily of unit length.

    Returns:
        Rotation matrices. A quaternion of (almost) zero length gives the identity with a finite gradient.

    Example:
        >>> quaternion_to_matrix(torch.tensor([0.0, 0.0, 0.0, 2.0])).diagonal()
        tensor([-1., -1.,  1.])
    """
    quaternion = _shortened(quaternion)
    length = quaternion.square().sum(-1, keepdim=True)
    tiny = length < torch.finfo(quaternion.dtype).tiny
    identity = torch.eye(4, dtype=quaternion.dtype, device=quaternion.device)[0]
    unit = torch.where(tiny, identity, quaternion) * torch.where(tiny, 1.0, length).rsqrt()
    rotation: Tensor = roma.unitquat_to_rotmat(roma.quat_wxyz_to_xyzw(unit))
    return rotation


@_widened
def matrix_to_quaternion(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Convert rotation matrices to unit quaternions.

    Args:
        rotation: Rotation matrices.

    Returns:
        Unit quaternions ``(w, x, y, z)`` with ``w >= 0``.

    Example:
        >>> matrix_to_quaternion(torch.eye(3))
        tensor([1., 0., 0., 0.])
    """
    quaternion = roma.quat_xyzw_to_wxyz(roma.rotmat_to_unitquat(rotation))
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


@_widened
def axis_angle_to_matrix(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Map rotation vectors onto rotations (exponential map).

    Args:
        axis_angle: Axis times angle in radians; the zero vector is the identity, gradients there are exact.

    Returns:
        Rotation matrices.

    Example:
        >>> axis_angle_to_matrix(torch.zeros(3)).trace()
        tensor(3.)
    """
    rotation: Tensor = roma.rotvec_to_rotmat(axis_angle)
    return rotation


@_widened
def matrix_to_axis_angle(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Map rotations onto rotation vectors (logarithm map).

    Args:
        rotation: Rotation matrices.

    Returns:
        Axis times angle, angle in [0, π] radians. At exactly π either of the two opposite axes is returned.

    Example:
        >>> matrix_to_axis_angle(torch.eye(3))
        tensor([0., 0., 0.])
    """
    axis_angle: Tensor = roma.rotmat_to_rotvec(rotation)
    return axis_angle


@_widened
def gram_schmidt(raw: Float[Tensor, "*batch 6"], *, epsilon: float = 1e-6) -> Float[Tensor, "*batch 3 3"]:
    """Map six numbers onto a rotation by partial Gram-Schmidt.

    Args:
        raw: First *column* of the matrix (three numbers), then a vector that fixes the plane of the second.
        epsilon: Length under which the first vector counts as zero, and share of its length that the second must
            have beside the first.

    Returns:
        Rotation matrices. Where the columns are zero or collinear the rotation is arbitrary among those that
        keep the first column, and value and gradient stay finite.

    Source:
        Zhou et al., On the Continuity of Rotation Representations in Neural Networks, CVPR 2019, Eq. 15.

    Example:
        >>> gram_schmidt(torch.tensor([2.0, 0.0, 0.0, 1.0, 3.0, 0.0]))
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])
    """
    first, second = _shortened(raw[..., :3]), _shortened(raw[..., 3:])
    x = _unit(first, torch.eye(3, dtype=raw.dtype, device=raw.device)[0], epsilon)
    # The axis least aligned with x replaces a second column that carries no direction of its own.
    least = torch.nn.functional.one_hot(x.detach().abs().argmin(-1), 3).to(raw)
    fallback = _unit(least - (least * x).sum(-1, keepdim=True) * x, least, epsilon)
    length = second.detach().norm(dim=-1, keepdim=True)
    y = _unit(second - (second * x).sum(-1, keepdim=True) * x, fallback, epsilon * length.clamp_min(epsilon))
    # What is left of nearly collinear columns is partly rounding: a second pass makes it orthogonal.
    y = _unit(y - (y * x).sum(-1, keepdim=True) * x, fallback, epsilon)
    return torch.stack((x, y, torch.linalg.cross(x, y)), -1)


def _unit(vector: Tensor, fallback: Tensor, epsilon: float | Tensor) -> Tensor:
    length = vector.square().sum(-1, keepdim=True)
    tiny = length < epsilon**2
    return torch.where(tiny, fallback, vector * torch.where(tiny, 1.0, length).rsqrt())


@_widened
def procrustes(raw: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Project matrices onto the nearest rotations (special orthogonal Procrustes).

    Args:
        raw: Any matrices.

    Returns:
        Rotations nearest in Frobenius norm. Where the nearest rotation is not unique (the zero matrix, two equal
        smallest singular values with a negative determinant) one of them is returned; gradients stay finite.

    Source:
        Levinson et al., An Analysis of SVD for Deep Rotation Estimation, NeurIPS 2020, Eq. 2.

    Example:
        >>> procrustes(3 * torch.eye(3)).diagonal()
        tensor([1., 1., 1.])
    """
    if torch.compiler.is_compiling() and not torch.is_grad_enabled():  # roma's operations are not exporters'
        return quaternion_to_matrix(nearest_quaternion(raw))
    if not torch.compiler.is_compiling() and torch.is_inference_mode_enabled():
        # roma 1.8 keeps a constant of its first call; made in inference mode, training could not use it.
        with torch.inference_mode(False), torch.no_grad():
            return cast(Tensor, roma.special_procrustes(raw))
    rotation: Tensor = roma.special_procrustes(raw)
    return rotation


@_widened
def geodesic_distance(
    first: Float[Tensor, "*batch 3 3"], second: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch"]:
    """Measure the angle of the rotation between two rotations.

    The chord and asin are used, never the acos of a trace, which loses every angle below 3e-4 rad in float32.

    Args:
        first: Rotation matrices.
        second: Rotation matrices.

    Returns:
        Angles in [0, π] radians, with a zero gradient where the two are equal.

    Source:
        Hartley et al., Rotation Averaging, IJCV 2013, section 4.

    Example:
        >>> turned = axis_angle_to_matrix(torch.tensor([1e-3, 0.0, 0.0]))
        >>> round(geodesic_distance(torch.eye(3), turned).item(), 7)
        0.001
    """
    tiny = torch.finfo(first.dtype).tiny
    relative = first.mT @ second
    trace = relative.diagonal(dim1=-2, dim2=-1).sum(-1)
    half_sine = (first - second).square().sum((-2, -1)).clamp_min(tiny).sqrt() / math.sqrt(8)
    # 1 + trace cancels as the angle nears π; there the skew part gives cos(a/2) = sin(a) / (2 sin(a/2)).
    sine = (relative - relative.mT).square().sum((-2, -1)).clamp_min(tiny).sqrt() / math.sqrt(8)
    near = trace > 0
    half_cosine = torch.where(
        near, (1 + torch.where(near, trace, 0.0)).sqrt() / 2, sine / (2 * torch.where(near, 1.0, half_sine))
    )
    return 2 * torch.atan2(half_sine, half_cosine)


@_widened
def viewpoint_to_matrix(
    azimuth: Float[Tensor, "*batch"], elevation: Float[Tensor, "*batch"], roll: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 3 3"]:
    """Build the rotation of an object seen from a viewpoint.

    ``R = R_z(roll) R_x(elevation) R_y(azimuth) R_x(90°)``: at zero the object's +x points right in the image,
    its +z up and its +y away from the viewer, so a bird (beak at -y) looks at the viewer.

    Args:
        azimuth: Turn about the object's up axis, in radians.
        elevation: Height of the viewer above the object's horizon, in radians, within ±π/2: positive is from
            above.
        roll: Turn in the image plane, in radians, from image right toward image down.

    Returns:
        Rotation matrices, object frame to camera frame.

    Source:
        The grid of Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020: q = q_el · q_az · q_base.

    Example:
        >>> zero = torch.zeros(())
        >>> (viewpoint_to_matrix(zero, zero, zero) @ torch.tensor([0.0, 0.0, 1.0])).round()
        tensor([ 0., -1.,  0.])
    """
    angles = torch.stack(torch.broadcast_tensors(azimuth, elevation, roll))  # type: ignore[no-untyped-call]
    (cos_a, cos_e, cos_r), (sin_a, sin_e, sin_r) = angles.cos(), angles.sin()
    # The first two rows of R_x(elevation) R_y(azimuth) R_x(90°), which roll turns into each other.
    first = torch.stack((cos_a, sin_a, torch.zeros_like(cos_a)), -1)
    second = torch.stack((sin_e * sin_a, -sin_e * cos_a, -cos_e), -1)
    third = torch.stack((-cos_e * sin_a, cos_e * cos_a, -sin_e), -1)
    cos_r, sin_r = cos_r[..., None], sin_r[..., None]
    return torch.stack((cos_r * first - sin_r * second, sin_r * first + cos_r * second, third), -2)


def matrix_to_viewpoint(
    rotation: Float[Tensor, "*batch 3 3"],
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Split rotations into azimuth, elevation and roll, the inverse of `viewpoint_to_matrix`.

    Args:
        rotation: Rotation matrices, object frame to camera frame.

    Returns:
        Azimuth in (-π, π], elevation in [-π/2, π/2], roll in (-π, π], in radians. At the poles (elevation ±π/2)
        azimuth and roll are not unique; roll is then zero.

    Example:
        >>> angles = torch.tensor(0.3), torch.tensor(-0.2), torch.tensor(0.1)
        >>> [round(a.item(), 4) for a in matrix_to_viewpoint(viewpoint_to_matrix(*angles))]
        [0.3, -0.2, 0.1]
    """
    # R = Rz(r) Rx(e) Ry(a) Rx(90°). The object's up axis is Rz Rx(e) applied to image up: (0, -1, 0).
    up = rotation[..., :, 2]
    elevation = torch.atan2(-up[..., 2], up[..., :2].norm(dim=-1))
    flat = up[..., :2].square().sum(-1) < (100 * torch.finfo(rotation.dtype).eps) ** 2
    roll = torch.where(flat, 0.0, torch.atan2(up[..., 0], -up[..., 1]))
    level = viewpoint_to_matrix(torch.zeros_like(roll), elevation, roll)
    turn = level.mT @ rotation
    return torch.atan2(turn[..., 0, 1], turn[..., 0, 0]), elevation, roll


def mirror_rotation(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the rotation seen in the mirrored image of an object that is symmetric about ``x = 0``.

    Args:
        rotation: Rotation matrices.

    Returns:
        ``M R M`` with ``M = diag(-1, 1, 1)``; for quaternions ``(w, x, y, z) -> (w, x, -y, -z)``.

    Example:
        >>> turned = axis_angle_to_matrix(torch.tensor([0.0, 0.0, 0.5]))
        >>> torch.allclose(mirror_rotation(turned), turned.mT)
        True
    """
    mirror = 1 - 2 * torch.eye(3, dtype=rotation.dtype, device=rotation.device)[0]
    return mirror[:, None] * rotation * mirror


def mirror_points(points: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
    """Return points mirrored at ``x = 0``.

    Args:
        points: Positions of any dimension, x first.

    Returns:
        The positions with x negated.

    Example:
        >>> mirror_points(torch.tensor([0.25, 0.5]))
        tensor([-0.2500,  0.5000])
    """
    return torch.cat((-points[..., :1], points[..., 1:]), -1)


def random_rotation(
    size: Sequence[int] = (),
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "*batch 3 3"]:
    """Draw rotations uniformly from SO(3).

    Args:
        size: Leading dimensions.
        generator: Source of randomness; it must live on ``device``.
        dtype: Floating-point type, torch's default if not given.
        device: Device of the result.

    Returns:
        Rotation matrices.

    Source:
        Normalized Gaussian quaternions are uniform on the sphere (Marsaglia 1972).

    Example:
        >>> random_rotation((2,), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 3])
    """
    quaternion = torch.randn((*size, 4), generator=generator, dtype=dtype, device=device)
    return quaternion_to_matrix(quaternion)


def rotation_grid(count: int) -> Float[Tensor, "count 3 3"]:
    """Spread rotations evenly over SO(3), always the same ones.

    Args:
        count: How many; any rotation is within about 20° of the nearest of 2,000.

    Returns:
        The rotations.

    Raises:
        ValueError: If the number is not positive.

    Source:
        Alexa, Super-Fibonacci Spirals: Fast, Low-Discrepancy Sampling of SO(3), CVPR 2022, Algorithm 1.

    Example:
        >>> rotation_grid(100).mean(0).abs().max() < 0.05
        tensor(True)
    """
    if count < 1:
        raise ValueError(f"rotation_grid needs a positive number of rotations; got {count}. Change it.")
    step = torch.arange(count, dtype=torch.float64) + 0.5
    inner, outer = (step / count).sqrt(), (1 - step / count).sqrt()
    # The root of 2, and the positive root of x⁴ = x + 4.
    alpha, beta = (2 * math.pi * step / ratio for ratio in (math.sqrt(2), 1.533751168755204288118041))
    quaternion = torch.stack((inner * alpha.sin(), inner * alpha.cos(), outer * beta.sin(), outer * beta.cos()), -1)
    return quaternion_to_matrix(quaternion).float()
