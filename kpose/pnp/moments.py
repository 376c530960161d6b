"""Products of the points' coordinates, in which the residuals and normal equations of any camera are linear.

Here the components of many small vectors and matrices come first: long runs in memory instead of small matrices.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.pnp.model import Problem

__all__: list[str] = []


class Moments(NamedTuple):
    """One matrix product evaluates many cameras at once; rounding relative to the image's extent is the price."""

    terms: Float[Tensor, "P 24 N"]
    """The products of ``(1, X)`` with ``(1, X, x)``, row by row."""
    lengths: Float[Tensor, "P 1 N"]
    """``|x|²``."""

    def squared_distances(self, affine: Float[Tensor, "2 4 P K"]) -> Float[Tensor, "P K N"]:
        """Compute the squared distances of points from their projections by affine cameras (shift, rows)."""
        square = (affine[:, :, None] * affine[:, None]).sum(0)
        factors = torch.cat((square, -2 * affine.transpose(0, 1)), 1).flatten(0, 1)
        return torch.baddbmm(self.lengths, factors.permute(1, 2, 0), self.terms).clamp_(min=0)

    def means(self, weights: Float[Tensor, "P K N"]) -> Float[Tensor, "4 6 P K"]:
        """Compute the weighted means of ``(1, X)`` times ``(1, X, x)``."""
        sums = (weights @ self.terms.mT).permute(2, 0, 1).contiguous()
        return torch.unflatten(sums / sums[:1].clamp_min(torch.finfo(sums.dtype).tiny), 0, (4, 6))


def moments(problem: Problem) -> Moments:
    """Multiply each point's coordinates."""
    image = problem.image.mT
    point = torch.cat((torch.ones_like(image[:, :1]), problem.object.mT), 1)
    terms = (point[:, :, None] * torch.cat((point, image), 1)[:, None]).flatten(1, 2)
    return Moments(terms, image.square().sum(1, keepdim=True))


def dot(first: Float[Tensor, "3 *batch"], second: Float[Tensor, "3 *batch"]) -> Float[Tensor, "*batch"]:
    """Multiply vectors."""
    return (first * second).sum(0)


def cross(first: Float[Tensor, "3 *#batch"], second: Float[Tensor, "3 *#batch"]) -> Float[Tensor, "3 *#batch"]:
    """Multiply vectors, giving vectors."""
    product: Tensor = torch.linalg.cross(first, second, dim=0)
    return product


def multiply(left: Float[Tensor, "I J *batch"], right: Float[Tensor, "J L *batch"]) -> Float[Tensor, "I L *batch"]:
    """Multiply matrices."""
    return (left[:, :, None] * right).sum(1)
