"""Sums over the faces of each pixel: coverage by distance, and the softmax over depth that blends colors."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from kpose.rendering.paint import Paint
from kpose.rendering.rasterize import (
    Chunk,
    Edges,
    Pairs,
    barycentrics,
    cut,
    face_edges,
    find_pairs,
    select,
    select_each,
)
from kpose.rendering.scene import Part, checkpointed

_MIN_PROBABILITY = 1e-4
"""Faces that cover a pixel with less than this probability do not count: it bounds the blur."""

_BACKGROUND = 1e-10
"""Weight of the background, and its closeness."""


class Blur(NamedTuple):
    """How far outlines and depths are blurred."""

    sigma: float
    """Blur of outlines, squared normalized units."""
    gamma: float
    """Temperature over closeness."""
    near: float
    """Depth of closeness 1."""
    far: float
    """Depth of closeness 0."""


def blur_radius(sigma: float) -> float:
    """Distance from a face at which it covers a pixel with the smallest probability that counts."""
    return math.sqrt(math.log(1 / _MIN_PROBABILITY - 1) * sigma)


def cover(part: Part, size: tuple[int, int], sigma: float, max_pairs: int) -> Tensor:
    """Probability that a face covers each pixel: ``1 - Π (1 - sigmoid(±d² / sigma))``."""
    num_pixels = part.boxes.num_meshes * size[0] * size[1]

    def sums(own: Tensor, chunk: Chunk) -> Tensor:
        pairs = find_pairs(own.detach(), part.boxes, chunk, size, blur_radius(sigma))
        signed = signed_distance(own, pairs, size[1])
        return own.new_zeros(num_pixels).scatter_add(0, pairs.pixel, softplus(signed / sigma))

    return -torch.expm1(-_add_up(sums, part.corners, cut(part.boxes, max_pairs)))


def _add_up(sums: Callable[[Tensor, Chunk], Tensor], corners: Tensor, chunks: list[Chunk]) -> Tensor:
    if len(chunks) == 1:
        return sums(corners, chunks[0])
    parts = torch.split(corners, [chunk.stop - chunk.start for chunk in chunks], -1)
    total = checkpointed(sums, parts[0], chunks[0])
    for own, chunk in zip(parts[1:], chunks[1:], strict=True):
        total = total + checkpointed(sums, own, chunk)
    return total


def blend(part: Part, paint: Paint, size: tuple[int, int], blur: Blur, max_pairs: int) -> tuple[Tensor, Tensor]:
    """Coverage of each pixel and its color ``(3, Q)``, the softmax over the closeness of its faces."""
    chunks = cut(part.boxes, max_pairs)
    num_pixels = part.boxes.num_meshes * size[0] * size[1]

    def pairs_of(own: Tensor, chunk: Chunk) -> Pairs:
        return find_pairs(own.detach(), part.boxes, chunk, size, blur_radius(blur.sigma))

    held = pairs_of(part.corners, chunks[0]) if len(chunks) == 1 else None
    peak = part.corners.new_full((num_pixels,), _BACKGROUND)
    with torch.no_grad():
        for chunk in chunks:
            own = part.corners[..., chunk.start : chunk.stop]
            pairs = held or pairs_of(own, chunk)
            peak.scatter_reduce_(0, pairs.pixel, _points(own, pairs, size[1], blur)[1], "amax")

    def sums(own: Tensor, chunk: Chunk) -> Tensor:
        pairs = held or pairs_of(own, chunk)
        weights, closeness = _points(own, pairs, size[1], blur)
        image = torch.div(pairs.pixel, size[0] * size[1], rounding_mode="floor") + part.first
        face = (pairs.face.index_select(0, pairs.row) + chunk.start) % part.boxes.num_faces
        signed = signed_distance(own, pairs, size[1]) / blur.sigma
        share = signed.sigmoid() * ((closeness - peak.index_select(0, pairs.pixel)) / blur.gamma).exp()
        values = softplus(signed), share, *(share * paint.at(image, face, weights))
        return torch.stack([own.new_zeros(num_pixels).scatter_add(0, pairs.pixel, value) for value in values])

    cover, share, *colors = _add_up(sums, part.corners, chunks)
    background = ((_BACKGROUND - peak) / blur.gamma).exp().clamp_min(_BACKGROUND)
    return -torch.expm1(-cover), torch.stack(colors) / (share + background)


def _points(corners: Tensor, pairs: Pairs, width: int, blur: Blur) -> tuple[Tensor, Tensor]:
    """Barycentrics ``(3, P)`` of the pixels' centers, clipped to the faces, and the closeness there."""
    face = pairs.face.index_select(0, pairs.row)
    mine = torch.stack([select(part, face) for part in corners])
    x = pairs.x.index_select(0, pairs.row) + pairs.step * (2 / width)
    weights = barycentrics(mine, x, pairs.y.index_select(0, pairs.row)).clamp_min(0)
    weights = weights / weights.sum(0).clamp_min(1e-5)
    return weights, (blur.far - (weights * mine[2]).sum(0)) / (blur.far - blur.near)


def signed_distance(corners: Tensor, pairs: Pairs, width: int) -> Tensor:
    """Squared distance ``(P,)`` of each pair's pixel to the nearest edge, negative outside the face."""
    place = pairs.face, pairs.x, pairs.y, pairs.row, pairs.step
    distance: Tensor = _SignedDistance.apply(corners, width, *place)  # type: ignore[no-untyped-call]
    return distance


class _SignedDistance(torch.autograd.Function):
    """The nearest point of the nearest edge is a minimizer, so it may be held fixed in the gradient."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - its attributes are set freely
        corners: Tensor,
        width: int,
        face: Tensor,
        x: Tensor,
        y: Tensor,
        row: Tensor,
        step: Tensor,
    ) -> Tensor:
        edges = face_edges(corners)
        squared, inner = [], []
        for across, change_across, along, change_along, length in zip(
            *_start(edges, face, x, y, 2 / width), strict=True
        ):
            distance = across.index_select(0, row).addcmul_(change_across.index_select(0, row), step)
            place = along.index_select(0, row).addcmul_(change_along.index_select(0, row), step)
            over = place - torch.minimum(place, length.index_select(0, row)).clamp_min_(0)
            squared.append(over.square_().addcmul_(distance, distance))
            inner.append(distance)
        nearest = torch.minimum(squared[0], squared[1])
        edge = torch.maximum((squared[1] < squared[0]).long(), 2 * (squared[2] < nearest).long())
        inside = torch.minimum(torch.minimum(inner[0], inner[1]), inner[2])
        signed = torch.minimum(nearest, squared[2]).copysign_(inside)
        ctx.width = width
        ctx.save_for_backward(corners, face, x, y, row, step, edge, signed, *edges[2:])
        return signed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
        corners, face, x, y, row, step, edge, signed, *rest = ctx.saved_tensors
        edges = Edges(corners[0], corners[1], *rest)
        num_rows, num_faces = len(face), corners.shape[-1]
        key = edge * num_rows + row
        across, change_across, along, change_along, length = (
            line.flatten().index_select(0, key) for line in _start(edges, face, x, y, 2 / ctx.width)
        )
        across.addcmul_(change_across, step)
        place = along.addcmul_(change_along, step)
        held = torch.minimum(place, length).clamp_min_(0)
        over = place.sub_(held)
        share = held.div_(length)
        slope = grad * torch.full_like(signed, 2).copysign_(signed)
        across.mul_(slope)
        over.mul_(slope)
        key = edge * num_faces + face.index_select(0, row)
        # At the start and at the end of each edge, across and along it.
        sums = corners.new_zeros(2, 2, 3 * num_faces)
        sums[0, 0].scatter_add_(0, key, across)
        sums[0, 1].scatter_add_(0, key, over)
        sums[1, 0].scatter_add_(0, key, across.mul_(share))
        sums[1, 1].scatter_add_(0, key, over.mul_(share))
        start, end = sums.view(2, 2, 3, num_faces)
        start -= end
        normal = torch.stack((-edges.along_y * edges.inward, edges.along_x * edges.inward))
        tangent = torch.stack((edges.along_x, edges.along_y))
        turned = (normal * end[0] + tangent * end[1]).roll(1, 1)
        result = torch.zeros_like(corners)
        result[:2] = -(normal * start[0] + tangent * start[1] + turned)
        return result, *(None,) * 6


def _start(edges: Edges, face: Tensor, x: Tensor, y: Tensor, step: float) -> tuple[Tensor, ...]:
    """First pixel's place across and along each edge, their change to the next pixel, and the length."""
    start_x, start_y, along_x, along_y, length = select_each(edges[:5], face)
    inward = edges.inward.index_select(0, face)
    offset_x, offset_y = x - start_x, y - start_y
    across = (along_x * offset_y - along_y * offset_x) * inward
    along = along_x * offset_x + along_y * offset_y
    return across, along_y * inward * -step, along, along_x * step, length
