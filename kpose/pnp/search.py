"""Search for the pose and the noise level among outliers, batched over problems and hypotheses."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.pnp.hypotheses import closed_form, draw_samples, mirror_twins, sample_poses
from kpose.pnp.model import (
    Kernel,
    Pose,
    Problem,
    join,
    moment_equations,
    moment_features,
    move,
    select,
    squared_residuals,
)
from kpose.pnp.refinement import solve

__all__: list[str] = []

# Density of outliers times threshold²: with the default threshold of 0.1, one point in four spread over a crop.
_OUTLIERS = 0.01 * (0.25 / 4)
# Inlier noise that the search may settle on, in thresholds; and the ratio of neighbouring levels.
_FINEST, _COARSEST, _RATIO = 1 / 32, 2.0, math.sqrt(2)

# Hypotheses refined for each of the two bounds of the score, and Gauss-Newton steps on each: with 800 samples, 32
# hypotheses and 8 steps the errors on the grid of docs/pnp.md are lower by less than 0.1 degrees.
_KEEP, _ROUNDS = 4, 4


def make_kernel(sigma: Float[Tensor, "P K"], threshold: float) -> Kernel:
    """Give the kernel of a noise level: the density of outliers is fixed by the threshold."""
    return Kernel(sigma, (2 * math.pi * _OUTLIERS / threshold**2 * sigma.square()).log())


def search(problem: Problem, threshold: float, draws: Float[Tensor, "H 4"]) -> tuple[Pose, Kernel]:
    """Find the likeliest pose and noise, from minimal samples that the uniform numbers ``draws`` choose."""
    index = draw_samples(problem.weights, draws)
    pose = sample_poses(problem, index)
    squared = squared_residuals(problem, pose)
    starts = [closed_form(problem)]
    for bound in (threshold, 3 * threshold):
        score = (squared.clamp_max(bound**2) @ problem.weights[..., None])[..., 0]
        starts.append(select(pose, score.topk(min(_KEEP, len(draws)), largest=False).indices))
    pose = join(*starts)
    sigma = torch.full_like(pose.scale, threshold / 2)
    pose, sigma = settle(problem, pose, sigma, threshold)
    best = evidence(problem, pose, sigma, threshold).topk(2).indices
    pose, sigma = select(pose, best), sigma.gather(1, best)
    _, probability = make_kernel(sigma, threshold).parts(squared_residuals(problem, pose))
    # A doubtful point can be outlier at low noise or inlier at higher noise: each pose settles from both sides.
    pose = join(pose, mirror_twins(problem, pose, problem.weights[:, None] * probability), pose)
    sigma = torch.cat((sigma, sigma, sigma / 2), 1)
    pose, sigma = settle(problem, pose, sigma, threshold)
    best = evidence(problem, pose, sigma, threshold).argmax(-1, keepdim=True)
    # On a ladder of levels the final noise does not change with small changes of the points, so that the
    # gradient at the optimum is exact.
    step = (sigma.gather(1, best) / threshold).log2().div(math.log2(_RATIO)).round()
    return select(pose, best), make_kernel(threshold * _RATIO**step, threshold)


def settle(problem: Problem, pose: Pose, sigma: Tensor, threshold: float) -> tuple[Pose, Tensor]:
    """Alternate one Gauss-Newton step on the probable inliers and the estimate of their noise."""
    features = moment_features(problem)
    for _ in range(_ROUNDS):
        squared = squared_residuals(problem, pose)
        weights = problem.weights[:, None] * make_kernel(sigma, threshold).parts(squared)[1]
        # Six degrees of freedom are spent on the pose.
        variance = (weights * squared).sum(-1) / (2 * weights.sum(-1) - 6).clamp_min(1)
        sigma = variance.sqrt().clamp(_FINEST * threshold, _COARSEST * threshold)
        matrix, slope = moment_equations(pose, weights @ features)
        pose = move(pose, solve(matrix, slope, torch.full_like(sigma, 1e-3)))
    return pose, sigma


def evidence(problem: Problem, pose: Pose, sigma: Tensor, threshold: float) -> Float[Tensor, "P K"]:
    """Give the log likelihood of the points, the six pose parameters marginalised (they cost σ^6)."""
    cost, _ = make_kernel(sigma, threshold).parts(squared_residuals(problem, pose))
    weights = problem.weights[:, None]
    return -(weights * (cost + 2 * sigma.log()[..., None])).sum(-1) + 6 * sigma.log()
