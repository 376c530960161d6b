"""Search for the camera and the noise level among outliers, batched over problems and hypotheses."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.pnp.hypotheses import closed_form, draw_samples, mirror_twins, pick_cameras, sample_cameras
from kpose.pnp.model import Problem, RobustKernel, select, squared_residuals
from kpose.pnp.moments import Moments, cross, moments, multiply
from kpose.pnp.noise import free_share, freedom, variance
from kpose.pnp.refinement import REACH
from kpose.structures import Camera

__all__: list[str] = []

# All lengths in the image are in thresholds here.

# Density of outliers: with the default threshold of 0.1, one point in four spread over a crop.
_OUTLIERS = 0.01 * (0.25 / 4)
# Inlier noise that the search may settle on; and the ratio of neighboring levels.
_FINEST, _COARSEST, _RATIO = 1 / 4, 2.0, math.sqrt(2)

# Truncation of the score, hypotheses refined, and Gauss-Newton steps before and after the mirror
# twins join. With 800 samples, 32 hypotheses and 8 steps each, no error on the grid of docs/pnp.md is lower.
_BOUND, _KEEP, _ROUNDS = 1.5, 4, (2, 3)
_DAMPING = 1.001


def search(problem: Problem, draws: Float[Tensor, "H 4"]) -> tuple[Camera, RobustKernel]:
    """Find the likeliest camera and noise, from minimal samples that the uniform numbers ``draws`` choose."""
    points = moments(problem)
    weights, free = problem.weights[:, None], freedom(problem.weights)[:, None]
    share = free_share(weights, free)
    affine = sample_cameras(problem, draw_samples(problem.weights, draws))
    cost = truncated_cost(points, weights, affine, _BOUND**2)
    best = cost.topk(min(_KEEP, len(draws)), largest=False).indices
    camera = _join(closed_form(problem), pick_cameras(affine, best))
    sigma = torch.full_like(camera.scale, 0.5)
    camera, sigma = refine_with_noise(problem, points, camera, sigma, free, _ROUNDS[0])
    best = evidence(problem, camera, sigma, free).topk(2).indices
    camera, sigma = select(camera, best), sigma.gather(1, best)
    probability = _kernel(sigma, share).probability(squared_residuals(problem, camera))
    # A doubtful point can be outlier at low noise or inlier at higher noise: each camera settles from both sides.
    camera = _join(camera, mirror_twins(points, camera, weights * probability), camera)
    sigma = torch.cat((sigma, sigma, sigma / 2), 1)
    camera, sigma = refine_with_noise(problem, points, camera, sigma, free, _ROUNDS[1])
    best = evidence(problem, camera, sigma, free).argmax(-1, keepdim=True)
    # On a ladder of levels the final noise does not change with small changes of the points, so that the
    # gradient at the optimum is exact.
    level = sigma.gather(1, best).log2().div(math.log2(_RATIO)).round()
    return select(camera, best), _kernel(_RATIO**level, share)


def _join(*cameras: Camera) -> Camera:
    return Camera(*(torch.cat(fields, 1) for fields in zip(*cameras, strict=True)))


def _kernel(sigma: Float[Tensor, "P K"], share: Float[Tensor, "P 1"]) -> RobustKernel:
    """Return the kernel of a noise level: the density of outliers is fixed by the threshold.

    Where few points decide the camera, their noise moves the others, which must be farther off to be outliers.
    """
    share = share.log2().round().exp2()  # does not change with small changes of the weights, as the noise below
    return RobustKernel(sigma, (2 * math.pi * _OUTLIERS * (share * sigma).square()).log())


def truncated_cost(
    points: Moments,
    weights: Float[Tensor, "P 1 N"],
    affine: Float[Tensor, "2 4 P H"],
    bound: float,
    cache: int = 1 << 18,
) -> Float[Tensor, "P H"]:
    """Compute the weighted sum of truncated squared residuals, on a CPU with ``cache`` of them at a time."""
    block = max(1, cache // (affine.shape[-1] * weights.shape[-1]))
    if weights.device.type != "cpu" or torch.compiler.is_compiling():
        return _truncated_cost(points, weights, affine, bound)
    fields = [torch.split(field, block) for field in (*points, weights)]
    parts = zip(*fields, torch.split(affine, block, 2), strict=True)
    return torch.cat(
        [_truncated_cost(Moments(terms, lengths), weight, part, bound) for terms, lengths, weight, part in parts]
    )


def _truncated_cost(points: Moments, weights: Tensor, affine: Tensor, bound: float) -> Tensor:
    return points.squared_distances(affine).clamp_(max=bound).mul_(weights).sum(-1)


def refine_with_noise(
    problem: Problem,
    points: Moments,
    camera: Camera,
    sigma: Float[Tensor, "P K"],
    free: Float[Tensor, "P 1"],
    rounds: int,
) -> tuple[Camera, Float[Tensor, "P K"]]:
    """Alternate one Gauss-Newton step on the probable inliers and the estimate of their noise."""
    weights = problem.weights[:, None]
    share = free_share(weights, free)
    for _ in range(rounds):
        squared = squared_residuals(problem, camera)
        trust = _kernel(sigma, share).trust(squared)
        sigma = variance(weights, free, trust, squared).sqrt().clamp(_FINEST, _COARSEST)
        camera = step(camera, points.means(weights * trust))
    return camera, sigma


def step(camera: Camera, means: Float[Tensor, "4 6 P K"]) -> Camera:
    """Take a Gauss-Newton step in closed form, from the weighted means of the moments alone.

    With the translation eliminated (points relative to their centroid), the normal equations of ``(δ, ω_z)`` and
    ``(ω_x, ω_y)`` have scaled unit matrices on their diagonal and a scaled rotation beside it.
    """
    rotation = camera.rotation.permute(2, 3, 0, 1).contiguous()
    rows = camera.scale * rotation
    center, image_center = means[0, 1:4], means[0, 4:]
    spread = means[1:, 1:] - center[:, None] * means[0, 1:]
    # Products of (Y, x) with Y = s R X.
    (xx, _, xz), (_, yy, yz), (_, _, zz) = multiply(multiply(rows, spread[:, :3]), rows.transpose(0, 1))
    (ux, uy, uz), (vx, vy, vz) = multiply(spread[:, 3:].transpose(0, 1), rows.transpose(0, 1))
    near, far = _DAMPING * (xx + yy), _DAMPING * zz
    # The gradient with respect to the log scale and the three angles.
    grow, nod, shake, spin = xx + yy - ux - vy, vz - yz, xz - uz, uy - vx
    step_ = torch.stack(
        (
            far * grow + yz * nod - xz * shake,
            near * nod + yz * grow + xz * spin,
            near * shake - xz * grow + yz * spin,
            far * spin + xz * nod + yz * shake,
        )
    )
    determinant = (near * far - xz.square() - yz.square()).clamp_min(torch.finfo(means.dtype).tiny)
    moved = (-step_ / determinant).clamp(-REACH, REACH)
    scale, rotation = camera.scale * moved[0].exp(), turn(rotation, moved[1:])
    translation = image_center - scale * multiply(rotation[:2], center[:, None])[:, 0]
    return Camera(scale, translation.permute(1, 2, 0), rotation.permute(2, 3, 0, 1))


def turn(rotation: Float[Tensor, "3 3 P K"], vector: Float[Tensor, "3 P K"]) -> Float[Tensor, "3 3 P K"]:
    """Turn rotations by rotation vectors, with Cayley's map for the exponential.

    It is a rotation for any vector and agrees with the exponential to second order, all that a Newton step asks.
    """
    first = cross(vector[:, None], rotation)
    return rotation + (first + cross(vector[:, None], first) / 2) / (1 + vector.square().sum(0) / 4)


def evidence(
    problem: Problem, camera: Camera, sigma: Float[Tensor, "P K"], free: Float[Tensor, "P 1"]
) -> Float[Tensor, "P K"]:
    """Compute the log likelihood of the points, as many as are free."""
    kernel = _kernel(sigma, free_share(problem.weights[:, None], free))
    peak = torch.nn.functional.softplus(kernel.log_outlier) - 2 * sigma.log()
    return free / 2 * peak - (problem.weights[:, None] * kernel.cost(squared_residuals(problem, camera))).sum(-1)
