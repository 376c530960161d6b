"""What is drawn, in groups of meshes that bound the memory, and what is seen of the nearest faces."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kpose.rendering.paint import Paint, paint_of
from kpose.rendering.rasterize import Boxes, ZBuffer, barycentrics, find_boxes, gather_corners, z_buffer
from kpose.rendering.renderer import image_size, to_image
from kpose.structures import Camera, Mesh, Rendering

Result = TypeVar("Result")


class Part(NamedTuple):
    """Group of meshes that is drawn at a time."""

    corners: Tensor
    """Corners of the faces in the image frame, see `gather_corners`."""
    boxes: Boxes
    """Boxes of the faces."""
    paint: Paint | None
    """Appearance of all meshes."""
    first: int
    """Number of the group's first mesh."""


class Scene:
    """Batch of meshes before its cameras; pixels end at a radius around a face, groups hold ``max_pairs``."""

    def __init__(
        self, mesh: Mesh, camera: Camera, size: int | tuple[int, int], *, radius: float, cull: bool, max_pairs: int
    ) -> None:
        if max_pairs < 1:
            raise ValueError(
                f"Rendering needs a max_pairs of at least 1; got {max_pairs}. Leave it at its default."
            )
        self.size = image_size(size)
        self.max_pairs = max_pairs
        self.vertices, self.batch = to_image(mesh, camera)
        self.paint = paint_of(mesh, self.batch, self.vertices)
        self.corners = gather_corners(self.vertices, mesh.faces)
        self.boxes = find_boxes(self.corners.detach(), len(self.vertices), self.size, radius=radius, cull=cull)

    def draw(self, function: Callable[[Part], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Draw group by group, and concatenate what was drawn along the last dimension."""

        def draw(corners: Tensor, first: int, size: int) -> tuple[Tensor, ...]:
            return function(Part(corners, self.boxes.of(first, first + size), self.paint, first))

        sizes = self._groups()
        if len(sizes) == 1:
            return draw(self.corners, 0, sizes[0])
        drawn, first = [], 0
        parts = torch.split(self.corners, [size * self.boxes.num_faces for size in sizes], -1)
        for corners, size in zip(parts, sizes, strict=True):
            drawn.append(checkpointed(draw, corners, first, size))
            first += size
        return tuple(torch.cat(values, -1) for values in zip(*drawn, strict=True))

    def _groups(self) -> list[int]:
        sizes, cost = [0], 0
        for pairs in self.boxes.mesh_pixels:
            own = pairs + self.size[0] * self.size[1]
            if sizes[-1] and cost + own > self.max_pairs:
                sizes.append(0)
                cost = 0
            sizes[-1] += 1
            cost += own
        return sizes

    def surface(self, part: Part, nearest: ZBuffer | None = None) -> tuple[Tensor, ...]:
        """Depth, face, barycentrics ``(3, Q)`` and, if there is paint, color ``(3, Q)`` of the nearest faces."""
        if nearest is None:
            nearest = z_buffer(part.corners.detach(), part.boxes, self.size, max_pairs=self.max_pairs)
        corners, num_faces = part.corners, part.boxes.num_faces
        covered = nearest.face >= 0
        index = nearest.face.clamp_min(0)
        if num_faces == 0:
            corners = corners.new_zeros(3, 3, 1)
        mine = corners.flatten(0, 1).gather(1, index.expand(9, -1)).view(3, 3, -1)
        height, width = self.size
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

    def images(self, values: Tensor) -> Tensor:
        """Shape pixels ``(Q,)`` as images ``(*batch h w)``, and ``(C, Q)`` as ``(*batch C h w)``."""
        if values.dim() == 1:
            return values.view(*self.batch, *self.size)
        channels, num_images = len(values), len(self.vertices)
        images = values.view(channels, num_images, *self.size).movedim(0, 1)
        return images.reshape(*self.batch, channels, *self.size)

    def rendering(self, mask: Tensor, depth: Tensor, face: Tensor, weights: Tensor, *rgb: Tensor) -> Rendering:
        """Shape what was drawn."""
        images = [self.images(values) for values in (mask, depth, face, weights, *rgb)]
        images[3] = images[3].movedim(-3, -1)
        return Rendering(*images)


def checkpointed(function: Callable[..., Result], *arguments: object) -> Result:
    """Result of a function that keeps nothing for its gradient: it is called again backwards."""
    if not torch.is_grad_enabled():
        return function(*arguments)
    result: Result = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result
