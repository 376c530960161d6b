"""The appearance of a category, vertex by vertex, learned from unlabeled images, and the poses it makes likely.

A silhouette cannot tell front from back. But under the right rotations the same vertex shows the same thing in all
images, a beak or a tail, and under wrong ones it does not. Expectation and maximization alternate: the mean feature
of every vertex under the probable rotations, and the probability of rotations that match the means.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize, pad

from kpose._distributed import total
from kpose.reconstruction.camera_weights import rescale
from kpose.reconstruction.template_views import TemplateViews

__all__ = ["PosePosterior", "expected_distance", "expected_miss", "pose_posterior", "principal_components"]

NUM_PROBABLE = 96  # rotations of each image that have a part in the means
FIRST_SHARPNESS = 20.0  # of the probability by silhouettes alone, as in U-CMR
CONCENTRATION = 12.5  # of the neighborhood of a rotation, which falls to 1 / e at 23°
BALANCING_STEPS = 3
CHUNK = 8  # images at a time


class PosePosterior(NamedTuple):
    """What the appearance of the category says about the rotation of each image."""

    probability: Float[Tensor, "N R"]
    """Probability of each rotation."""
    similarity: Float[Tensor, "N R"]
    """Mean cosine between the features of the seen vertices and the category's, less what all images share."""
    means: Float[Tensor, "V D"]
    """Mean feature of each vertex, equal for mirror partners."""


def principal_components(
    batches: Iterable[tuple[Float[Tensor, "n C h w"], Float[Tensor, "n h w"]]],
    dimensions: int = 64,
    *,
    whiten: float = 0.5,
) -> tuple[Float[Tensor, "C"], Float[Tensor, "C D"]]:
    """Find the directions in which the features of objects differ most, in all batches of all processes.

    Batches are feature maps and how much of each cell the object covers: cells count from a half on. Directions are
    divided by their variance to the power of ``whiten``: 0.5 makes all variances equal. Beside them stands the mean
    feature.
    """
    count, sums, products = 0, torch.zeros(()), torch.zeros(())
    for maps, cover in batches:
        features = maps.float().permute(0, 2, 3, 1)[cover >= 0.5]
        count += len(features)
        sums = sums.to(features.device) + features.sum(0)
        products = products.to(features.device) + features.mT @ features
    number = float(total(torch.tensor(float(count), dtype=torch.double, device=sums.device)))
    if not number:
        raise ValueError(
            "principal_components needs an object that covers a cell; all masks are empty. Check them."
        )
    mean = total(sums) / number
    variances, directions = torch.linalg.eigh(total(products) / number - torch.outer(mean, mean))
    keep = min(dimensions, len(mean))
    scale = variances[-keep:].clamp_min(1e-8) ** -whiten
    return mean, directions[:, -keep:] * scale


def pose_posterior(
    features: Float[Tensor, "N D cells"],
    overlap: Float[Tensor, "N R"],
    views: TemplateViews,
    mirror: Int[Tensor, "V"],
    *,
    rounds: int = 6,
    temperature: float = 0.35,
    silhouette_weight: float = 6.0,
    hubness: float = 0.4,
    balance: float = 0.6,
    discriminants: int = 32,
    shrinkage: float = 0.1,
) -> PosePosterior:
    """Estimate the rotations under which all images show the same appearance of the category; see `choose_cameras`.

    Images are those of this process, and statistics those of all; images are compared on the device of the overlap,
    to which their features travel a few at a time. Features, zero where a window has no image, are compared in the
    ``discriminants`` directions in which vertices differ most, measured by how much the features of one vertex
    differ from image to image. ``shrinkage`` times the mean variance is added to each of these, so that directions
    in which nothing varies do not count for everything.
    Without the overlap the category may settle back to front, which explains appearance as well.

    Source:
        Fisher, The Use of Multiple Measurements in Taxonomic Problems, 1936, for the discriminants; Radovanović et
        al., Hubs in Space, JMLR 2010, for the correction.
    """
    if rounds < 1:
        raise ValueError(f"pose_posterior needs a round; got {rounds}. Add one.")
    neighbors = _nearness(views.rotations, views.rotations)
    neighbors = neighbors / neighbors.sum(-1, keepdim=True)
    probability = torch.softmax(FIRST_SHARPNESS * rescale(overlap), -1)
    images = total(overlap.new_tensor(float(len(overlap))))
    prior = rescale(overlap - hubness * total(overlap.sum(0)) / images)
    for _ in range(rounds):
        means, center, within, between = _statistics(features, probability, views, mirror)
        directions = _discriminants(within, between, discriminants, shrinkage)
        similarity = _similarity(
            features, views, center, directions, normalize((means - center) @ directions, dim=-1)
        )
        similarity -= hubness * total(similarity.sum(0)) / images
        spread = (total(similarity.std(-1, correction=0).sum()) / images).clamp_min(1e-9)
        probability = _balanced(
            similarity / (temperature * spread) + silhouette_weight * prior, neighbors, balance, images
        )
    return PosePosterior(probability, similarity, means)


def expected_distance(
    candidates: Float[Tensor, "N P 3 3"], rotations: Float[Tensor, "N R 3 3"], probability: Float[Tensor, "N R"]
) -> Float[Tensor, "N P"]:
    """Compute how far rotations are expected to be from the true one: ``E[sin²(angle / 2)]``, in [0, 1].

    Example:
        >>> opposite = torch.stack((torch.eye(3), torch.diag(torch.tensor([1.0, -1.0, -1.0]))))
        >>> expected_distance(opposite[None], opposite[None], torch.tensor([[0.75, 0.25]]))
        tensor([[0.2500, 0.7500]])
    """
    # |R - S|² / 8 = (6 - 2 tr(RᵀS)) / 8, and the trace is linear in S.
    expected = torch.einsum("nr,nrij->nij", probability, rotations)
    return (3 - torch.einsum("npij,nij->np", candidates, expected)) / 4


def expected_miss(
    candidates: Float[Tensor, "N P 3 3"], rotations: Float[Tensor, "R 3 3"], probability: Float[Tensor, "N R"]
) -> Float[Tensor, "N P"]:
    """Compute how likely rotations are not near the true one: ``E[1 - exp(κ (cos(angle) - 1))]`` with κ = 12.5.

    The least expected *distance* is often halfway between two poses that are both possible, and right for neither.

    Example:
        >>> opposite = torch.stack((torch.eye(3), torch.diag(torch.tensor([1.0, -1.0, -1.0]))))
        >>> expected_miss(opposite[None], opposite, torch.tensor([[0.75, 0.25]]))
        tensor([[0.2500, 0.7500]])
    """
    parts = []
    for some, share in zip(torch.split(candidates, CHUNK), torch.split(probability, CHUNK), strict=True):
        parts.append(1 - torch.einsum("npr,nr->np", _nearness(some, rotations), share))
    return torch.cat(parts)


def _nearness(rotations: Tensor, others: Tensor) -> Tensor:
    """Return for each pair of rotations 1 where they are equal, less the farther they are apart."""
    trace = torch.einsum("...ij,rij->...r", rotations, others)  # 1 + 2 cos(angle)
    return (CONCENTRATION * ((trace - 1) / 2 - 1).clamp_max(0)).exp()


def _balanced(logits: Tensor, neighbors: Tensor, balance: float, images: Tensor) -> Tensor:
    """Turn logits into probabilities, lower for rotations that are probable in many images."""
    probability = torch.softmax(logits, -1)
    for _ in range(BALANCING_STEPS):
        density = (total(probability.sum(0)) / images @ neighbors * len(neighbors)).clamp_min(1e-3)
        probability = torch.softmax(logits - balance * density.log(), -1)
    return probability


def _statistics(
    features: Tensor, probability: Tensor, views: TemplateViews, mirror: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the vertices' mean features, the mean of all, and the covariances within and between vertices."""
    weight, rotation = probability.topk(min(NUM_PROBABLE, probability.shape[-1]), -1)
    cells, channels = features.shape[-1], features.shape[1]
    count = probability.new_zeros(len(mirror))
    sums, square = probability.new_zeros(len(mirror), channels), probability.new_zeros(channels, channels)
    for some, share, which in zip(*(torch.split(x, CHUNK) for x in (features, weight, rotation)), strict=True):
        some, shown = some.to(share.device, torch.float), views.cells[which]
        part = probability.new_zeros(len(some), cells + 1, len(mirror))
        part = part.scatter_add_(1, shown, share[..., None].expand(shown.shape))[:, :-1]
        count += part.sum((0, 1))
        sums += torch.einsum("ncv,ndc->vd", part, some)
        square += torch.einsum("nc,ndc,nec->de", part.sum(-1), some, some)
    count, sums, square = total(count), total(sums), total(square)
    count, sums, square = count + count[mirror], sums + sums[mirror], square * 2
    means = sums / count[:, None].clamp_min(1e-6)
    center = sums.sum(0) / count.sum().clamp_min(1e-6)
    offset = means - center
    between = torch.einsum("v,vd,ve->de", count, offset, offset) / count.sum().clamp_min(1e-6)
    return means, center, square / count.sum().clamp_min(1e-6) - torch.outer(center, center) - between, between


def _discriminants(within: Tensor, between: Tensor, number: int, shrinkage: float) -> Tensor:
    """Find the directions of most variance between vertices, where that within them is one."""
    level = (shrinkage * within.diagonal().mean()).clamp_min(1e-8)
    whitening: Tensor = torch.linalg.inv(
        torch.linalg.cholesky(within + level * torch.eye(len(within), device=within.device))
    )
    directions: Tensor = torch.linalg.eigh(whitening @ between @ whitening.mT).eigenvectors
    return whitening.mT @ directions[:, -number:]


def _similarity(
    features: Tensor, views: TemplateViews, center: Tensor, directions: Tensor, means: Tensor
) -> Tensor:
    """Average the cosines of what every rotation shows at the vertices to their means."""
    cells = features.shape[-1]
    seen = (views.cells < cells).sum(-1).clamp_min(1)
    parts = []
    for some in torch.split(features, CHUNK):
        unit = normalize((some.mT.to(center) - center) @ directions, dim=-1)
        cosines = pad(unit @ means.mT, (0, 0, 0, 1))
        parts.append(cosines.gather(1, views.cells.expand(len(some), -1, -1)).sum(-1) / seen)
    return torch.cat(parts)
