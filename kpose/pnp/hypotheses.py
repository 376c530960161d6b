"""First guesses of the pose: closed form on all points, closed form on random minimal samples, mirror twins."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kpose.pnp.model import Pose, Problem

__all__: list[str] = []

SAMPLE = 4
"""Points of a minimal sample: an affine camera is determined by four."""


def closed_form(problem: Problem) -> Pose:
    """Solve for three candidates on all points, weighted.

    The first is affine least squares followed by the special Procrustes projection of its 2 × 3 part. Its column
    along the thinnest axis of the point set is poorly determined when the set is near-planar, so the two others
    take only the in-plane part and complete it by orthogonality, once for each sign (the mirror ambiguity).
    """
    image, points, weights = problem
    total = weights.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    share = (weights / total)[..., None]
    centre, image_centre = (share * points).sum(1), (share * image).sum(1)
    offset, image_offset = points - centre[:, None], image - image_centre[:, None]
    spread, axes = torch.linalg.eigh((share * offset).mT @ offset)  # ascending: column 0 is the thinnest axis
    floor = spread[..., 2:] * 10 * torch.finfo(spread.dtype).eps + torch.finfo(spread.dtype).tiny
    affine = (share * image_offset).mT @ offset @ axes / spread.clamp_min(floor)[..., None, :]
    plane = affine[..., 1:]
    depth = missing_column(plane)
    candidates = torch.stack((affine, _prepend(depth, plane), _prepend(-depth, plane)), 1)
    scale, rotation = orthogonalize((candidates @ axes.mT[:, None]).movedim((-2, -1), (0, 1)))
    return Pose(scale, image_centre[:, None] - _projected(scale, rotation, centre[:, None]), rotation)


def _prepend(column: Tensor, plane: Tensor) -> Tensor:
    return torch.cat((column[..., None], plane), -1)


def _projected(scale: Tensor, rotation: Tensor, point: Tensor) -> Tensor:
    return scale[..., None] * (rotation[..., :2, :] @ point[..., None])[..., 0]


def missing_column(plane: Float[Tensor, "*batch 2 2"]) -> Float[Tensor, "*batch 2"]:
    """Give the column ``m`` that makes the rows of ``[m | plane]`` orthogonal and equally long, up to its sign.

    Source:
        Huttenlocher & Ullman, Recognizing Solid Objects by Alignment with an Image, IJCV 1990, section 3.
    """
    gram = plane @ plane.mT
    half = (gram[..., 0, 0] - gram[..., 1, 1]) / 2
    # scale² is the larger eigenvalue of the Gram matrix, m mᵀ = scale² I - gram has rank one.
    radius = torch.hypot(half, gram[..., 0, 1])
    x, y = (radius - half).clamp_min(0).sqrt(), (radius + half).clamp_min(0).sqrt()
    return torch.stack((x, torch.where(gram[..., 0, 1] > 0, -y, y)), -1)


def orthogonalize(
    affine: Float[Tensor, "2 3 *batch"],
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch 3 3"]]:
    """Give scale and rotation nearest to affine cameras: the polar factor of a 2 × 3 matrix, without SVD.

    The rows come first in memory, which makes many small matrices fast.
    """
    tiny = torch.finfo(affine.dtype).tiny
    first, second = affine
    xx, yy, xy = _dot(first, first), _dot(second, second), _dot(first, second)
    trace, root = xx + yy, (xx * yy - xy.square()).clamp_min(0).sqrt()
    scale = (trace + 2 * root).clamp_min(tiny).sqrt() / 2  # mean of the two singular values
    # (A Aᵀ)^(-1/2) A by Cayley-Hamilton, up to a factor that the unit length settles.
    factor = 1 / (trace * trace.sqrt()).clamp_min(tiny)
    x = ((root + yy) * first - xy * second) * factor
    y = ((root + xx) * second - xy * first) * factor
    x = _unit(x, x.new_tensor([1.0, 0.0, 0.0]).reshape(3, *(1,) * (x.dim() - 1)))
    turned = torch.stack((-x[1] - x[2], x[0], x[0]))  # at a right angle to x, and zero only where x is ∓(y - z)
    other = _unit(torch.where((x[0].abs() > 0.1), turned, torch.stack((torch.zeros_like(x[0]), -x[2], x[1]))), x)
    y = _unit(y - _dot(x, y) * x, other)
    return scale, torch.stack((x, y, _cross(x, y))).movedim((0, 1), (-2, -1))


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


def _cross(first: Tensor, second: Tensor) -> Tensor:
    (a, b, c), (d, e, f) = first.unbind(), second.unbind()
    return torch.stack((b * f - c * e, c * d - a * f, a * e - b * d))


def _unit(vector: Tensor, fallback: Tensor) -> Tensor:
    length = _dot(vector, vector).sqrt()
    usable = (length > 1e-6) & length.isfinite()
    return torch.where(usable, vector / torch.where(usable, length, 1.0), fallback)


def draw_samples(weights: Float[Tensor, "P N"], draws: Float[Tensor, "H 4"]) -> Int[Tensor, "P 4 H"]:
    """Draw points without replacement, with probability proportional to weight.

    Every problem sees the same uniform numbers ``draws``: an answer does not depend on its neighbours in the batch.
    """
    edges = weights.cumsum(-1)
    left = edges[:, -1:]
    samples: list[Tensor] = []
    ordered: list[Tensor] = []
    for draw in draws.unbind(-1):
        place = draw * left  # position on the line of weights from which the points already taken are cut out
        for taken in ordered:
            length = weights.gather(-1, taken)
            place = torch.where(place >= edges.gather(-1, taken) - length, place + length, place)
        index = torch.searchsorted(edges, place, right=True).clamp_max(weights.shape[-1] - 1)
        samples.append(index)
        left = (left - weights.gather(-1, index)).clamp_min(0)
        for position, taken in enumerate(ordered):
            ordered[position], index = torch.minimum(taken, index), torch.maximum(taken, index)
        ordered.append(index)
    return torch.stack(samples, 1)


def sample_poses(problem: Problem, index: Int[Tensor, "P 4 H"]) -> Pose:
    """Solve the closed form on samples of four points: the exact affine camera, made orthogonal."""
    table = torch.cat((problem.object, problem.image), -1).mT
    samples = table.gather(-1, index.flatten(1)[:, None].expand(-1, 5, -1)).reshape(len(table), 5, *index.shape[1:])
    samples = samples.permute(2, 1, 0, 3)  # (4, 5, P, H)
    origin = samples.mean(0)
    edges = samples[1:] - samples[:1]
    (a, b, c), image_edges = edges[:, :3], edges[:, 3:]
    cofactors = torch.stack((_cross(b, c), _cross(c, a), _cross(a, b)))
    volume = _dot(a, cofactors[0])
    # Ridge on the volume: a flat sample gets a small, not an infinite, out-of-plane part.
    ridge = 1e-6 * edges[:, :3].square().sum((0, 1)) ** 3 + torch.finfo(volume.dtype).tiny
    affine = (cofactors[:, None] * image_edges[:, :, None]).sum(0) * (volume / (volume.square() + ridge))
    scale, rotation = orthogonalize(affine)
    shift = scale * torch.stack([_dot(rotation[..., i, :].movedim(-1, 0), origin[:3]) for i in (0, 1)])
    return Pose(scale, (origin[3:] - shift).movedim(0, -1), rotation)


def mirror_twins(problem: Problem, pose: Pose, weights: Float[Tensor, "P K N"]) -> Pose:
    """Give the poses that show the point set's best-fitting plane just as well, from the other side.

    They are ``R' = F R G`` with ``F = diag(1, 1, -1)`` and ``G`` the reflection in that plane (Necker reversal).
    """
    total = weights.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    share = weights / total
    centre = share @ problem.object  # (P, K, 3)
    offset = problem.object[:, None] - centre[..., None, :]
    normal = torch.linalg.eigh((share[..., None] * offset).mT @ offset)[1][..., 0]
    flip = pose.rotation.new_tensor([1.0, 1.0, -1.0])[:, None]
    rotation = flip * pose.rotation
    rotation = rotation - 2 * (rotation @ normal[..., None]) @ normal[..., None, :]
    shift = _projected(pose.scale, pose.rotation - rotation, centre)
    return Pose(pose.scale, pose.translation + shift, rotation)
