"""Damped Newton refinement of weak-perspective cameras, batched over problems and candidates."""

from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kpose.pnp.elimination import eliminate
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
        inverse = damped_inverse(now, ridge)
        step = newton_step(inverse, now.slope)
        trial = move(camera, step)
        then = linearize(problem, trial, kernel)
        rounding = 100 * eps * (problem.weights.sum(-1, keepdim=True) + now.cost.abs())
        nearer = (then.slope * newton_step(inverse, then.slope)).sum(-1) > (now.slope * step).sum(-1)
        better = (then.cost < now.cost - rounding) | ((then.cost <= now.cost + rounding) & nearer)
        ridge = torch.where(better, ridge * 0.01, ridge * 10).clamp(0.1 * eps, 1e6)
        camera, now = _choose(better, trial, camera), _choose(better, then, now)
    return camera, now


def _choose(condition: Tensor, yes: _Fields, no: _Fields) -> _Fields:
    return type(yes)(*(_where(condition, new, old) for new, old in zip(yes, no, strict=True)))


def _where(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(condition.reshape(*condition.shape, *(1,) * (yes.dim() - condition.dim())), yes, no)


def damped_inverse(now: Linearization, damping: Float[Tensor, "P K"]) -> Float[Tensor, "6 6 P K"]:
    """Invert the Hessian where it is positive definite, else the Gauss-Newton matrix; zero where neither is."""
    both = torch.stack((now.hessian, now.matrix), 0).movedim((-2, -1), (0, 1))  # one elimination for all
    unit = _units(both)
    scale = unit[:, None] * unit
    scaled = both / scale
    ridge = (damping + 10 * torch.finfo(damping.dtype).eps) * _eye(scaled)
    inverse, pivot = eliminate(torch.cat((scaled + ridge, scaled[:, :, :1]), 2))
    usable = (pivot[:2] > 0) & inverse[:, :, :2].isfinite().flatten(0, 1).all(0)
    inverse = torch.where(usable, inverse[:, :, :2] / scale, 0.0)
    return torch.where(pivot[2] > 0, inverse[:, :, 0], inverse[:, :, 1])


def newton_step(inverse: Float[Tensor, "6 6 P K"], slope: Float[Tensor, "P K 6"]) -> Float[Tensor, "P K 6"]:
    """Compute the step; parameters the data say nothing about stay where they are."""
    step = -(inverse * slope.movedim(-1, 0)).sum(1)
    step = torch.cat((step[:1].clamp(-REACH, REACH), step[1:3], step[3:].clamp(-REACH, REACH)))
    return torch.where(step.isfinite().all(0), step, 0.0).movedim(0, -1)


def invert(matrix: Float[Tensor, "batch 6 6"]) -> tuple[Float[Tensor, "batch 6 6"], Bool[Tensor, "batch"]]:
    """Invert positive definite matrices and return which are; the unit matrix stands for the others."""
    matrix = matrix.permute(1, 2, 0)
    unit = _units(matrix)
    scale = unit[:, None] * unit
    inverse, pivot = eliminate(matrix / scale)
    inverse = inverse / scale
    sound = (pivot > _ROUNDINGS * torch.finfo(matrix.dtype).eps) & inverse.isfinite().flatten(0, 1).all(0)
    return torch.where(sound, inverse, _eye(inverse)).permute(2, 0, 1), sound


def _eye(like: Float[Tensor, "6 6 *batch"]) -> Float[Tensor, "6 6 *#batch"]:
    return torch.eye(6, dtype=like.dtype, device=like.device).view(6, 6, *(1,) * (like.dim() - 2))


def _units(matrix: Float[Tensor, "6 6 *batch"]) -> Float[Tensor, "6 *batch"]:
    """Compute each parameter's natural size, so that pixels, radians and logarithms weigh alike in float32."""
    diagonal = matrix.diagonal().movedim(-1, 0)
    return torch.where(diagonal > torch.finfo(matrix.dtype).tiny, diagonal, 1.0).sqrt()
