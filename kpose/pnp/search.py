"""Search for the pose and the noise level among outliers, batched over problems and hypotheses."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.geometry.rotation import axis_angle_to_matrix
from kpose.pnp.hypotheses import closed_form, draw_samples, mirror_twins, sample_poses
from kpose.pnp.model import Kernel, Pose, Problem, Products, join, products, select
from kpose.pnp.refinement import REACH

__all__: list[str] = []

# Density of outliers times threshold²: with the default threshold of 0.1, one point in four spread over a crop.
_OUTLIERS = 0.01 * (0.25 / 4)
# Inlier noise that the search may settle on, in thresholds; and the ratio of neighbouring levels.
_FINEST, _COARSEST, _RATIO = 1 / 32, 2.0, math.sqrt(2)

# Truncation of the score in thresholds, hypotheses refined, and Gauss-Newton steps before and after the mirror
# twins join. With 800 samples, 32 hypotheses and 8 steps each, no error on the grid of docs/pnp.md is lower.
_BOUND, _KEEP, _ROUNDS = 1.5, 6, (3, 4)
_DAMPING = 1.001


def make_kernel(sigma: Float[Tensor, "P K"], threshold: float) -> Kernel:
    """Give the kernel of a noise level: the density of outliers is fixed by the threshold."""
    return Kernel(sigma, (2 * math.pi * _OUTLIERS / threshold**2 * sigma.square()).log())


def search(problem: Problem, threshold: float, draws: Float[Tensor, "H 4"]) -> tuple[Pose, Kernel]:
    """Find the likeliest pose and noise, from minimal samples that the uniform numbers ``draws`` choose."""
    points = products(problem)
    pose = sample_poses(problem, draw_samples(problem.weights, draws))
    squared = points.squared_residuals(pose)
    score = (squared.clamp_max((_BOUND * threshold) ** 2) @ problem.weights[..., None])[..., 0]
    best = score.topk(min(_KEEP, len(draws)), largest=False).indices
    pose = join(closed_form(problem), select(pose, best))
    sigma = torch.full_like(pose.scale, threshold / 2)
    pose, sigma = settle(points, problem.weights, pose, sigma, threshold, _ROUNDS[0])
    best = evidence(points, problem.weights, pose, sigma, threshold).topk(2).indices
    pose, sigma = select(pose, best), sigma.gather(1, best)
    probability = make_kernel(sigma, threshold).probability(points.squared_residuals(pose))
    # A doubtful point can be outlier at low noise or inlier at higher noise: each pose settles from both sides.
    pose = join(pose, mirror_twins(problem, pose, problem.weights[:, None] * probability), pose)
    sigma = torch.cat((sigma, sigma, sigma / 2), 1)
    pose, sigma = settle(points, problem.weights, pose, sigma, threshold, _ROUNDS[1])
    best = evidence(points, problem.weights, pose, sigma, threshold).argmax(-1, keepdim=True)
    # On a ladder of levels the final noise does not change with small changes of the points, so that the
    # gradient at the optimum is exact.
    level = (sigma.gather(1, best) / threshold).log2().div(math.log2(_RATIO)).round()
    return select(pose, best), make_kernel(threshold * _RATIO**level, threshold)


def settle(
    points: Products, weights: Float[Tensor, "P N"], pose: Pose, sigma: Tensor, threshold: float, rounds: int
) -> tuple[Pose, Float[Tensor, "P K"]]:
    """Alternate one Gauss-Newton step on the probable inliers and the estimate of their noise."""
    for _ in range(rounds):
        squared = points.squared_residuals(pose)
        trusted = weights[:, None] * make_kernel(sigma, threshold).probability(squared)
        # Six degrees of freedom are spent on the pose.
        variance = (trusted * squared).sum(-1) / (2 * trusted.sum(-1) - 6).clamp_min(1)
        sigma = variance.sqrt().clamp(_FINEST * threshold, _COARSEST * threshold)
        pose = step(pose, points.sums(trusted))
    return pose, sigma


def step(pose: Pose, moments: Float[Tensor, "P K 6 4"]) -> Pose:
    """Take a Gauss-Newton step in closed form, from the weighted sums of ``(1, X, x) (1, X)ᵀ`` alone.

    With the translation eliminated (points relative to their centroid), the normal equations of ``(δ, ω_z)`` and
    ``(ω_x, ω_y)`` have scaled unit matrices on their diagonal and a scaled rotation beside it.
    """
    tiny = torch.finfo(moments.dtype).tiny
    moments = moments / moments[..., :1, :1].clamp_min(tiny)
    centre, image_centre = moments[..., 1:4, 0], moments[..., 4:, 0]
    spread = moments[..., 1:4, 1:] - centre[..., :, None] * centre[..., None, :]
    cross = moments[..., 4:, 1:] - image_centre[..., :, None] * centre[..., None, :]
    turn = pose.scale[..., None, None] * pose.rotation
    square, cross = turn @ spread @ turn.mT, cross @ turn.mT  # of Y = s R X with itself, of x with Y
    xx, xz, yy, yz, zz = (square[..., i, j] for i, j in ((0, 0), (0, 2), (1, 1), (1, 2), (2, 2)))
    near, far = (xx + yy) * _DAMPING, zz * _DAMPING
    grow, spin = xx + yy - cross[..., 0, 0] - cross[..., 1, 1], cross[..., 0, 1] - cross[..., 1, 0]
    nod, shake = cross[..., 1, 2] - yz, xz - cross[..., 0, 2]
    scale = -1 / (near * far - xz.square() - yz.square()).clamp_min(tiny)
    moved = torch.stack(
        (
            scale * (far * grow + yz * nod - xz * shake),
            scale * (near * nod + yz * grow + xz * spin),
            scale * (near * shake - xz * grow + yz * spin),
            scale * (far * spin + xz * nod + yz * shake),
        ),
        -1,
    ).clamp(-REACH, REACH)
    rotation = axis_angle_to_matrix(moved[..., 1:]) @ pose.rotation
    size = pose.scale * moved[..., 0].exp()
    shift = size[..., None] * (rotation[..., :2, :] @ centre[..., None])[..., 0]
    return Pose(size, image_centre - shift, rotation)


def evidence(
    points: Products, weights: Float[Tensor, "P N"], pose: Pose, sigma: Tensor, threshold: float
) -> Float[Tensor, "P K"]:
    """Give the log likelihood of the points, the six pose parameters marginalised (they cost σ^6)."""
    cost = make_kernel(sigma, threshold).cost(points.squared_residuals(pose))
    return -(weights[:, None] * (cost + 2 * sigma.log()[..., None])).sum(-1) + 6 * sigma.log()
