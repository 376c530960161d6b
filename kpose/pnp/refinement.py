"""Damped Newton refinement of weak-perspective cameras, batched over problems and candidates."""

from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kpose.pnp.model import Linearization, Problem, RobustKernel, linearize, move
from kpose.structures import Camera

__all__ = ["refine_camera"]

_Fields = TypeVar("_Fields", Camera, Linearization)

# Largest step of the log scale and of each rotation angle: the quadratic model does not reach further.
REACH = 0.7

# A parameter of which the others leave less over than this many roundings is not determined.
_ROUNDINGS = 300


def refine_camera(
    points_2d: Float[Tensor, "batch N 2"],
    points_3d: Float[Tensor, "batch N 3"],
    weights: Float[Tensor, "batch N"],
    camera: Camera,
    kernel: RobustKernel,
    *,
    steps: int = 20,
) -> Camera:
    """Refine candidate cameras to the nearest optimum of a robust reprojection error, without a search.

    Args:
        points_2d: Image positions, all finite; about zero on average, where float32 is to suffice.
        points_3d: Object points in the same order, object units, all finite.
        weights: Confidence in each point, not negative; zero where a point is absent.
        camera: Candidates, ``(batch, K)``.
        kernel: Likelihood of a point, for each candidate or one for all (``sigma`` of shape ``(1, 1)``).
        steps: Levenberg-Marquardt steps. Only those that lower the cost are taken.

    Returns:
        The refined candidates ``(batch, K)``, without gradients. Parameters that the points say nothing about stay
        where they are.

    Source:
        Levenberg-Marquardt on the scale's logarithm, the translation and SO(3), with the exact Hessian where it is
        positive definite and Gauss-Newton elsewhere.

    Example:
        >>> points = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]])
        >>> start = Camera(torch.ones(1, 1), torch.zeros(1, 1, 2), torch.eye(3).expand(1, 1, 3, 3))
        >>> kernel = RobustKernel(torch.full((1, 1), 0.1), torch.full((1, 1), -24.0))
        >>> refine_camera(0.5 * points[..., :2] + 0.2, points, torch.ones(1, 5), start, kernel).scale
        tensor([[0.5000]])
    """
    with torch.no_grad():
        return descend(Problem(points_2d, points_3d, weights), camera, kernel, steps=steps)[0]


def descend(
    problem: Problem, camera: Camera, kernel: RobustKernel, *, steps: int, damping: float = 1e-3
) -> tuple[Camera, Linearization]:
    """Go to the optimum by Levenberg-Marquardt steps, of which only those that are for the better are taken.

    The exact Hessian replaces Gauss-Newton wherever it is positive definite, so that the last steps converge
    quadratically also where residuals are large. There, rounding hides the decrease of the cost, and a step must
    lower the Newton decrement ``gᵀ H⁻¹ g`` instead, the one measure of the gradient that units do not change.
    """
    ridge = torch.full_like(camera.scale, damping)
    eps = torch.finfo(ridge.dtype).eps
    now = linearize(problem, camera, kernel)
    for _ in range(steps):
        matrix = _where(_positive(now.hessian), now.hessian, now.matrix)
        step = solve(matrix, now.slope, ridge)
        trial = move(camera, step)
        then = linearize(problem, trial, kernel)
        rounding = 100 * eps * (problem.weights.sum(-1, keepdim=True) + now.cost.abs())
        nearer = (then.slope * solve(matrix, then.slope, ridge)).sum(-1) > (now.slope * step).sum(-1)
        better = (then.cost < now.cost - rounding) | ((then.cost <= now.cost + rounding) & nearer)
        ridge = torch.where(better, ridge * 0.01, ridge * 10).clamp(0.1 * eps, 1e6)
        camera, now = _choose(better, trial, camera), _choose(better, then, now)
    return camera, now


def _choose(condition: Tensor, yes: _Fields, no: _Fields) -> _Fields:
    return type(yes)(*(_where(condition, new, old) for new, old in zip(yes, no, strict=True)))


def _where(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(condition.reshape(*condition.shape, *(1,) * (yes.dim() - condition.dim())), yes, no)


def solve(matrix: Tensor, slope: Tensor, damping: Tensor) -> Float[Tensor, "P K 6"]:
    """Solve for the step; parameters the data say nothing about stay where they are."""
    unit = _units(matrix)
    eye = torch.eye(6, dtype=matrix.dtype, device=matrix.device)
    ridge = damping + 10 * torch.finfo(matrix.dtype).eps
    scaled = matrix / (unit[..., :, None] * unit[..., None, :]) + ridge[..., None, None] * eye
    factor, failed = torch.linalg.cholesky_ex(scaled)
    step = -torch.cholesky_solve((slope / unit)[..., None], _where(failed == 0, factor, eye))[..., 0] / unit
    step = _where((failed == 0) & step.isfinite().all(-1), step, torch.zeros_like(step))
    return torch.cat((step[..., :1].clamp(-REACH, REACH), step[..., 1:3], step[..., 3:].clamp(-REACH, REACH)), -1)


def invert(matrix: Float[Tensor, "*batch 6 6"]) -> tuple[Float[Tensor, "*batch 6 6"], Bool[Tensor, "*batch"]]:
    """Invert positive definite matrices and return which are; the unit matrix stands for the others."""
    unit = _units(matrix)
    scale = unit[..., :, None] * unit[..., None, :]
    factor, failed = torch.linalg.cholesky_ex(matrix / scale)
    eye = torch.eye(6, dtype=matrix.dtype, device=matrix.device)
    inverse = torch.cholesky_inverse(_where(failed == 0, factor, eye)) / scale
    left = factor.diagonal(dim1=-2, dim2=-1).square().amin(-1) > _ROUNDINGS * torch.finfo(matrix.dtype).eps
    sound = (failed == 0) & left & inverse.isfinite().all(-1).all(-1)
    return _where(sound, inverse, eye), sound


def _positive(matrix: Tensor) -> Tensor:
    unit = _units(matrix)
    positive: Tensor = torch.linalg.cholesky_ex(matrix / (unit[..., :, None] * unit[..., None, :]))[1] == 0
    return positive


def _units(matrix: Tensor) -> Tensor:
    """Compute each parameter's natural size, so that pixels, radians and logarithms weigh alike in float32."""
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    return torch.where(diagonal > torch.finfo(matrix.dtype).tiny, diagonal, 1.0).sqrt()
