"""The weak-perspective model as the solver sees it: residuals, derivatives and the robust kernel.

Everything here works on a flat batch: ``P`` problems of ``N`` points, with ``K`` candidate cameras each. A camera
is moved by six numbers ``(log scale, t_x, t_y, rotation vector)``: ``s ← s e^δ``, ``t ← t + τ``, ``R ← exp(ω) R``.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from kpose.geometry import axis_angle_to_matrix
from kpose.structures import Camera

__all__ = ["RobustKernel"]


class Problem(NamedTuple):
    """Correspondences, centered so that float32 suffices."""

    image: Float[Tensor, "P N 2"]
    object: Float[Tensor, "P N 3"]
    weights: Float[Tensor, "P N"]
    """Scaled to the sum of the effective number of points; zero where a point is not usable."""


class RobustKernel(NamedTuple):
    """Likelihood of a point that is a Gaussian inlier or a uniform outlier, one for each camera.

    Least squares is ``log_outlier = -inf``.

    Example:
        >>> kernel = RobustKernel(torch.tensor(0.1), torch.tensor(-8.0))
        >>> kernel.probability(torch.tensor([0.0, 0.1]).square())
        tensor([0.9997, 0.9994])
    """

    sigma: Float[Tensor, "*#batch"]
    """Standard deviation of an inlier's coordinate, image units."""
    log_outlier: Float[Tensor, "*#batch"]
    """Log density of an outlier relative to the inliers' peak density."""

    def cost(self, squared: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch N"]:
        """Compute the negative log likelihood ``rho / (2 sigma²)`` of squared residuals, zero at zero."""
        exponent = squared * self._precision()
        outlier = self.log_outlier[..., None]
        softplus = torch.nn.functional.softplus
        return exponent - (softplus(exponent + outlier) - softplus(outlier))

    def probability(self, squared: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch N"]:
        """Compute the inlier probability ``rho'`` of squared residuals."""
        return torch.sigmoid(-self.log_outlier[..., None] - squared * self._precision())

    def trust(self, squared: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch N"]:
        """Compute the inlier probability relative to that of a residual of zero."""
        exponent = squared * self._precision()
        return 1 + torch.sigmoid(exponent + self.log_outlier[..., None]) * torch.expm1(-exponent)

    def _precision(self) -> Tensor:
        return (0.5 / self.sigma.square())[..., None]


class Linearization(NamedTuple):
    """Robust cost ``Σ w ρ / (2 σ²)`` at a camera, and its derivatives (times ``σ²``)."""

    squared: Float[Tensor, "P K N"]
    probability: Float[Tensor, "P K N"]
    cost: Float[Tensor, "P K"]
    slope: Float[Tensor, "P K 6"]
    matrix: Float[Tensor, "P K 6 6"]
    """Gauss-Newton."""
    hessian: Float[Tensor, "P K 6 6"]
    """Exact."""


def least_squares_kernel(camera: Camera) -> RobustKernel:
    """Return the kernel without outliers."""
    return RobustKernel(torch.ones_like(camera.scale), torch.full_like(camera.scale, -torch.inf))


def select(camera: Camera, index: Int[Tensor, "P L"]) -> Camera:
    """Pick candidates of each problem by index."""
    rows = torch.arange(index.shape[0], device=index.device)[:, None]
    return camera.at((rows, index))


def move(camera: Camera, step: Float[Tensor, "P K 6"]) -> Camera:
    """Move cameras by steps of the six parameters."""
    return Camera(
        camera.scale * step[..., 0].exp(),
        camera.translation + step[..., 1:3],
        axis_angle_to_matrix(step[..., 3:]) @ camera.rotation,
    )


def view(problem: Problem, camera: Camera) -> tuple[Float[Tensor, "P K 3 N"], Float[Tensor, "P K 2 N"]]:
    """Compute the camera-frame offset ``Y = s R X`` and the residual of each point, points last for speed."""
    offset = _turned(problem, camera.scale[..., None, None] * camera.rotation)
    return offset, _residuals(problem, camera, offset[..., :2, :])


def squared_residuals(problem: Problem, camera: Camera) -> Float[Tensor, "P K N"]:
    """Compute the squared distance of every point from its projection."""
    offset = _turned(problem, camera.scale[..., None, None] * camera.rotation[..., :2, :])
    x, y = _residuals(problem, camera, offset).unbind(-2)
    return torch.addcmul(x * x, y, y)


def _turned(problem: Problem, rows: Float[Tensor, "P K R 3"]) -> Float[Tensor, "P K R N"]:
    # One product for all cameras of a problem: small ones take as long each.
    return torch.unflatten(rows.flatten(1, 2) @ problem.object.mT, 1, rows.shape[1:3])


def _residuals(problem: Problem, camera: Camera, offset: Float[Tensor, "P K 2 N"]) -> Float[Tensor, "P K 2 N"]:
    return (offset - problem.image.mT[:, None]).add_(camera.translation[..., None])


def jacobian(offset: Float[Tensor, "*batch 3 N"]) -> Float[Tensor, "*batch 6 2 N"]:
    """Differentiate the image coordinates of points: ``d(e^δ exp(ω) Y + τ) = δ Y + τ + ω × Y``."""
    x, y, z = offset.unbind(-2)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = torch.stack((x, y, one, zero, zero, one, zero, -z, z, zero, -y, x), -2)
    return torch.unflatten(rows, -2, (6, 2))


def linearize(problem: Problem, camera: Camera, kernel: RobustKernel) -> Linearization:
    """Evaluate cost and derivatives."""
    offset, residual = view(problem, camera)
    squared = residual.square().sum(-2)
    probability = kernel.probability(squared)
    weights = problem.weights[:, None]
    trusted = weights * probability
    derivative = jacobian(offset)
    pull = (derivative * residual[..., None, :, :]).sum(-2)  # Jᵀ r of each point
    slope = (trusted[..., None, :] * pull).sum(-1)
    matrix = (trusted[..., None, None, :] * derivative).flatten(-2) @ derivative.flatten(-2).mT
    # The kernel's curvature: -w p (1 - p) / σ² (Jᵀ r)(Jᵀ r)ᵀ.
    bend = trusted * (probability - 1) / kernel.sigma.square()[..., None]
    hessian = matrix + (bend[..., None, :] * pull) @ pull.mT
    # The model's own: ∂δ∂(δ, ω) repeats the first derivative, ∂ω_i∂ω_j is (r_i Y_j + r_j Y_i) / 2 - δ_ij r·Y.
    grow, turn = slope[..., :1, None], slope[..., 3:, None]
    moment = pad((trusted[..., None, :] * residual) @ offset.mT, (0, 0, 0, 1))
    turns = (moment + moment.mT) / 2 - grow * torch.eye(3, dtype=moment.dtype, device=moment.device)
    first = pad(torch.cat((grow / 2, pad(turn, (0, 0, 2, 0))), -2), (0, 5))
    hessian = hessian + pad(turns, (3, 0, 3, 0)) + first + first.mT
    cost = (weights * kernel.cost(squared)).sum(-1)
    return Linearization(squared, probability, cost, slope, matrix, hessian)
