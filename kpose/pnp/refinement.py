"""Damped Gauss-Newton refinement of weak-perspective poses, batched over problems and candidates."""

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.pnp.model import Kernel, Pose, Problem, curvature, gauss_newton, gradient, move, view

__all__: list[str] = []

# Largest step of the log scale and of each rotation angle: the quadratic model does not reach further.
_REACH = 0.7


def refine(problem: Problem, pose: Pose, kernel: Kernel, *, steps: int, newton: bool = False) -> Pose:
    """Lower the robust cost by Levenberg-Marquardt steps, of which only those that lower it are taken.

    With ``newton`` the exact Hessian replaces Gauss-Newton wherever it is positive definite, so that the last steps
    converge quadratically also where residuals are large.
    """
    damping = torch.full_like(pose.scale, 1e-3)
    cost, slope, matrix = _linearize(problem, pose, kernel, newton)
    for _ in range(steps):
        step = solve(matrix, slope, damping)
        trial = move(pose, step)
        trial_cost, trial_slope, trial_matrix = _linearize(problem, trial, kernel, newton)
        better = trial_cost <= cost
        damping = torch.where(better, damping * 0.1, damping * 10).clamp(1e-9, 1e6)
        pose = Pose(*(_where(better, new, old) for new, old in zip(trial, pose, strict=True)))
        cost = torch.where(better, trial_cost, cost)
        slope, matrix = _where(better, trial_slope, slope), _where(better, trial_matrix, matrix)
    return pose


def polish(problem: Problem, pose: Pose, kernel: Kernel, *, steps: int) -> Pose:
    """Take Newton steps that lower the gradient: near the optimum rounding hides the decrease of the cost."""
    _, slope, matrix = _linearize(problem, pose, kernel, newton=True)
    for _ in range(steps):
        step = solve(matrix, slope, torch.zeros_like(pose.scale))
        trial = move(pose, step)
        _, trial_slope, trial_matrix = _linearize(problem, trial, kernel, newton=True)
        better = (trial_slope * solve(matrix, trial_slope, torch.zeros_like(pose.scale))).sum(-1) > (
            slope * step
        ).sum(-1)
        pose = Pose(*(_where(better, new, old) for new, old in zip(trial, pose, strict=True)))
        slope, matrix = _where(better, trial_slope, slope), _where(better, trial_matrix, matrix)
    return pose


def _where(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(condition.reshape(*condition.shape, *(1,) * (yes.dim() - condition.dim())), yes, no)


def _linearize(problem: Problem, pose: Pose, kernel: Kernel, newton: bool) -> tuple[Tensor, Tensor, Tensor]:
    terms, residual = view(problem, pose)
    cost, probability = kernel.parts(residual.square().sum(-1))
    weights = problem.weights[:, None]
    matrix = gauss_newton(terms, weights * probability)
    if newton:
        exact = matrix + curvature(terms, residual, weights, probability, kernel)
        positive = (
            torch.linalg.cholesky_ex(exact + 1e-6 * torch.diag_embed(exact.diagonal(dim1=-2, dim2=-1)))[1] == 0
        )
        matrix = _where(positive, exact, matrix)
    return (weights * cost).sum(-1), gradient(terms, residual, weights * probability), matrix


def solve(matrix: Tensor, slope: Tensor, damping: Tensor) -> Float[Tensor, "P K 6"]:
    """Solve for the step; parameters the data say nothing about stay where they are."""
    diagonal = matrix.diagonal(dim1=-2, dim2=-1).clamp_min(0)
    floor = diagonal.amax(-1, keepdim=True) * torch.finfo(matrix.dtype).eps + torch.finfo(matrix.dtype).tiny
    damped = matrix + torch.diag_embed(damping[..., None] * diagonal + floor)
    factor, failed = torch.linalg.cholesky_ex(damped)
    eye = torch.eye(6, dtype=matrix.dtype, device=matrix.device)
    step = -torch.cholesky_solve(slope[..., None], _where(failed == 0, factor, eye))[..., 0]
    step = _where((failed == 0) & step.isfinite().all(-1), step, torch.zeros_like(step))
    return torch.cat(
        (step[..., :1].clamp(-_REACH, _REACH), step[..., 1:3], step[..., 3:].clamp(-_REACH, _REACH)), -1
    )
