"""Signed squared distance of pixels to faces, with its gradient."""

from typing import Any

import torch
from torch import Tensor

from kpose.rendering.rasterize import Pairs, face_edges, select

__all__: list[str] = []


def signed_distance(corners: Tensor, pairs: Pairs, width: int) -> Tensor:
    """Give, for pairs, the squared distance of the pixel's centre to the nearest edge, negative outside the face.

    Args:
        corners: Corners of the chunk's faces, see `gather_corners`.
        pairs: Pairs of a face and a pixel.
        width: Width of the image in pixels.

    Returns:
        Signed squared distances ``(P,)``, in normalised units.
    """
    place = pairs.face, pairs.x, pairs.y, pairs.row, pairs.step
    distance: Tensor = _SignedDistance.apply(corners, width, *place)  # type: ignore[no-untyped-call]
    return distance


class _SignedDistance(torch.autograd.Function):
    """The nearest point of the nearest edge is a minimiser, so it may be held fixed in the gradient."""

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
        squared, inner = [], []
        for across, change_across, along, change_along, length in zip(
            *_start(corners, face, x, y, 2 / width), strict=True
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
        across.addcmul_(change_across, step)
        place = along.addcmul_(change_along, step)
        held = torch.minimum(place, length).clamp_min_(0)
        over = place.sub_(held)
        share = held.div_(length)
        slope = grad * torch.full_like(signed, 2).copysign_(signed)
        across.mul_(slope)
        over.mul_(slope)
        key = edge * num_faces + face.index_select(0, row)

        def collect(values: Tensor) -> Tensor:
            return values.new_zeros(3 * num_faces).scatter_add_(0, key, values).view(3, num_faces)

        across_start, over_start = collect(across), collect(over)
        across_end, over_end = collect(across.mul_(share)), collect(over.mul_(share))
        across_start -= across_end
        over_start -= over_end
        edges = face_edges(corners)
        normal_x, normal_y = -edges.along_y * edges.inward, edges.along_x * edges.inward
        result = torch.zeros_like(corners)
        for coordinate, normal, tangent in ((0, normal_x, edges.along_x), (1, normal_y, edges.along_y)):
            end = normal * across_end + tangent * over_end
            result[coordinate] = -(normal * across_start + tangent * over_start + end.roll(1, 0))
        return result, *(None,) * 6


def _start(corners: Tensor, face: Tensor, x: Tensor, y: Tensor, step: float) -> tuple[Tensor, ...]:
    """Give the first pixel's place across and along each edge, their change to the next pixel, and the length."""
    edges = face_edges(corners)
    start_x, start_y, along_x, along_y, length = (select(part, face) for part in edges[:5])
    inward = edges.inward.index_select(0, face)
    offset_x, offset_y = x - start_x, y - start_y
    across = (along_x * offset_y - along_y * offset_x) * inward
    along = along_x * offset_x + along_y * offset_y
    return across, along_y * inward * -step, along, along_x * step, length
