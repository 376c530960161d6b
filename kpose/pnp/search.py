"""Search for the pose and the noise level among outliers, batched over problems and hypotheses."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.geometry.rotation import axis_angle_to_matrix
from kpose.pnp.hypotheses import closed_form, draw_samples, mirror_twins, sample_poses
from kpose.pnp.model import (
    Kernel,
    Pose,
    Problem,
    join,
    select,
    squared_residuals,
)
from kpose.pnp.refinement import REACH

__all__: list[str] = []

# Density of outliers times threshold²: with the default threshold of 0.1, one point in four spread over a crop.
_OUTLIERS = 0.01 * (0.25 / 4)
# Inlier noise that the search may settle on, in thresholds; and the ratio of neighbouring levels.
_FINEST, _COARSEST, _RATIO = 1 / 32, 2.0, math.sqrt(2)

# Hypotheses refined for each of the two bounds of the score, and Gauss-Newton steps on each: with 800 samples, 32
# hypotheses and 8 steps the errors on the grid of docs/pnp.md are lower by less than 0.1 degrees.
_KEEP, _ROUNDS = 4, 4
_DAMPING = 1.001


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
    probability = make_kernel(sigma, threshold).probability(squared_residuals(problem, pose))
    # A doubtful point can be outlier at low noise or inlier at higher noise: each pose settles from both sides.
    pose = join(pose, mirror_twins(problem, pose, problem.weights[:, None] * probability), pose)
    sigma = torch.cat((sigma, sigma, sigma / 2), 1)
    pose, sigma = settle(problem, pose, sigma, threshold)
    best = evidence(problem, pose, sigma, threshold).argmax(-1, keepdim=True)
    # On a ladder of levels the final noise does not change with small changes of the points, so that the
    # gradient at the optimum is exact.
    level = (sigma.gather(1, best) / threshold).log2().div(math.log2(_RATIO)).round()
    return select(pose, best), make_kernel(threshold * _RATIO**level, threshold)


def settle(problem: Problem, pose: Pose, sigma: Tensor, threshold: float) -> tuple[Pose, Tensor]:
    """Alternate one Gauss-Newton step on the probable inliers and the estimate of their noise."""
    terms = torch.nn.functional.pad(problem.object, (1, 0), value=1.0)
    both = torch.cat((terms, problem.image), -1)
    products = (both[..., :, None] * terms[..., None, :]).flatten(-2)
    for _ in range(_ROUNDS):
        squared = squared_residuals(problem, pose)
        weights = problem.weights[:, None] * make_kernel(sigma, threshold).probability(squared)
        # Six degrees of freedom are spent on the pose.
        variance = (weights * squared).sum(-1) / (2 * weights.sum(-1) - 6).clamp_min(1)
        sigma = variance.sqrt().clamp(_FINEST * threshold, _COARSEST * threshold)
        pose = step(pose, (weights @ products).reshape(*sigma.shape, 6, 4))
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


def evidence(problem: Problem, pose: Pose, sigma: Tensor, threshold: float) -> Float[Tensor, "P K"]:
    """Give the log likelihood of the points, the six pose parameters marginalised (they cost σ^6)."""
    cost = make_kernel(sigma, threshold).cost(squared_residuals(problem, pose))
    weights = problem.weights[:, None]
    return -(weights * (cost + 2 * sigma.log()[..., None])).sum(-1) + 6 * sigma.log()
