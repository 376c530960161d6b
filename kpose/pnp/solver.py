"""Weak-perspective PnP: correspondences to camera, robust and differentiable."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from kpose._precision import common_precision
from kpose.pnp.elimination import eliminate
from kpose.pnp.hypotheses import SAMPLE, closed_form
from kpose.pnp.model import (
    Linearization,
    Problem,
    RobustKernel,
    jacobian,
    least_squares_kernel,
    move,
    select,
    squared_residuals,
    view,
)
from kpose.pnp.noise import freedom, variance
from kpose.pnp.refinement import descend, invert
from kpose.pnp.search import search
from kpose.structures import Camera

__all__ = ["PnPSolution", "solve_pnp"]

# A point set thinner than this share of its length is flat: its pose has a mirror twin that shows the same image.
_FLAT = 1e-3

# The positive root of x⁵ = x + 1.
_RATIO = 1.1673039782614187


class PnPSolution(NamedTuple):
    """Cameras found by `solve_pnp`, and how far to trust them.

    Example:
        >>> points = torch.randn(4, 16, 3)
        >>> solution = solve_pnp(points[..., :2], points)
        >>> solution.camera.rotation.shape, solution.covariance.shape
        (torch.Size([4, 3, 3]), torch.Size([4, 6, 6]))
    """

    camera: Camera
    """Weak-perspective cameras, differentiable with respect to points and weights."""
    inliers: Bool[Tensor, "*batch N"]
    """Points that rather belong to the object than to the outliers; all usable points in least squares."""
    covariance: Float[Tensor, "*batch 6 6"]
    """Covariance of ``(log scale, t_x, t_y, rotation vector)``; the rotation vector turns the camera frame,
    ``exp(ω) R``, in radians. It is scaled by the variance of the residuals; the unit matrix where not valid."""
    valid: Bool[Tensor, "*batch"]
    """Whether the points determine the camera."""


def solve_pnp(
    points_2d: Float[Tensor, "*batch N 2"],
    points_3d: Float[Tensor, "*batch N 3"],
    weights: Float[Tensor, "*batch N"] | None = None,
    *,
    threshold: float | None = 0.1,
    hypotheses: int = 64,
    generator: torch.Generator | None = None,
) -> PnPSolution:
    """Find the weak-perspective cameras that project 3D points onto 2D points, among outliers.

    Poses from random samples of four points are scored by their truncated residuals; the best few, and closed-form
    solutions on all points, are refined together with an estimate of the noise; the likeliest, compared with its
    mirror twin, is polished on scale, translation and SO(3) to the optimum of ``Σ w ρ(|u - s (R X)_xy - t|²)``,
    where ρ is the negative log likelihood of Gaussian inliers among uniform outliers.

    Gradients of the camera are those of the optimum (implicit function theorem, exact Hessian), not of the search.
    They are first-order; covariance and flags carry none. Double precision solves in double, all else in float32,
    also under autocast.

    Args:
        points_2d: Image positions.
        points_3d: Object points in the same order, object units.
        weights: Confidence in each point, not negative; only ratios matter. All equal if not given. A point of
            weight zero counts as absent, and so does one with an entry that is not finite.
        threshold: Rough distance of a good point from its projection, in the unit of ``points_2d``. The noise is
            estimated from 1/4 to 2 times this. None gives plain weighted least squares.
        hypotheses: Random samples to try.
        generator: Source of the samples; the same even ones at every call if not given.

    Returns:
        Camera, inliers, covariance and validity. Not valid are fewer than four inliers, inliers on a line or in a
        plane (a plane has two mirrored answers), image points that all coincide, and weights so unequal that
        rounding hides what the lighter points say. The camera is then finite, one of
        the best answers if there is one, and its gradient zero.

    Raises:
        ValueError: If ``threshold`` or ``hypotheses`` is not positive, or the shapes do not agree.

    Source:
        Search: Chum et al., Locally Optimized RANSAC, DAGM 2003, with the likelihood of Torr & Zisserman, MLESAC,
        CVIU 2000. Gradient: Gould et al., Deep Declarative Networks, PAMI 2021, Proposition 4.4.

    Example:
        >>> points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
        >>> solution = solve_pnp(0.5 * points[:, :2] + 0.2, points)
        >>> solution.camera.scale, solution.camera.translation, solution.valid
        (tensor(0.5000), tensor([0.2000, 0.2000]), tensor(True))
    """
    if threshold is not None and not threshold > 0:
        raise ValueError(f"solve_pnp needs a positive threshold; got {threshold}. Give None for least squares.")
    if hypotheses < 1:
        raise ValueError(f"solve_pnp needs at least one hypothesis; got {hypotheses}.")
    _check_shapes(points_2d, points_3d, weights)
    with torch.autocast(points_2d.device.type, enabled=False):
        batch, count = points_2d.shape[:-2], points_2d.shape[-2]
        weights = torch.ones_like(points_2d[..., 0]) if weights is None else weights
        dtype = common_precision(points_2d, points_3d)
        size = math.prod(batch)
        flat = (points_2d.reshape(size, count, 2), points_3d.reshape(size, count, 3), weights.reshape(size, count))
        image, points, weights = _usable(*(field.to(dtype) for field in flat))
        solution = _solve(image, points, weights, threshold, hypotheses, generator)
        return PnPSolution(
            solution.camera.map(lambda field: field.reshape((*batch, *field.shape[1:]))),
            solution.inliers[:, :count].reshape(*batch, count),
            solution.covariance.reshape(*batch, 6, 6),
            solution.valid.reshape(batch),
        )


def _check_shapes(points_2d: Tensor, points_3d: Tensor, weights: Tensor | None) -> None:
    expected = (*points_2d.shape[:-1], 2)
    if points_2d.ndim < 2 or points_2d.shape != expected or points_3d.shape != (*expected[:-1], 3):
        raise ValueError(
            "solve_pnp needs points_2d (..., N, 2) and points_3d (..., N, 3) with the same leading dimensions; got "
            f"{tuple(points_2d.shape)} and {tuple(points_3d.shape)}. One object for many images: expand it."
        )
    if weights is not None and weights.shape != expected[:-1]:
        raise ValueError(
            f"solve_pnp needs a weight for each point, {tuple(expected[:-1])}; got {tuple(weights.shape)}. Reshape "
            "them."
        )


def _usable(image: Tensor, points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Replace unusable points by the origin with weight zero; add such points up to a minimal sample."""
    # The fourth root keeps sums of squares from overflowing.
    limit = torch.finfo(image.dtype).max ** 0.25
    usable = (torch.cat((image, points), -1).abs() < limit).all(-1) & (weights >= 0) & weights.isfinite()
    image, points = (torch.where(usable[..., None], field, 0.0) for field in (image, points))
    weights = torch.where(usable, weights, 0.0)
    missing = max(SAMPLE - weights.shape[-1], 0)
    return pad(image, (0, 0, 0, missing)), pad(points, (0, 0, 0, missing)), pad(weights, (0, missing))


def _solve(
    image: Tensor,
    points: Tensor,
    weights: Tensor,
    threshold: float | None,
    hypotheses: int,
    generator: torch.Generator | None,
) -> PnPSolution:
    problem, frame = _normalize(image, points, weights, threshold)
    with torch.no_grad():
        camera, kernel, optimum = _optimum(problem, threshold is not None, hypotheses, generator)
        inliers = (optimum.probability[:, 0] > 0.5) & (problem.weights > 0)
        inverse, sound = invert(optimum.hessian[:, 0])
        center, image_center = frame.center / frame.size, frame.image_center / frame.unit
        valid = _determined(problem, camera, inliers, image_center) & sound
        covariance, sound = _covariance(problem, camera, optimum, center)
        one = torch.ones_like(frame.unit)
        units = torch.cat((one, frame.unit, frame.unit, one, one, one), -1)
        covariance = units[..., None] * covariance * units[..., None, :]
        valid = valid & sound
        eye = torch.eye(6, dtype=covariance.dtype, device=covariance.device)
        covariance = torch.where(valid[:, None, None], covariance, eye)
    if torch.is_grad_enabled() and any(field.requires_grad for field in problem):
        camera = _attach(problem, camera, kernel, inverse, valid)
    return PnPSolution(frame.restore(camera.at((slice(None), 0))), inliers, covariance, valid)


class _Frame(NamedTuple):
    """Origins and units of length that a problem was taken to."""

    image_center: Float[Tensor, "P 2"]
    center: Float[Tensor, "P 3"]
    unit: Float[Tensor, "P 1"]
    """Of the image."""
    size: Float[Tensor, "P 1"]
    """Unit of the object."""

    def restore(self, camera: Camera) -> Camera:
        """Take cameras back to where the points came from."""
        tiny = torch.finfo(self.unit.dtype).tiny
        scale = (camera.scale * (self.unit / self.size)[:, 0]).clamp_min(tiny)
        shift = scale[:, None] * (camera.rotation[:, :2] @ self.center[..., None])[..., 0]
        return Camera(scale, camera.translation * self.unit + self.image_center - shift, camera.rotation)


def _normalize(image: Tensor, points: Tensor, weights: Tensor, threshold: float | None) -> tuple[Problem, _Frame]:
    """Center the points, in units in which no square overflows or vanishes, and weigh those alike one each."""
    tiny = torch.finfo(weights.dtype).tiny
    weights = weights / weights.detach().amax(-1, keepdim=True).clamp_min(tiny)
    with torch.no_grad():
        total = weights.sum(-1, keepdim=True).clamp_min(tiny)
        # Together they weigh the effective number of points (Kish).
        factor = total / weights.square().sum(-1, keepdim=True).clamp_min(tiny)
        share = (weights / total)[..., None]
        image_center, center = (share * image).sum(1), (share * points).sum(1)
        used = (weights > 0)[..., None]
        extent, size = (
            (used * offset).abs().amax((1, 2))[:, None]
            for offset in (image - image_center[:, None], points - center[:, None])
        )
        frame = _Frame(image_center, center, _image_unit(extent, threshold), _unit(size))
    image = (image - image_center[:, None]) / frame.unit[..., None]
    points = (points - center[:, None]) / frame.size[..., None]
    return Problem(image, points, weights * factor), frame


def _unit(extent: Tensor) -> Tensor:
    """Return the power of two next to lengths: divided by it, coordinates stay as exact as they are."""
    return torch.exp2(_exponent(extent))


def _exponent(extent: Tensor) -> Tensor:
    exponent = extent.clamp_min(torch.finfo(extent.dtype).tiny ** 0.5).log2().floor() + 1
    return torch.where(extent > 0, exponent, 0.0)  # points that coincide have no extent


def _image_unit(extent: Tensor, threshold: float | None) -> Tensor:
    """Return the threshold, by powers of two not much larger than the image nor below its rounding."""
    if threshold is None:
        return _unit(extent)
    mantissa, exponent = math.frexp(threshold)
    level = _exponent(extent) + 1 - exponent
    digits = -math.frexp(torch.finfo(extent.dtype).eps)[1] - 4
    level = (level + 1).clamp_max(0) + (level - digits).clamp_min(0)
    return mantissa * torch.exp2(exponent + level)


def _optimum(
    problem: Problem, robust: bool, hypotheses: int, generator: torch.Generator | None
) -> tuple[Camera, RobustKernel, Linearization]:
    """Find the best camera ``(P, 1)`` of each problem, its kernel and the derivatives there."""
    if not robust:
        camera = closed_form(problem)
        camera = descend(problem, camera, least_squares_kernel(camera), steps=10)[0]
        cost = (problem.weights[:, None] * squared_residuals(problem, camera)).sum(-1)
        camera = select(camera, cost.argmin(-1, keepdim=True))
        kernel = least_squares_kernel(camera)
    else:
        camera, kernel = search(problem, _draws(hypotheses, generator, problem.weights))
    # From where the search ends, three steps reach the precision of float32 and five that of float64.
    steps = 3 if problem.weights.dtype == torch.float32 else 5
    camera, optimum = descend(problem, camera, kernel, steps=steps, damping=1e-4)
    # Without a usable point any camera will do, but it must be one.
    finite = torch.stack([field.flatten(1).isfinite().all(1) for field in camera]).all(0)
    found = finite & (problem.weights.sum(-1) > 0)
    eye = torch.eye(3, dtype=camera.rotation.dtype, device=camera.rotation.device).expand_as(camera.rotation)
    nothing = Camera(torch.ones_like(camera.scale), torch.zeros_like(camera.translation), eye)
    return camera.where(found[:, None], nothing), kernel, optimum


def _draws(count: int, generator: torch.Generator | None, like: Tensor) -> Float[Tensor, "count 4"]:
    """Return uniform numbers, each row for a sample: random ones, or those of a sequence that fills space evenly.

    Source:
        Roberts, The Unreasonable Effectiveness of Quasirandom Sequences, 2018.
    """
    if generator is not None:
        draws = torch.rand(count, SAMPLE, generator=generator, dtype=torch.float64, device=generator.device)
        return draws.to(like)
    number = torch.arange(1, count + 1, dtype=like.dtype, device=like.device)
    return torch.stack([(0.5 + number * _RATIO**-k) % 1 for k in range(1, SAMPLE + 1)], 1)


def _determined(problem: Problem, camera: Camera, inliers: Tensor, image_center: Tensor) -> Bool[Tensor, "P"]:
    count = inliers.sum(-1)
    share = (inliers / count.clamp_min(1)[:, None]).to(problem.object.dtype)[..., None]
    offset = problem.object - (share * problem.object).sum(1, keepdim=True)
    spread = ((share * offset).mT @ offset).permute(1, 2, 0)
    largest = spread.square().sum((0, 1)).sqrt()  # of its eigenvalues, up to a factor of √2 if it is flat
    eye = torch.eye(3, dtype=spread.dtype, device=spread.device)[..., None]
    solid = eliminate(spread - _FLAT**2 * largest * eye)[1] > 0
    # An object that rounding could have drawn is a dot, and a dot has no rotation.
    info = torch.finfo(spread.dtype)
    rounding = 10 * info.eps * image_center.abs().amax(-1) + info.tiny**0.5
    extended = camera.scale[:, 0] * largest.sqrt() > rounding
    determined: Tensor = (count >= SAMPLE) & solid & extended
    return determined


def _covariance(problem: Problem, camera: Camera, optimum: Linearization, center: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the covariance for the translation of the object's origin, and where there is one."""
    inverse, sound = invert(optimum.matrix[:, 0])
    weights = problem.weights[:, None]
    noise = variance(weights, freedom(weights), optimum.probability, optimum.squared)
    # Growing and turning about the points' center moves the origin the other way.
    moved = jacobian(camera.scale[:, 0, None, None] * (camera.rotation[:, 0] @ center[..., None]))[..., 0].mT
    shift = torch.cat((moved[..., :1], torch.zeros_like(moved[..., 1:3]), moved[..., 3:]), -1)
    change = torch.eye(6, dtype=inverse.dtype, device=inverse.device) - pad(shift, (0, 0, 1, 3))
    covariance = noise[..., None] * (change @ inverse @ change.mT)
    return (covariance + covariance.mT) / 2, sound & covariance.isfinite().all(-1).all(-1)


def _attach(problem: Problem, camera: Camera, kernel: RobustKernel, inverse: Tensor, valid: Tensor) -> Camera:
    """Attach the gradient of the optimum: one Newton step of value zero, ``dθ = -H⁻¹ d(∂cost/∂θ)``."""
    offset, residual = view(problem, camera)
    trusted = problem.weights[:, None] * kernel.probability(residual.square().sum(-2))
    slope = (jacobian(offset) * (trusted[..., None, :] * residual)[..., None, :, :]).sum((-2, -1))
    step = -(inverse[:, None] @ slope[..., None])[..., 0]
    return move(camera, torch.where(valid[:, None, None], step - step.detach(), 0.0))
