"""What is seen of the nearest face: depth, barycentrics and colour, with gradients."""

import torch
from torch import Tensor

from kpose.rendering.rasterize import ZBuffer, barycentrics
from kpose.rendering.scene import Part

__all__: list[str] = []


def see_surface(part: Part, nearest: ZBuffer, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """Give depth, face, barycentrics ``(3, Q)`` and, if there is paint, colour ``(3, Q)`` of the nearest faces."""
    corners, num_faces = part.corners, part.boxes.num_faces
    covered = nearest.face >= 0
    index = nearest.face.clamp_min(0)
    if num_faces == 0:
        corners = corners.new_zeros(3, 3, 1)
    mine = corners.flatten(0, 1).gather(1, index.expand(9, -1)).view(3, 3, -1)
    height, width = size
    pixel = torch.arange(len(index), device=index.device)
    image = torch.div(pixel, height * width, rounding_mode="floor")
    row = torch.div(pixel, width, rounding_mode="floor")
    x = (2 * (pixel - row * width).to(corners) + 1) / width - 1
    y = (2 * (row - image * height).to(corners) + 1) / height - 1
    weights = barycentrics(mine, x, y) * covered
    depth = torch.where(covered, (weights * mine[2]).sum(0), torch.inf)
    face = index % max(num_faces, 1)
    seen = depth, torch.where(covered, face, -1), weights
    if part.paint is None:
        return seen
    if num_faces == 0:
        return *seen, torch.zeros_like(weights)
    return *seen, part.paint.at(image + part.first, face, weights) * covered
