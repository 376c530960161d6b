"""Sums over the faces of each pixel: coverage, and the softmax over depth that blends colours."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from kpose.rendering.distance import signed_distance
from kpose.rendering.paint import Paint
from kpose.rendering.rasterize import Chunk, Pairs, barycentrics, cut, find_pairs, select
from kpose.rendering.scene import Part, remember_less

__all__: list[str] = []

_MIN_PROBABILITY = 1e-4
"""Faces that cover a pixel with less than this probability do not count: it bounds the blur."""

_BACKGROUND = 1e-10
"""Weight of the background, and its closeness."""


class Blur(NamedTuple):
    """How far outlines and depths are blurred."""

    sigma: float
    """Blur of outlines, squared normalised units."""
    gamma: float
    """Temperature over closeness."""
    near: float
    """Depth of closeness 1."""
    far: float
    """Depth of closeness 0."""

    @property
    def radius(self) -> float:
        """Distance at which a face no longer counts."""
        return blur_radius(self.sigma)


def blur_radius(sigma: float) -> float:
    """Give the distance from a face at which it covers a pixel with the least probability that counts."""
    return math.sqrt(math.log(1 / _MIN_PROBABILITY - 1) * sigma)


def cover(part: Part, size: tuple[int, int], sigma: float, max_pairs: int) -> Tensor:
    """Give the probability that a face covers each pixel: ``1 - Π (1 - sigmoid(±d² / sigma))``."""
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
    total = remember_less(sums, parts[0], chunks[0])
    for own, chunk in zip(parts[1:], chunks[1:], strict=True):
        total = total + remember_less(sums, own, chunk)
    return total


def blend(part: Part, paint: Paint, size: tuple[int, int], blur: Blur, max_pairs: int) -> tuple[Tensor, Tensor]:
    """Give the coverage of each pixel and its colour ``(3, Q)``, the softmax over the closeness of its faces."""
    chunks = cut(part.boxes, max_pairs)
    num_pixels = part.boxes.num_meshes * size[0] * size[1]

    def pairs_of(own: Tensor, chunk: Chunk) -> Pairs:
        return find_pairs(own.detach(), part.boxes, chunk, size, blur.radius)

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
    """Give barycentrics ``(3, P)`` of the pixels' centres, clipped to the faces, and the closeness there."""
    face = pairs.face.index_select(0, pairs.row)
    mine = torch.stack([select(part, face) for part in corners])
    x = pairs.x.index_select(0, pairs.row) + pairs.step * (2 / width)
    weights = barycentrics(mine, x, pairs.y.index_select(0, pairs.row)).clamp_min(0)
    weights = weights / weights.sum(0).clamp_min(1e-5)
    return weights, (blur.far - (weights * mine[2]).sum(0)) / (blur.far - blur.near)
