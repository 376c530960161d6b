"""Choosing cameras by appearance: what a category looks like, vertex by vertex, told from unlabelled images.

A silhouette cannot tell front from back. But under the right cameras the same vertex shows the same thing in all
images, a beak or a tail, and under wrong ones it does not. Expectation and maximisation alternate: the mean feature
of every vertex under the cameras that are believed, and the belief in cameras that agree with the means.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from kpose.geometry.camera import project
from kpose.rendering import vertex_visibility
from kpose.structures import Camera, Mesh

__all__ = [
    "AppearanceChoice",
    "AppearanceView",
    "appearance_view",
    "choose_by_appearance",
    "expected_distance",
    "principal_components",
]

FINE_CELLS = 28  # vertices look up the nearest cell, on maps enlarged to about this many cells a side
VISIBILITY_SIZE = 48
NEGLIGIBLE = 0.01  # belief below which a camera has no part in the means
FIRST_SHARPNESS = 20.0  # of the belief by silhouettes alone, as in U-CMR


class AppearanceView(NamedTuple):
    """One picture of each image, and where in it every camera of the image sees the vertices."""

    features: Float[Tensor, "N cells D"]
    """Unit features of the picture's cells; the last cell is zero."""
    cells: Int[Tensor, "N P V"]
    """Cell that shows the vertex, the last one for vertices that are not seen."""


class AppearanceChoice(NamedTuple):
    """Belief in the cameras of each image."""

    belief: Float[Tensor, "N P"]
    """Probability of each camera."""
    losses: Float[Tensor, "N P"]
    """Distance to the true rotation that is to be expected, ``E[sin²(angle / 2)]``: lower is better."""
    agreement: Float[Tensor, "N P"]
    """Mean cosine between the features of the seen vertices and the category's, in [-1, 1]."""
    means: Float[Tensor, "V D"]
    """Unit mean feature of each vertex, equal for mirror partners."""


def principal_components(
    maps: Float[Tensor, "N C h w"], foreground: Float[Tensor, "N h w"], dimensions: int = 64, *, whiten: float = 0.5
) -> tuple[Float[Tensor, "C"], Float[Tensor, "C D"]]:
    """Find the directions in which the features of objects differ most.

    Args:
        maps: Feature maps.
        foreground: Share of each cell that the object covers; cells from one half on count.
        dimensions: Number of directions, at most that of the channels.
        whiten: Power of the variance by which directions are divided: 0 keeps the variances, 0.5 makes them equal.

    Returns:
        Mean feature, and directions scaled as asked.

    Raises:
        ValueError: If no cell is covered.

    Example:
        >>> mean, basis = principal_components(torch.rand(2, 8, 4, 4), torch.ones(2, 4, 4), 3)
        >>> basis.shape
        torch.Size([8, 3])
    """
    covered = foreground >= 0.5
    count = int(covered.sum())
    if not count:
        raise ValueError(
            "principal_components needs an object that covers a cell; all masks are empty. Check them."
        )
    total = torch.zeros(maps.shape[1], device=maps.device)
    products = torch.zeros(maps.shape[1], maps.shape[1], device=maps.device)
    for some, cover in zip(torch.split(maps, 64), torch.split(covered, 64), strict=True):
        features = some.float().permute(0, 2, 3, 1)[cover]
        total += features.sum(0)
        products += features.mT @ features
    mean = total / count
    variances, directions = torch.linalg.eigh(products / count - torch.outer(mean, mean))
    keep = min(dimensions, len(mean))
    scale = variances[-keep:].clamp_min(1e-8) ** -whiten
    return mean, directions[:, -keep:] * scale


def appearance_view(
    mesh: Mesh,
    cameras: Camera,
    maps: Float[Tensor, "N C h w"],
    components: tuple[Float[Tensor, "C"], Float[Tensor, "C D"]],
) -> AppearanceView:
    """Look up the vertices of a template in the feature maps of pictures, under every camera.

    Args:
        mesh: The template; coarse ones of one or two hundred vertices serve well.
        cameras: Cameras of the pictures, ``(N, P)``.
        maps: Feature maps of the pictures.
        components: Mean and directions (see `principal_components`).

    Returns:
        The view. A vertex is not seen if it is outside the picture or hidden.
    """
    mean, basis = components
    height, width = (max(round(FINE_CELLS / max(maps.shape[-2:])), 1) * side for side in maps.shape[-2:])
    features, cells = [], []
    for start in range(0, len(maps), 32):
        some = torch.einsum("nchw,cd->ndhw", maps[start : start + 32].float() - mean[:, None, None], basis)
        fine = interpolate(normalize(some, dim=1), size=(height, width), mode="bilinear", align_corners=False)
        unit = normalize(fine.flatten(2).mT, dim=-1)
        features.append(torch.cat((unit, torch.zeros_like(unit[:, :1])), 1).half())
        camera = Camera(*(part[start : start + 32] for part in cameras))
        seen = vertex_visibility(mesh, camera, size=VISIBILITY_SIZE)
        vertices = mesh.vertices.expand(*camera.scale.shape, *mesh.vertices.shape)
        size = torch.tensor([width, height], device=maps.device)
        column, row = ((project(vertices, camera) + 1) / 2 * size).long().minimum(size - 1).clamp_min(0).unbind(-1)
        cells.append(torch.where(seen, row * width + column, height * width).to(torch.int32))
    return AppearanceView(torch.cat(features), torch.cat(cells))


def choose_by_appearance(
    views: Sequence[AppearanceView],
    rotations: Float[Tensor, "N P 3 3"],
    silhouette_losses: Float[Tensor, "N P"],
    mirror: Int[Tensor, "V"],
    *,
    rounds: int = 8,
    temperature: float = 1.0,
    silhouette_weight: float = 3.0,
) -> AppearanceChoice:
    """Believe in the cameras under which images agree about the appearance of the category.

    Args:
        views: Pictures of the images, such as the photo and its mirror image; their agreement is averaged.
        rotations: Rotations of the cameras, which tell how far from each other they are.
        silhouette_losses: Loss of each camera's silhouette; rescaled to [0, 1] within each image. Without this
            term the category may settle back to front, which explains appearance as well.
        mirror: Mirror partner of each vertex; partners share their mean feature.
        rounds: Rounds of expectation and maximisation.
        temperature: Difference of agreement that changes the odds of a camera by a factor e, in standard deviations
            of the agreement among the cameras of an image (on average over the images): backbones and maps differ
            in how much their features vary at all.
        silhouette_weight: Logarithm of the odds between an image's best and worst silhouette.

    Returns:
        The choice. Its losses are those of a decision, not the belief itself: a camera that is a little likelier
        than each of five neighbours on the other side of the object is not the one to take.

    Raises:
        ValueError: If there is no view or no round.

    Example:
        >>> features = torch.nn.functional.normalize(torch.rand(3, 5, 4), dim=-1)
        >>> view = AppearanceView(features, torch.randint(5, (3, 2, 6)))
        >>> rotations = torch.eye(3).expand(3, 2, 3, 3)
        >>> choose_by_appearance([view], rotations, torch.rand(3, 2), torch.arange(6)).losses.shape
        torch.Size([3, 2])
    """
    if not views or rounds < 1:
        raise ValueError(f"choose_by_appearance needs a view and a round; got {len(views)} and {rounds}. Add them.")
    prior = -_rescaled(silhouette_losses)
    belief = torch.softmax(FIRST_SHARPNESS * prior, -1)
    for _ in range(rounds):
        means = _means(views, belief, mirror)
        agreement = torch.stack([_agreement(view, means) for view in views]).mean(0)
        spread = agreement.std(-1, correction=0).mean().clamp_min(1e-9)
        belief = torch.softmax(agreement / (temperature * spread) + silhouette_weight * prior, -1)
    return AppearanceChoice(belief, expected_distance(rotations, belief), agreement, means)


def expected_distance(rotations: Float[Tensor, "N P 3 3"], belief: Float[Tensor, "N P"]) -> Float[Tensor, "N P"]:
    """Say how far each rotation is expected to be from the true one: ``E[sin²(angle / 2)]``.

    Args:
        rotations: Rotations of which one is believed to be true.
        belief: Their probabilities.

    Returns:
        Distances in [0, 1].

    Example:
        >>> opposite = torch.stack((torch.eye(3), torch.diag(torch.tensor([1.0, -1.0, -1.0]))))
        >>> expected_distance(opposite[None], torch.tensor([[0.75, 0.25]]))
        tensor([[0.2500, 0.7500]])
    """
    # |R - S|² / 8 = (6 - 2 tr(RᵀS)) / 8, and the trace is linear in S.
    mean = torch.einsum("np,npij->nij", belief, rotations)
    return (3 - torch.einsum("npij,nij->np", rotations, mean)) / 4


def _means(views: Sequence[AppearanceView], belief: Tensor, mirror: Tensor) -> Tensor:
    image, camera = (belief > NEGLIGIBLE).nonzero(as_tuple=True)
    weight = belief[image, camera]
    total = belief.new_zeros(len(mirror), views[0].features.shape[-1])
    for view in views:
        for some in torch.split(torch.arange(len(image), device=image.device), 2048):
            cells = view.cells[image[some], camera[some]].long()
            total += torch.einsum("k,kvd->vd", weight[some], view.features[image[some, None], cells].float())
    return normalize(total + total[mirror], dim=-1)


def _agreement(view: AppearanceView, means: Tensor) -> Tensor:
    parts = []
    for features, cells in zip(torch.split(view.features, 128), torch.split(view.cells, 128), strict=True):
        cosines = features.float() @ means.mT
        seen = (cells < features.shape[1] - 1).sum(-1).clamp_min(1)
        parts.append(cosines.gather(1, cells.long()).sum(-1) / seen)
    return torch.cat(parts)


def _rescaled(losses: Tensor) -> Tensor:
    least, most = losses.amin(-1, keepdim=True), losses.amax(-1, keepdim=True)
    return (losses - least) / (most - least).clamp_min(1e-9)
