"""First guesses of the pose: closed form on all points, closed form on random minimal samples, mirror twins."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kpose.pnp.model import SPREAD, PoseStack, Problem, Products

__all__: list[str] = []

SAMPLE = 4
"""Points of a minimal sample: an affine camera is determined by four."""


def closed_form(problem: Problem) -> PoseStack:
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
    shift = scale * (rotation[:2] * centre.mT[..., None]).sum(1)
    return PoseStack(scale, image_centre.mT[..., None] - shift, rotation)


def _prepend(column: Tensor, plane: Tensor) -> Tensor:
    return torch.cat((column[..., None], plane), -1)


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
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "3 3 *batch"]]:
    """Give scale and rotation nearest to affine cameras: the polar factor of a 2 × 3 matrix, without SVD.

    The components come first in memory, which makes many small matrices fast.
    """
    x, y = nearest_rows(affine)
    first, second = affine
    area = _cross(first, second).square().sum(0).sqrt()
    # The mean of the two singular values: their squares sum to the trace, their product is the area.
    scale = (_dot(first, first) + _dot(second, second) + 2 * area).sqrt() / 2
    return scale.clamp_min(torch.finfo(scale.dtype).tiny), complete(x, y)


def nearest_rows(affine: Float[Tensor, "2 3 *batch"]) -> Float[Tensor, "2 3 *batch"]:
    """Give the rows, orthogonal and equally long, nearest to affine cameras: ``s (A Aᵀ)^(-1/2) A``."""
    first, second = affine
    xx, yy, xy = _dot(first, first), _dot(second, second), _dot(first, second)
    area = (xx * yy - xy.square()).clamp_min(0).sqrt()
    # The inverse root by Cayley-Hamilton. A flat matrix gives short rows.
    factor = 0.5 / (area + 1e-6 * (xx + yy) + torch.finfo(xx.dtype).tiny)
    return torch.stack(((area + yy) * first - xy * second, (area + xx) * second - xy * first)) * factor


def complete(x: Float[Tensor, "3 *batch"], y: Float[Tensor, "3 *batch"]) -> Float[Tensor, "3 3 *batch"]:
    """Give rotations whose first row points along ``x``, and the second along ``y`` as far as it can."""
    longest = torch.maximum(_dot(x, x), _dot(y, y)).sqrt().clamp_min(torch.finfo(x.dtype).tiny)
    x, y = x / longest, y / longest
    x = _unit(x, x.new_tensor([1.0, 0.0, 0.0]).reshape(3, *(1,) * (x.dim() - 1)))
    zero = torch.zeros_like(x[0])
    other = torch.where(x[0].abs() > 0.5, torch.stack((-x[1], x[0], zero)), torch.stack((zero, -x[2], x[1])))
    y = _unit(y - _dot(x, y) * x, other / _dot(other, other).sqrt())
    return torch.stack((x, y, _cross(x, y)))


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
    cuts: list[tuple[Tensor, Tensor]] = []  # start and length of the points taken, from left to right
    for draw in draws.unbind(-1):
        place = draw * left  # on the line of weights from which the points already taken are cut out
        for start, length in cuts:
            place = torch.where(place >= start, place + length, place)
        index = torch.searchsorted(edges, place, right=True).clamp_max(weights.shape[-1] - 1)
        samples.append(index)
        length = weights.gather(-1, index)
        start = edges.gather(-1, index) - length
        left = (left - length).clamp_min(0)
        for position, (other_start, other_length) in enumerate(cuts):
            first = other_start < start
            cuts[position] = (torch.where(first, other_start, start), torch.where(first, other_length, length))
            start, length = torch.where(first, start, other_start), torch.where(first, length, other_length)
        cuts.append((start, length))
    return torch.stack(samples, 1)


def sample_cameras(problem: Problem, index: Int[Tensor, "P 4 H"]) -> Float[Tensor, "2 4 P H"]:
    """Solve the closed form on samples of four points: the exact affine camera, made orthogonal.

    Gives translation and rows, components first.
    """
    table = torch.cat((problem.object, problem.image), -1)
    first_row = table.shape[1] * torch.arange(len(table), device=index.device)[:, None, None]
    samples = torch.nn.functional.embedding(index + first_row, table.flatten(0, 1))
    samples = samples.permute(1, 3, 0, 2).contiguous()  # (4, 5, P, H)
    origin = samples.mean(0)
    edges = samples[1:] - samples[:1]
    (a, b, c), image_edges = edges[:, :3], edges[:, 3:]
    cofactors = torch.stack((_cross(b, c), _cross(c, a), _cross(a, b)))
    volume = _dot(a, cofactors[0])
    # Ridge on the volume: a flat sample gets a small, not an infinite, out-of-plane part.
    ridge = 1e-6 * edges[:, :3].square().sum((0, 1)) ** 3 + torch.finfo(volume.dtype).tiny
    affine = (cofactors[:, None] * image_edges[:, :, None]).sum(0) * (volume / (volume.square() + ridge))
    rows = nearest_rows(affine)
    shift = origin[3:] - (rows * origin[:3]).sum(1)
    return torch.cat((shift[:, None], rows), 1)


def pick_poses(cameras: Float[Tensor, "2 4 P H"], index: Int[Tensor, "P K"]) -> PoseStack:
    """Turn some cameras of each problem into poses."""
    chosen = cameras.gather(-1, index.expand(2, 4, *index.shape))
    rows = chosen[:, 1:]
    scale = rows.square().sum((0, 1)).div(2).sqrt().clamp_min(torch.finfo(rows.dtype).tiny)
    return PoseStack(scale, chosen[:, 0], complete(rows[0], rows[1]))


def mirror_twins(points: Products, pose: PoseStack, weights: Float[Tensor, "P K N"]) -> PoseStack:
    """Give the poses that show the point set's best-fitting plane just as well, from the other side.

    They are ``R' = F R G`` with ``F = diag(1, 1, -1)`` and ``G`` the reflection in that plane (Necker reversal).
    """
    means = points.means(weights)
    centre = means[1:4]
    spread = torch.unflatten(means[SPREAD], 0, (3, 3)) - centre[:, None] * centre
    normal = torch.linalg.eigh(spread.permute(2, 3, 0, 1))[1][..., 0].permute(2, 0, 1)
    flip = normal.new_tensor([1.0, 1.0, -1.0])[:, None, None, None]
    rotation = flip * pose.rotation
    rotation = rotation - 2 * (rotation * normal).sum(1)[:, None] * normal
    shift = pose.scale * ((pose.rotation - rotation)[:2] * centre).sum(1)
    return PoseStack(pose.scale, pose.translation + shift, rotation)
