"""First guesses of the camera: closed form on all points, closed form on random minimal samples, mirror twins."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kpose.pnp.elimination import eliminate, thinnest_axis
from kpose.pnp.model import Problem
from kpose.pnp.moments import Moments, cross, dot
from kpose.structures import Camera

__all__: list[str] = []

SAMPLE = 4
"""Points of a minimal sample: an affine camera is determined by four."""


def closed_form(problem: Problem) -> Camera:
    """Solve for three candidates on all points, weighted.

    The first is affine least squares followed by the special Procrustes projection of its 2 × 3 part. Its column
    along the thinnest axis of the point set is poorly determined when the set is near-planar, so the two others
    take only the in-plane part and complete it by orthogonality, once for each sign (the mirror ambiguity).
    """
    image, points, weights = problem
    total = weights.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    share = (weights / total)[..., None]
    center, image_center = (share * points).sum(1), (share * image).sum(1)
    offset, image_offset = points - center[:, None], image - image_center[:, None]
    spread, mixed = (share * offset).mT @ offset, (share * image_offset).mT @ offset
    axes = axes_of(spread)
    spread, mixed = axes @ spread @ axes.mT, mixed @ axes.mT
    floor = 10 * torch.finfo(spread.dtype).eps * spread.diagonal(dim1=-2, dim2=-1).amax(-1)[:, None, None]
    eye = torch.eye(3, dtype=spread.dtype, device=spread.device)
    spread = (spread + (floor + torch.finfo(spread.dtype).tiny) * eye).movedim(0, -1)
    affine = mixed @ eliminate(spread)[0].movedim(-1, 0)
    plane = mixed[..., :2] @ eliminate(spread[:2, :2])[0].movedim(-1, 0)
    depth = missing_column(plane)
    candidates = torch.stack((affine, _append(plane, depth), _append(plane, -depth)), 1)
    scale, rotation = orthogonalize((candidates @ axes[:, None]).movedim((-2, -1), (0, 1)))
    shift = scale * (rotation[:2] * center.mT[..., None]).sum(1)
    return _camera(scale, image_center.mT[..., None] - shift, rotation)


def _camera(scale: Tensor, translation: Float[Tensor, "2 P K"], rotation: Float[Tensor, "3 3 P K"]) -> Camera:
    return Camera(scale, translation.permute(1, 2, 0), rotation.permute(2, 3, 0, 1))


def axes_of(spread: Float[Tensor, "P 3 3"]) -> Float[Tensor, "P 3 3"]:
    """Build the frames, in rows, whose last axis is the thinnest of a point set; the others lie in its plane."""
    thinnest = thinnest_axis(spread).mT
    return complete(thinnest, torch.zeros_like(thinnest)).permute(2, 0, 1).roll(-1, 1)


def _append(plane: Tensor, column: Tensor) -> Tensor:
    return torch.cat((plane, column[..., None]), -1)


def missing_column(plane: Float[Tensor, "*batch 2 2"]) -> Float[Tensor, "*batch 2"]:
    """Compute the column ``m`` that makes the rows of ``[plane | m]`` orthogonal and equally long, up to its sign.

    Source:
        Huttenlocher & Ullman, Recognizing Solid Objects by Alignment with an Image, IJCV 1990, section 3.
    """
    gram = plane @ plane.mT
    half = (gram[..., 0, 0] - gram[..., 1, 1]) / 2
    # scale² is the larger eigenvalue of the Gram matrix, m mᵀ = scale² I - gram has rank one.
    radius = (half.square() + gram[..., 0, 1].square()).sqrt()
    x, y = (radius - half).clamp_min(0).sqrt(), (radius + half).clamp_min(0).sqrt()
    return torch.stack((x, torch.where(gram[..., 0, 1] > 0, -y, y)), -1)


def orthogonalize(
    affine: Float[Tensor, "2 3 *batch"],
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "3 3 *batch"]]:
    """Compute scale and rotation nearest to affine cameras: the polar factor of a 2 × 3 matrix, without SVD.

    The components come first in memory, which makes many small matrices fast.
    """
    x, y = nearest_rows(affine)
    first, second = affine
    area = cross(first, second).square().sum(0).sqrt()
    # The mean of the two singular values: their squares sum to the trace, their product is the area.
    scale = (dot(first, first) + dot(second, second) + 2 * area).sqrt() / 2
    return scale.clamp_min(torch.finfo(scale.dtype).tiny), complete(x, y)


def nearest_rows(affine: Float[Tensor, "2 3 *batch"]) -> Float[Tensor, "2 3 *batch"]:
    """Compute the rows, orthogonal and equally long, nearest to affine cameras: ``s (A Aᵀ)^(-1/2) A``."""
    first, second = affine
    xx, yy, xy = dot(first, first), dot(second, second), dot(first, second)
    area = (xx * yy - xy.square()).clamp_min(0).sqrt()
    # The inverse root by Cayley-Hamilton. A flat matrix gives short rows.
    factor = 0.5 / (area + 1e-6 * (xx + yy) + torch.finfo(xx.dtype).tiny)
    return torch.stack(((area + yy) * first - xy * second, (area + xx) * second - xy * first)) * factor


def complete(x: Float[Tensor, "3 *batch"], y: Float[Tensor, "3 *batch"]) -> Float[Tensor, "3 3 *batch"]:
    """Build rotations whose first row points along ``x``, and the second along ``y`` as far as it can."""
    longest = torch.maximum(dot(x, x), dot(y, y)).sqrt().clamp_min(torch.finfo(x.dtype).tiny)
    x, y = x / longest, y / longest
    zero = torch.zeros_like(x[0])
    x = _unit(x, torch.stack((zero + 1, zero, zero)))
    other = torch.where(x[0].abs() > 0.5, torch.stack((-x[1], x[0], zero)), torch.stack((zero, -x[2], x[1])))
    y = _unit(y - dot(x, y) * x, other / dot(other, other).sqrt())
    return torch.stack((x, y, cross(x, y)))


def _unit(vector: Tensor, fallback: Tensor) -> Tensor:
    length = dot(vector, vector).sqrt()
    usable = (length > 1e-6) & length.isfinite()
    return torch.where(usable, vector / torch.where(usable, length, 1.0), fallback)


def draw_samples(weights: Float[Tensor, "P N"], draws: Float[Tensor, "H 4"]) -> Int[Tensor, "P 4 H"]:
    """Draw points without replacement, with probability proportional to weight.

    Every problem sees the same uniform numbers ``draws``: an answer does not depend on its neighbors in the batch.
    """
    edges = weights.cumsum(-1)
    left = edges[:, -1:]
    samples: list[Tensor] = []
    cuts: list[tuple[Tensor, Tensor]] = []  # start and length of the points taken, from left to right
    for draw in draws.unbind(-1):
        place = draw * left  # on the line of weights from which the points already taken are cut out
        for start, length in cuts:
            place = torch.where(place >= start, place + length, place)
        if torch.compiler.is_compiling():  # exporters have no search
            index = (edges[:, None] <= place[..., None]).sum(-1)
        else:
            index = torch.searchsorted(edges, place, right=True)
        index = index.clamp_max(weights.shape[-1] - 1)
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

    Returns translation and rows, components first.
    """
    table = torch.cat((problem.object, problem.image), -1)
    first_row = table.shape[1] * torch.arange(table.shape[0], device=index.device)[:, None, None]
    samples = torch.nn.functional.embedding(index + first_row, table.flatten(0, 1))
    samples = samples.permute(1, 3, 0, 2).contiguous()  # (4, 5, P, H)
    origin = samples.mean(0)
    edges = samples[1:] - samples[:1]
    (a, b, c), image_edges = edges[:, :3], edges[:, 3:]
    cofactors = torch.stack((cross(b, c), cross(c, a), cross(a, b)))
    volume = dot(a, cofactors[0])
    # Ridge on the volume: a flat sample gets a small, not an infinite, out-of-plane part.
    ridge = 1e-6 * edges[:, :3].square().sum((0, 1)) ** 3 + torch.finfo(volume.dtype).tiny
    affine = (cofactors[:, None] * image_edges[:, :, None]).sum(0) * (volume / (volume.square() + ridge))
    rows = nearest_rows(affine)
    shift = origin[3:] - (rows * origin[:3]).sum(1)
    return torch.cat((shift[:, None], rows), 1)


def pick_cameras(affine: Float[Tensor, "2 4 P H"], index: Int[Tensor, "P K"]) -> Camera:
    """Turn some affine cameras of each problem into weak-perspective ones."""
    chosen = affine.gather(-1, index.expand(2, 4, *index.shape))
    rows = chosen[:, 1:]
    scale = rows.square().sum((0, 1)).div(2).sqrt().clamp_min(torch.finfo(rows.dtype).tiny)
    return _camera(scale, chosen[:, 0], complete(rows[0], rows[1]))


def mirror_twins(points: Moments, camera: Camera, weights: Float[Tensor, "P K N"]) -> Camera:
    """Compute the cameras that show the point set's best-fitting plane just as well, from the other side.

    They are ``R' = F R G`` with ``F = diag(1, 1, -1)`` and ``G`` the reflection in that plane (Necker reversal).
    """
    means = points.means(weights).permute(2, 3, 0, 1)
    center = means[..., 0, 1:4]
    spread = means[..., 1:, 1:4] - center[..., :, None] * center[..., None, :]
    normal = thinnest_axis(torch.where(spread.isfinite(), spread, 0.0))[..., None]
    rotation = camera.rotation - 2 * camera.rotation @ normal @ normal.mT
    rotation = torch.cat((rotation[..., :2, :], -rotation[..., 2:, :]), -2)
    shift = camera.scale[..., None] * ((camera.rotation - rotation)[..., :2, :] @ center[..., None])[..., 0]
    return Camera(camera.scale, camera.translation + shift, rotation)
