"""The weak-perspective model as the solver sees it: poses, residuals, derivatives and the robust kernel.

Everything here works on a flat batch: ``P`` problems of ``N`` points, with ``K`` candidate poses each. A pose is
moved by six numbers ``(log scale, t_x, t_y, rotation vector)``: ``s ← s e^δ``, ``t ← t + τ``, ``R ← exp(ω) R``.
"""

import functools
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kpose.geometry import axis_angle_to_matrix

__all__: list[str] = []


class Problem(NamedTuple):
    """Correspondences, centred so that float32 suffices."""

    image: Float[Tensor, "P N 2"]
    object: Float[Tensor, "P N 3"]
    weights: Float[Tensor, "P N"]
    """Scaled to the sum of the effective number of points; zero where a point is not usable."""


class Pose(NamedTuple):
    """Candidate poses."""

    scale: Float[Tensor, "P K"]
    translation: Float[Tensor, "P K 2"]
    rotation: Float[Tensor, "P K 3 3"]


class Kernel(NamedTuple):
    """Likelihood of a Gaussian inlier or a uniform outlier; least squares is ``log_outlier = -inf``."""

    sigma: Float[Tensor, "P K"]
    """Standard deviation of an inlier's coordinate, image units."""
    log_outlier: Float[Tensor, "P K"]
    """Log density of an outlier relative to the inliers' peak density."""

    def cost(self, squared: Tensor) -> Tensor:
        """Give the cost ``rho / (2 sigma²)`` of squared residuals."""
        exponent = squared * self._precision()
        return exponent - torch.nn.functional.softplus(exponent + self.log_outlier[..., None])

    def probability(self, squared: Tensor) -> Tensor:
        """Give the inlier probability ``rho'`` of squared residuals."""
        return torch.sigmoid(-self.log_outlier[..., None] - squared * self._precision())

    def _precision(self) -> Tensor:
        return (0.5 / self.sigma.square())[..., None]


class Linearization(NamedTuple):
    """Robust cost ``Σ w ρ / (2 σ²)`` at a pose, and its derivatives (times ``σ²``)."""

    squared: Float[Tensor, "P K N"]
    probability: Float[Tensor, "P K N"]
    cost: Float[Tensor, "P K"]
    slope: Float[Tensor, "P K 6"]
    matrix: Float[Tensor, "P K 6 6"]
    """Gauss-Newton."""
    hessian: Float[Tensor, "P K 6 6"]
    """Exact."""


def least_squares_kernel(pose: Pose) -> Kernel:
    """Give the kernel without outliers."""
    return Kernel(torch.ones_like(pose.scale), torch.full_like(pose.scale, -torch.inf))


def select(pose: Pose, index: Int[Tensor, "P K"]) -> Pose:
    """Pick candidates of each problem by index."""
    rows = torch.arange(len(index), device=index.device)[:, None]
    return Pose(*(field[rows, index] for field in pose))


def move(pose: Pose, step: Float[Tensor, "P K 6"]) -> Pose:
    """Move poses by steps of the six parameters."""
    return Pose(
        pose.scale * step[..., 0].exp(),
        pose.translation + step[..., 1:3],
        axis_angle_to_matrix(step[..., 3:]) @ pose.rotation,
    )


def turn(rotation: Float[Tensor, "3 3 P K"], vector: Float[Tensor, "3 P K"]) -> Float[Tensor, "3 3 P K"]:
    """Turn rotations by rotation vectors, with Cayley's map for the exponential.

    It is a rotation for any vector and agrees with the exponential to second order, all that a Newton step asks.
    """
    skew = (_skews(vector.dtype, vector.device) @ vector.flatten(1)).reshape(rotation.shape)
    first = multiply(skew, rotation)
    return rotation + (first + multiply(skew, first) / 2) / (1 + vector.square().sum(0) / 4)


def multiply(left: Float[Tensor, "I J *batch"], right: Float[Tensor, "J L *batch"]) -> Float[Tensor, "I L *batch"]:
    """Multiply matrices whose rows and columns come first."""
    return (left[:, :, None] * right).sum(1)


@functools.cache
@torch.inference_mode(False)  # what inference has made and left here, training could not use
def _skews(dtype: torch.dtype, device: torch.device) -> Tensor:
    eye = torch.eye(3, dtype=dtype, device=device)
    skews: Tensor = torch.linalg.cross(eye[:, None], eye[None]).mT.reshape(3, 9).mT
    return skews


def view(problem: Problem, pose: Pose) -> tuple[Float[Tensor, "P K N 4"], Float[Tensor, "P K N 2"]]:
    """Give each point's ``(1, Y)``, ``Y = s R X`` being its camera-frame offset, and its residual."""
    offset = problem.object[:, None] @ (pose.scale[..., None, None] * pose.rotation).mT
    residual = offset[..., :2] + pose.translation[..., None, :] - problem.image[:, None]
    return torch.nn.functional.pad(offset, (1, 0), value=1.0), residual


def squared_residuals(problem: Problem, pose: Pose) -> Float[Tensor, "P K N"]:
    """Give the squared distance of every point from its projection."""
    return view(problem, pose)[1].square().sum(-1)


class PoseStack(NamedTuple):
    """Candidate poses, components first: long runs in memory instead of many small matrices."""

    scale: Float[Tensor, "P K"]
    translation: Float[Tensor, "2 P K"]
    rotation: Float[Tensor, "3 3 P K"]

    def pose(self) -> Pose:
        """Give the same poses one by one."""
        return Pose(self.scale, self.translation.permute(1, 2, 0), self.rotation.permute(2, 3, 0, 1).contiguous())

    def pick(self, index: Int[Tensor, "P L"]) -> "PoseStack":
        """Pick candidates of each problem by index."""
        return PoseStack(*(field.gather(-1, index.expand(*field.shape[:-2], *index.shape)) for field in self))


def stack(pose: Pose) -> PoseStack:
    """Put the components first."""
    return PoseStack(pose.scale, pose.translation.permute(2, 0, 1), pose.rotation.permute(2, 3, 0, 1))


def join(*poses: PoseStack) -> PoseStack:
    """Put the candidates of several sets side by side."""
    return PoseStack(*(torch.cat(fields, -1) for fields in zip(*poses, strict=True)))


class Products(NamedTuple):
    """Products of each point's coordinates: residuals and normal equations of any pose are linear in them.

    One matrix product evaluates many poses at once; rounding relative to the image's extent is the price.
    """

    terms: Float[Tensor, "P 18 N"]
    """The ten products of ``(1, X)`` with itself, then ``x`` times ``(1, X)``."""
    lengths: Float[Tensor, "P 1 N"]
    """``|x|²``."""

    def squared_residuals(self, pose: PoseStack) -> Float[Tensor, "P K N"]:
        """Give the squared distance of every point from its projection."""
        return self.squared_distances(torch.cat((pose.translation[:, None], pose.scale * pose.rotation[:2]), 1))

    def squared_distances(self, cameras: Float[Tensor, "2 4 P K"]) -> Float[Tensor, "P K N"]:
        """Give the same for affine cameras: translation and rows."""
        first, second, times = _pairs(cameras.dtype, cameras.device)
        square = (cameras.index_select(1, first) * cameras.index_select(1, second)).sum(0).mul_(times)
        factors = torch.cat((square, -2 * cameras.flatten(0, 1)))
        return torch.baddbmm(self.lengths, factors.permute(1, 2, 0), self.terms).clamp_(min=0)

    def means(self, weights: Float[Tensor, "P K N"]) -> Float[Tensor, "18 P K"]:
        """Give the weighted means of the products."""
        sums = (weights @ self.terms.mT).permute(2, 0, 1).contiguous()
        return sums / sums[:1].clamp_min(torch.finfo(sums.dtype).tiny)


_PAIRS = [(i, j) for i in range(4) for j in range(i, 4)]
SPREAD = [_PAIRS.index((min(i, j), max(i, j))) for i in range(1, 4) for j in range(1, 4)]
"""Where each entry of ``X Xᵀ`` stands among the 18 products."""


@functools.cache
@torch.inference_mode(False)  # what inference has made and left here, training could not use
def _pairs(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Give the two members of each pair, and how often the pair occurs in a full square."""
    pairs = torch.tensor(_PAIRS, device=device)
    times = 1 + (pairs[:, 0] != pairs[:, 1]).to(dtype)
    return pairs[:, 0], pairs[:, 1], times[:, None, None]


def products(problem: Problem) -> Products:
    """Multiply each point's coordinates."""
    image = problem.image.mT.contiguous()
    terms = torch.cat((torch.ones_like(image[:, :1]), problem.object.mT), 1)
    first, second, _ = _pairs(terms.dtype, terms.device)
    mixed = (image[:, :, None] * terms[:, None]).flatten(1, 2)
    lengths = image.square().sum(1, keepdim=True)
    return Products(torch.cat((terms.index_select(1, first) * terms.index_select(1, second), mixed), 1), lengths)


def jacobian_maps(like: Tensor) -> tuple[Float[Tensor, "6 4"], Float[Tensor, "6 4"]]:
    """Give the matrices that take ``(1, Y)`` to the derivatives of the two image coordinates."""
    x, y = like.new_zeros(6, 4), like.new_zeros(6, 4)
    # d(e^δ exp(ω) Y + τ) = δ Y + τ + ω × Y
    x[0, 1] = x[1, 0] = x[4, 3] = 1
    y[0, 2] = y[2, 0] = y[5, 1] = 1
    x[5, 2] = y[3, 3] = -1
    return x, y


class _Maps(NamedTuple):
    """Constant maps from moments to derivatives."""

    slope: Float[Tensor, "8 6"]
    """From ``Σ w r (1, Y)ᵀ`` to ``Σ w Jᵀ r``."""
    matrix: Float[Tensor, "16 36"]
    """From ``Σ w (1, Y) (1, Y)ᵀ`` to ``Σ w Jᵀ J``."""
    bend: Float[Tensor, "8 36"]
    """From ``Σ w r (1, Y)ᵀ`` to ``Σ w r ∂J``, the model's own curvature."""


@functools.cache
@torch.inference_mode(False)  # what inference has made and left here, training could not use
def _maps(dtype: torch.dtype, device: torch.device) -> _Maps:
    axes = torch.stack(jacobian_maps(torch.zeros((), dtype=dtype, device=device)))  # (2, 6, 4)
    matrix = torch.einsum("apm,aqn->mnpq", axes, axes).reshape(16, 36)
    bend = torch.zeros(2, 4, 6, 6, dtype=dtype, device=device)
    # ∂δ∂(δ, ω) repeats the first derivative; ∂ω_i ∂ω_j gives (r_i Y_j + r_j Y_i) / 2 - δ_ij r·Y.
    for p in (0, 3, 4, 5):
        bend[:, :, 0, p] = bend[:, :, p, 0] = axes[:, p]
    for i in range(3):
        for a in range(2):
            bend[a, 1 + a, 3 + i, 3 + i] -= 1
            bend[a, 1 + i, 3 + a, 3 + i] += 0.5
            bend[a, 1 + i, 3 + i, 3 + a] += 0.5
    return _Maps(axes.permute(0, 2, 1).reshape(8, 6), matrix, bend.reshape(8, 36))


def gradient(terms: Tensor, residual: Tensor, weights: Tensor) -> Float[Tensor, "P K 6"]:
    """Give ``Σ w Jᵀ r``."""
    moments = (weights[..., None] * residual).mT @ terms
    return moments.flatten(-2) @ _maps(terms.dtype, terms.device).slope


def linearize(problem: Problem, pose: Pose, kernel: Kernel) -> Linearization:
    """Evaluate cost and derivatives."""
    # Points come last, which makes long runs in memory.
    offset = (pose.scale[..., None, None] * pose.rotation) @ problem.object.mT[:, None]
    residual = offset[..., :2, :] + (pose.translation[..., None] - problem.image.mT[:, None])
    squared = residual.square().sum(-2)
    probability = kernel.probability(squared)
    weights = problem.weights[:, None]
    trusted = weights * probability
    terms = torch.cat((torch.ones_like(offset[..., :1, :]), offset), -2)
    maps = _maps(terms.dtype, terms.device)
    first = ((trusted[..., None, :] * residual) @ terms.mT).flatten(-2)
    second = ((trusted[..., None, :] * terms) @ terms.mT).flatten(-2)
    matrix = (second @ maps.matrix).reshape(*second.shape[:2], 6, 6)
    # The kernel's curvature: -w p (1 - p) / σ² (Jᵀ r)(Jᵀ r)ᵀ.
    pull = maps.slope.mT @ (residual[..., :, None, :] * terms[..., None, :, :]).flatten(-3, -2)
    bend = trusted * (probability - 1) / kernel.sigma.square()[..., None]
    hessian = matrix + (first @ maps.bend).reshape(matrix.shape) + (bend[..., None, :] * pull) @ pull.mT
    cost = (weights * kernel.cost(squared)).sum(-1)
    return Linearization(squared, probability, cost, first @ maps.slope, matrix, hessian)
