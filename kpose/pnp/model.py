"""The weak-perspective model as the solver sees it: poses, residuals, derivatives and the robust kernel.

Everything here works on a flat batch: ``P`` problems of ``N`` points, with ``K`` candidate poses each. A pose is
moved by six numbers ``(log scale, t_x, t_y, rotation vector)``: ``s ← s e^δ``, ``t ← t + τ``, ``R ← exp(ω) R``.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kpose.geometry.rotation import axis_angle_to_matrix

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


def join(*poses: Pose) -> Pose:
    """Put the candidates of several sets side by side."""
    return Pose(*(torch.cat(fields, 1) for fields in zip(*poses, strict=True)))


def move(pose: Pose, step: Float[Tensor, "P K 6"]) -> Pose:
    """Move poses by steps of the six parameters."""
    return Pose(
        pose.scale * step[..., 0].exp(),
        pose.translation + step[..., 1:3],
        axis_angle_to_matrix(step[..., 3:]) @ pose.rotation,
    )


def view(problem: Problem, pose: Pose) -> tuple[Float[Tensor, "P K N 4"], Float[Tensor, "P K N 2"]]:
    """Give each point's ``(1, Y)``, ``Y = s R X`` being its camera-frame offset, and its residual."""
    offset = problem.object[:, None] @ (pose.scale[..., None, None] * pose.rotation).mT
    residual = offset[..., :2] + pose.translation[..., None, :] - problem.image[:, None]
    return torch.nn.functional.pad(offset, (1, 0), value=1.0), residual


def squared_residuals(problem: Problem, pose: Pose) -> Float[Tensor, "P K N"]:
    """Give the squared distance of every point from its projection."""
    count = pose.scale.shape[1]
    rows = (pose.scale[..., None, None] * pose.rotation[..., :2, :]).transpose(1, 2).flatten(1, 2)  # (P, 2K, 3)
    shift = pose.translation.mT.flatten(1)[:, :, None]
    projected = torch.baddbmm(shift, rows, problem.object.mT)
    x = projected[:, :count] - problem.image[..., 0][:, None]
    y = projected[:, count:] - problem.image[..., 1][:, None]
    return torch.addcmul(x * x, y, y)


def jacobian_maps(like: Tensor) -> tuple[Float[Tensor, "6 4"], Float[Tensor, "6 4"]]:
    """Give the matrices that take ``(1, Y)`` to the derivatives of the two image coordinates."""
    x, y = like.new_zeros(6, 4), like.new_zeros(6, 4)
    # d(e^δ exp(ω) Y + τ) = δ Y + τ + ω × Y
    x[0, 1] = x[1, 0] = x[4, 3] = 1
    y[0, 2] = y[2, 0] = y[5, 1] = 1
    x[5, 2] = y[3, 3] = -1
    return x, y


def gradient(terms: Tensor, residual: Tensor, weights: Tensor) -> Float[Tensor, "P K 6"]:
    """Give ``Σ w Jᵀ r``."""
    x, y = jacobian_maps(terms)
    moments = (weights[..., None] * residual).mT @ terms
    return moments[..., 0, :] @ x.mT + moments[..., 1, :] @ y.mT


def gauss_newton(terms: Tensor, weights: Tensor) -> Float[Tensor, "P K 6 6"]:
    """Give ``Σ w Jᵀ J``."""
    x, y = jacobian_maps(terms)
    moments = (weights[..., None] * terms).mT @ terms
    return x @ moments @ x.mT + y @ moments @ y.mT


def linearize(problem: Problem, pose: Pose, kernel: Kernel) -> Linearization:
    """Evaluate cost and derivatives."""
    terms, residual = view(problem, pose)
    squared = residual.square().sum(-1)
    probability = kernel.probability(squared)
    weights = problem.weights[:, None]
    matrix = gauss_newton(terms, weights * probability)
    hessian = matrix + curvature(terms, residual, weights, probability, kernel)
    slope = gradient(terms, residual, weights * probability)
    return Linearization(squared, probability, (weights * kernel.cost(squared)).sum(-1), slope, matrix, hessian)


def curvature(
    terms: Tensor, residual: Tensor, weights: Tensor, probability: Tensor, kernel: Kernel
) -> Float[Tensor, "P K 6 6"]:
    """Give what the exact Hessian has beyond Gauss-Newton: the model's and the kernel's second derivatives."""
    x, y = jacobian_maps(terms)
    # Kernel: -w p (1 - p) / σ² (Jᵀ r)(Jᵀ r)ᵀ.
    bend = (weights * probability * (1 - probability)).div(kernel.sigma.square()[..., None])
    pull = residual[..., :1] * (terms @ x.mT) + residual[..., 1:] * (terms @ y.mT)
    hessian = -(bend[..., None] * pull).mT @ pull
    # Model: ∂δ∂(δ, ω) repeats the gradient; ∂ω_i∂ω_j gives (r_i Y_j + r_j Y_i) / 2 - δ_ij r·Y.
    moments = torch.nn.functional.pad((weights * probability)[..., None] * residual, (0, 1)).mT @ terms[..., 1:]
    trace = moments.diagonal(dim1=-2, dim2=-1).sum(-1)
    turn = torch.stack((-moments[..., 1, 2], moments[..., 0, 2], moments[..., 1, 0] - moments[..., 0, 1]), -1)
    eye = torch.eye(3, dtype=terms.dtype, device=terms.device)
    hessian[..., 0, 0] += trace
    hessian[..., 0, 3:] += turn
    hessian[..., 3:, 0] += turn
    hessian[..., 3:, 3:] += (moments + moments.mT) / 2 - trace[..., None, None] * eye
    return hessian
