"""Search for the pose and the noise level among outliers, batched over problems and hypotheses."""

import functools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.pnp.hypotheses import closed_form, draw_samples, mirror_twins, pick_poses, sample_cameras
from kpose.pnp.model import SPREAD, Kernel, Pose, PoseStack, Problem, Products, join, multiply, products, turn
from kpose.pnp.refinement import REACH

__all__: list[str] = []

# Density of outliers times threshold²: with the default threshold of 0.1, one point in four spread over a crop.
_OUTLIERS = 0.01 * (0.25 / 4)
# Inlier noise that the search may settle on, in thresholds; and the ratio of neighbouring levels.
_FINEST, _COARSEST, _RATIO = 1 / 32, 2.0, math.sqrt(2)

# Truncation of the score in thresholds, hypotheses refined, and Gauss-Newton steps before and after the mirror
# twins join. With 800 samples, 32 hypotheses and 8 steps each, no error on the grid of docs/pnp.md is lower.
_BOUND, _KEEP, _ROUNDS = 1.5, 4, (2, 3)
_DAMPING = 1.001


def make_kernel(sigma: Float[Tensor, "P K"], threshold: float) -> Kernel:
    """Give the kernel of a noise level: the density of outliers is fixed by the threshold."""
    return Kernel(sigma, (2 * math.pi * _OUTLIERS / threshold**2 * sigma.square()).log())


def search(problem: Problem, threshold: float, draws: Float[Tensor, "H 4"]) -> tuple[Pose, Kernel]:
    """Find the likeliest pose and noise, from minimal samples that the uniform numbers ``draws`` choose."""
    points = products(problem)
    weights = problem.weights[:, None]
    cameras = sample_cameras(problem, draw_samples(problem.weights, draws))
    cost = truncated_cost(points, weights, cameras, (_BOUND * threshold) ** 2)
    best = cost.topk(min(_KEEP, len(draws)), largest=False).indices
    pose = join(closed_form(problem), pick_poses(cameras, best))
    sigma = torch.full_like(pose.scale, threshold / 2)
    pose, sigma = settle(points, weights, pose, sigma, threshold, _ROUNDS[0])
    best = evidence(points, weights, pose, sigma, threshold).topk(2).indices
    pose, sigma = pose.pick(best), sigma.gather(1, best)
    probability = make_kernel(sigma, threshold).probability(points.squared_residuals(pose))
    # A doubtful point can be outlier at low noise or inlier at higher noise: each pose settles from both sides.
    pose = join(pose, mirror_twins(points, pose, weights * probability), pose)
    sigma = torch.cat((sigma, sigma, sigma / 2), 1)
    pose, sigma = settle(points, weights, pose, sigma, threshold, _ROUNDS[1])
    best = evidence(points, weights, pose, sigma, threshold).argmax(-1, keepdim=True)
    # On a ladder of levels the final noise does not change with small changes of the points, so that the
    # gradient at the optimum is exact.
    level = (sigma.gather(1, best) / threshold).log2().div(math.log2(_RATIO)).round()
    return pose.pick(best).pose(), make_kernel(threshold * _RATIO**level, threshold)


def truncated_cost(
    points: Products,
    weights: Float[Tensor, "P 1 N"],
    cameras: Float[Tensor, "2 4 P H"],
    bound: float,
    cache: int = 1 << 18,
) -> Float[Tensor, "P H"]:
    """Give the weighted sum of truncated squared residuals, with ``cache`` of them in memory at a time."""
    block = max(1, cache // (cameras.shape[-1] * weights.shape[-1]))
    fields = [torch.split(field, block) for field in (*points, weights)]
    parts = zip(*fields, torch.split(cameras, block, 2), strict=True)
    return torch.cat(
        [
            Products(terms, lengths).squared_distances(part).clamp_(max=bound).mul_(weight).sum(-1)
            for terms, lengths, weight, part in parts
        ]
    )


def settle(
    points: Products,
    weights: Float[Tensor, "P 1 N"],
    pose: PoseStack,
    sigma: Float[Tensor, "P K"],
    threshold: float,
    rounds: int,
) -> tuple[PoseStack, Float[Tensor, "P K"]]:
    """Alternate one Gauss-Newton step on the probable inliers and the estimate of their noise."""
    for _ in range(rounds):
        squared = points.squared_residuals(pose)
        trusted = make_kernel(sigma, threshold).probability(squared).mul_(weights)
        # Six degrees of freedom are spent on the pose.
        variance = (trusted * squared).sum(-1) / (2 * trusted.sum(-1) - 6).clamp_min(1)
        sigma = variance.sqrt().clamp(_FINEST * threshold, _COARSEST * threshold)
        pose = step(pose, points.means(trusted))
    return pose, sigma


def step(pose: PoseStack, means: Float[Tensor, "18 P K"]) -> PoseStack:
    """Take a Gauss-Newton step in closed form, from the weighted means of the products alone.

    With the translation eliminated (points relative to their centroid), the normal equations of ``(δ, ω_z)`` and
    ``(ω_x, ω_y)`` have scaled unit matrices on their diagonal and a scaled rotation beside it.
    """
    centre, image_centre = means[1:4], means[10::4]
    spread = torch.unflatten(means[SPREAD], 0, (3, 3)) - centre[:, None] * centre
    cross = torch.unflatten(means[10:], 0, (2, 4))[:, 1:] - image_centre[:, None] * centre
    rows = pose.scale * pose.rotation
    # Products of Y = s R X with itself, and of x with Y.
    square = (torch.cat((multiply(rows, spread), cross))[:, None] * rows).sum(2)
    terms = _terms(means.dtype, means.device) @ square.reshape(15, -1)
    right, left, other = terms.reshape(3, 4, *pose.scale.shape)
    volume = (left * other).sum(0).clamp_min(torch.finfo(means.dtype).tiny)
    moved = _solution(means.dtype, means.device) @ (left[:, None] * right).reshape(16, -1)
    moved = (moved.reshape(4, *volume.shape) / volume).clamp(-REACH, REACH)
    rotation = turn(pose.rotation, moved[1:])
    size = pose.scale * moved[0].exp()
    return PoseStack(size, image_centre - size * (rotation[:2] * centre).sum(1), rotation)


@functools.cache
@torch.inference_mode(False)  # what inference has made and left here, training could not use
def _terms(dtype: torch.dtype, device: torch.device) -> Float[Tensor, "12 15"]:
    """Give the map from the products of a step to the terms of its equations."""
    xx, yy, zz, xz, yz = (0, 0), (1, 1), (2, 2), (0, 2), (1, 2)
    near, far = {xx: _DAMPING, yy: _DAMPING}, {zz: _DAMPING}
    # The last two rows of the products are those of the image's x and y.
    grow = {xx: 1.0, yy: 1.0, (3, 0): -1.0, (4, 1): -1.0}
    nod, shake, spin = {(4, 2): 1.0, yz: -1.0}, {xz: 1.0, (3, 2): -1.0}, {(3, 1): 1.0, (4, 0): -1.0}
    halves = [{key: value / 2 for key, value in term.items()} for term in (near, far)]
    groups = [grow, nod, shake, spin, far, near, {xz: 1.0}, {yz: 1.0}, *halves, {xz: -1.0}, {yz: -1.0}]
    terms = torch.zeros(12, 5, 3, dtype=dtype, device=device)
    for row, group in enumerate(groups):
        for (i, j), factor in group.items():
            terms[row, i, j] = factor
    return terms.reshape(12, 15)


@functools.cache
@torch.inference_mode(False)  # what inference has made and left here, training could not use
def _solution(dtype: torch.dtype, device: torch.device) -> Float[Tensor, "4 16"]:
    """Give the map from products of the terms to the step, times the determinant."""
    grow, nod, shake, spin = far, near, xz, yz = range(4)
    rows = (
        ((far, grow, 1), (yz, nod, 1), (xz, shake, -1)),
        ((near, nod, 1), (yz, grow, 1), (xz, spin, 1)),
        ((near, shake, 1), (xz, grow, -1), (yz, spin, 1)),
        ((far, spin, 1), (xz, nod, 1), (yz, shake, 1)),
    )
    solution = torch.zeros(4, 4, 4, dtype=dtype, device=device)
    for row, group in enumerate(rows):
        for left, right, sign in group:
            solution[row, left, right] = -sign
    return solution.reshape(4, 16)


def evidence(
    points: Products, weights: Float[Tensor, "P 1 N"], pose: PoseStack, sigma: Tensor, threshold: float
) -> Float[Tensor, "P K"]:
    """Give the log likelihood of the points, the six pose parameters marginalised (they cost σ^6)."""
    cost = make_kernel(sigma, threshold).cost(points.squared_residuals(pose))
    return -(weights * (cost + 2 * sigma.log()[..., None])).sum(-1) + 6 * sigma.log()
