"""Signed squared distance of pixels to faces, with its gradient."""

from typing import Any

import torch
from torch import Tensor

from kpose.rendering.rasterize import Pairs, face_edges, select

__all__: list[str] = []


def signed_distance(corners: Tensor, pairs: Pairs, width: int) -> Tensor:
    """Give, for pairs, the squared distance of the pixel's centre to the nearest edge, negative outside the face.

    Args:
        corners: Corners of the faces, see `gather_corners`.
        pairs: Pairs of a face and a pixel.
        width: Width of the image in pixels.

    Returns:
        Signed squared distances ``(P,)``, in normalised units.
    """
    distance: Tensor = _SignedDistance.apply(corners, width, *pairs.rows, *pairs[1:])  # type: ignore[no-untyped-call]
    return distance


class _SignedDistance(torch.autograd.Function):
    """The nearest point of the nearest edge is a minimiser, so it may be held fixed in the gradient."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - its attributes are set freely
        corners: Tensor,
        width: int,
        face: Tensor,
        _: Tensor,
        x: Tensor,
        y: Tensor,
        row: Tensor,
        pixel: Tensor,
        step: Tensor,
    ) -> Tensor:
        lines = _start(corners, face, x, y, 2 / width)
        squared, inner = [], []
        for across, change_across, along, change_along, length in zip(*lines, strict=True):
            distance = torch.addcmul(across.index_select(0, row), change_across.index_select(0, row), step)
            place = torch.addcmul(along.index_select(0, row), change_along.index_select(0, row), step)
            over = place - torch.minimum(place, length.index_select(0, row)).clamp_min_(0)
            squared.append(torch.addcmul(over.square_(), distance, distance))
            inner.append(distance)
        nearest = torch.minimum(squared[0], squared[1])
        edge = torch.maximum((squared[1] < squared[0]).long(), 2 * (squared[2] < nearest).long())
        signed = torch.minimum(nearest, squared[2]).copysign(
            torch.minimum(torch.minimum(inner[0], inner[1]), inner[2])
        )
        ctx.width = width
        ctx.save_for_backward(corners, face, x, y, row, step, edge, signed)
        return signed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
        corners, face, x, y, row, step, edge, signed = ctx.saved_tensors
        num_rows, num_faces = len(face), corners.shape[-1]
        key = edge * num_rows + row
        across, change_across, along, change_along, length = (
            line.flatten().index_select(0, key) for line in _start(corners, face, x, y, 2 / ctx.width)
        )
        across = torch.addcmul(across, change_across, step)
        place = torch.addcmul(along, change_along, step)
        held = torch.minimum(place, length).clamp_min_(0)
        over = place.sub_(held)
        share = held.div_(length)
        grad = 2 * grad.copysign(grad * signed)
        across.mul_(grad)
        over.mul_(grad)
        key = edge * num_faces + face.index_select(0, row)

        def collect(values: Tensor) -> Tensor:
            return values.new_zeros(3 * num_faces).scatter_add_(0, key, values).view(3, num_faces)

        across_end, over_end = collect(across * share), collect(over * share)
        across_start, over_start = collect(across) - across_end, collect(over) - over_end
        edges = face_edges(corners)
        normal_x, normal_y = -edges.along_y * edges.inward, edges.along_x * edges.inward
        result = torch.zeros_like(corners)
        for coordinate, normal, tangent in ((0, normal_x, edges.along_x), (1, normal_y, edges.along_y)):
            end = normal * across_end + tangent * over_end
            result[coordinate] = -(normal * across_start + tangent * over_start + end.roll(1, 0))
        return result, *(None,) * 8


def _start(corners: Tensor, face: Tensor, x: Tensor, y: Tensor, step: float) -> tuple[Tensor, ...]:
    """Give the first pixel's place across and along each edge, their change to the next pixel, and the length."""
    edges = face_edges(corners)
    start_x, start_y, along_x, along_y, length = (select(part, face) for part in edges[:5])
    inward = edges.inward.index_select(0, face)
    offset_x, offset_y = x - start_x, y - start_y
    across = (along_x * offset_y - along_y * offset_x) * inward
    along = along_x * offset_x + along_y * offset_y
    return across, along_y * inward * -step, along, along_x * step, length
