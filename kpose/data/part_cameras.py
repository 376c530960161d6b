"""Cameras from part annotations and known part positions, for structure from motion."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm.auto import tqdm

from kpose.geometry import project, viewpoint_to_matrix
from kpose.pnp import RobustKernel, refine_camera
from kpose.structures import Camera

__all__ = ["solve_part_cameras"]

# Spread of a visible part about the projection of the mean shape, and how unlikely an outlier's place is relative
# to a perfect one (a log): deformation, not annotation noise, makes most of it. Units of half the object's size.
_SIGMA, _LOG_OUTLIER = 0.09, -24.0


def solve_part_cameras(
    points: Float[Tensor, "N P 2"],
    visible: Bool[Tensor, "N P"],
    shape: Float[Tensor, "P 3"],
    part_names: Sequence[str],
    *,
    sizes: Float[Tensor, "N"],
    progress: bool = False,
) -> Camera:
    """Find the camera of each image from its visible parts and their positions on the object.

    Every image is refined from the best of a grid of viewpoints. Parts that lie near a plane look almost the same
    from its other side (depth reversal); there the left and right parts that are visible decide, by a model of
    visibility that is learned from the images where the positions decide.

    Arguments and cameras are those of `structure_from_motion`; at least four parts of each image are visible.
    """
    image, weight, center = normalize_parts(points, visible, sizes)
    if not len(points):
        return Camera(points.new_zeros(0), points.new_zeros(0, 2), points.new_zeros(0, 3, 3))
    chunks = zip(torch.split(image, 512), torch.split(weight, 512), strict=True)
    bar = tqdm(chunks, desc="cameras", total=-(-len(points) // 512), unit="chunk", disable=not progress)
    found = [candidates(part, weights, shape.double()) for part, weights in bar]
    cost = torch.cat([item[0] for item in found])
    cameras = Camera(*(torch.cat(fields) for fields in zip(*(item[1] for item in found), strict=True)))
    # Half of the visible +x side (the bird's left) faces the viewer where the camera's z of +x is negative.
    facing = -cameras.rotation[..., 2, 0]
    choice = cost.argmin(1)
    rows = torch.arange(len(image), device=image.device)
    for _ in range(2):
        unlikely = _visibility_cost(weight, facing, facing[rows, choice], part_names)
        choice = (cost + unlikely).argmin(1)
    # Of candidates on their way to one optimum, the visibility may have preferred one that was still far from it.
    shapes = shape.double().expand(len(image), -1, -1)
    best = cameras.at((rows[:, None], choice[:, None]))
    scale, translation, rotation = (f[:, 0] for f in refine_camera(image, shapes, weight, best, part_kernel(image)))
    half = sizes.double() / 2
    camera = Camera(scale * half, translation * half[:, None] + center, rotation)
    return camera.to(points.dtype)


def normalize_parts(points: Tensor, visible: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return positions from the mean of the visible parts in units of half the size, weights and that mean."""
    weight = visible.double()
    image = torch.where(visible[..., None], points, 0.0).double()
    center = image.sum(1) / weight.sum(1, keepdim=True).clamp_min(1)
    return (image - center[:, None]) / (sizes.double() / 2)[:, None, None] * weight[..., None], weight, center


def _viewpoints(like: Tensor) -> Tensor:
    azimuth = torch.arange(12) * (math.pi / 6)
    elevation = torch.tensor([-0.7, 0.0, 0.7])
    roll = torch.arange(-2, 3) * (math.pi / 4)
    return viewpoint_to_matrix(*torch.cartesian_prod(azimuth, elevation, roll).unbind(1)).to(like)


def part_kernel(like: Tensor) -> RobustKernel:
    """Return the likelihood of a visible part's place, one for all cameras."""
    return RobustKernel(like.new_full((1, 1), _SIGMA), like.new_full((1, 1), _LOG_OUTLIER))


def part_residuals(image: Tensor, shape: Tensor, camera: Camera) -> Float[Tensor, "N K P"]:
    """Compute the squared distances of parts from their projections by the candidate cameras."""
    points = shape.expand(*camera.scale.shape, -1, -1)
    return (project(points, camera) - image[:, None]).square().sum(-1)


def candidates(image: Tensor, weight: Tensor, shape: Tensor, keep: int = 8) -> tuple[Tensor, Camera]:
    """Refine the best viewpoints of a grid; return their costs (negative log-likelihoods) and cameras."""
    grid = _viewpoints(image)
    share = (weight / weight.sum(1, keepdim=True))[:, :, None]
    flat = torch.einsum("kij,pj->kpi", grid[:, :2], shape)
    middle = torch.einsum("npo,kpi->nki", share, flat)
    # Best scale and translation of every viewpoint in closed form; positions are centered on their mean.
    power = torch.einsum("npo,kpi->nk", share, flat.square()) - middle.square().sum(-1)
    match = torch.einsum("npi,kpi->nk", share * image, flat)
    scale = (match / power.clamp_min(1e-6)).clamp_min(0.05)
    error = scale.square() * power - 2 * scale * match
    best = error.topk(keep, dim=1, largest=False).indices
    rows = torch.arange(len(image), device=image.device)[:, None]
    scale = scale[rows, best]
    camera = Camera(scale, -scale[..., None] * middle[rows, best], grid[best])
    kernel = part_kernel(image)
    camera = refine_camera(image, shape.expand(len(image), -1, -1), weight, camera, kernel)
    cost = kernel.cost(part_residuals(image, shape, camera))
    return (cost * weight[:, None]).sum(-1), camera


def _visibility_cost(weight: Tensor, facing: Tensor, chosen: Tensor, part_names: Sequence[str]) -> Tensor:
    """Compute how unlikely the visibility of the sided parts is in each candidate (a negative log-likelihood).

    A part is visible with a probability that is logistic in how much its side faces the viewer; slope and offset
    of each left-right pair come from the candidates chosen so far.
    """
    names = list(part_names)
    total = torch.zeros_like(facing)
    for left, name in enumerate(names):
        if name.split()[0] != "left":
            continue
        right = names.index(name.replace("left", "right", 1))
        slope, offset = _logistic(torch.cat((chosen, -chosen)), torch.cat((weight[:, left], weight[:, right])))
        for part, side in ((left, facing), (right, -facing)):
            logit = slope * side + offset
            total = total + torch.nn.functional.softplus(torch.where(weight[:, part, None] > 0, -logit, logit))
    return total


def _logistic(feature: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Fit ``p(label) = logistic(slope · feature + offset)`` by Newton's method with a little shrinkage."""
    design = torch.stack((feature, torch.ones_like(feature)), 1)
    beta = torch.zeros_like(design[0])
    for _ in range(20):
        p = torch.sigmoid(design @ beta)
        hessian = (design * (p * (1 - p))[:, None]).mT @ design + torch.eye(2).to(design)
        beta = beta + torch.linalg.solve(hessian, design.mT @ (label - p) - beta)
    return beta[0], beta[1]
