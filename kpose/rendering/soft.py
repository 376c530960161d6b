"""Soft rasterisation in plain torch."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from kpose.rendering.rasterize import Pairs, barycentrics, find_pairs, z_buffer
from kpose.rendering.renderer import Renderer, image_size, to_image
from kpose.rendering.surface import surface
from kpose.structures import Camera, Mesh, Rendering

__all__ = ["SoftRenderer"]


class SoftRenderer(Renderer):
    """Renderer whose outlines are blurred, so that the mask has useful gradients.

    A face covers a pixel with probability ``sigmoid(±d² / sigma)``, d being the distance of the pixel's centre to
    the face's nearest edge, positive inside; the mask is the probability that any face covers it.

    Args:
        sigma: Blur in squared normalised units. The outline is blurred over about 3 sqrt(sigma).
        gamma: Temperature of the softmax over depth that blends colours.
        cull_back_faces: Leave out the faces seen from behind; the mesh must be closed and consistently wound.
        max_pairs: Pairs of a face and a pixel that are held at a time.

    Source:
        Liu et al., Soft Rasterizer, ICCV 2019, Eq. 1 and 6.
    """

    def __init__(
        self,
        sigma: float = 1e-5,
        gamma: float = 1e-4,
        *,
        cull_back_faces: bool = False,
        max_pairs: int = 1 << 22,
    ) -> None:
        self.sigma = sigma
        self.gamma = gamma
        self.cull_back_faces = cull_back_faces
        self.max_pairs = max_pairs

    def render(self, mesh: Mesh, camera: Camera, size: int | tuple[int, int]) -> Rendering:
        """Draw meshes; see `Renderer.render`."""
        size = image_size(size)
        vertices, batch = to_image(mesh, camera)
        corners = vertices[:, mesh.faces].flatten(0, 1)
        nearest = z_buffer(corners.detach(), len(vertices), size, self.max_pairs, self.cull_back_faces)
        depth, face_index, weights, rgb = surface(mesh, corners, nearest, batch, size)
        mask = self._alpha(corners, len(vertices), size).view(*batch, *size)
        return Rendering(mask, depth, face_index, weights, rgb)

    def silhouette(
        self, mesh: Mesh, camera: Camera, size: int | tuple[int, int]
    ) -> Float[Tensor, "*batch height width"]:
        """Draw the mask alone; see `Renderer.silhouette`."""
        size = image_size(size)
        vertices, batch = to_image(mesh, camera)
        return self._alpha(vertices[:, mesh.faces].flatten(0, 1), len(vertices), size).view(*batch, *size)

    def _alpha(self, corners: Tensor, num_images: int, size: tuple[int, int]) -> Tensor:
        radius = math.sqrt(math.log(1e4 - 1) * self.sigma)
        total = corners.new_zeros(num_images * size[0] * size[1])
        for pairs in find_pairs(corners.detach(), num_images, size, radius, self.max_pairs):
            signed, pixel = _signed_distance(corners, pairs, radius, self.cull_back_faces)
            total = total.index_add(0, pixel, softplus(signed / self.sigma))
        return -torch.expm1(-total)


def _signed_distance(corners: Tensor, pairs: Pairs, radius: float, cull: bool) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        mine = corners[pairs.face]
        weights, area = barycentrics(mine, pairs.position)
        inside = (weights > 0).all(-1)
        start = mine[..., :2]
        edge = start.roll(-1, 1) - start
        offset = pairs.position.unsqueeze(1) - start
        length = edge.square().sum(-1)
        along = ((offset * edge).sum(-1) / length.clamp_min(torch.finfo(length.dtype).tiny)).clamp(0, 1)
        distance, nearest = (along.unsqueeze(-1) * edge - offset).square().sum(-1).min(-1)
        keep = (inside | (distance < radius**2)) & ((area < 0) if cull else (area != 0))
        keep = keep.nonzero().squeeze(-1)
        face, nearest, inside = pairs.face[keep], nearest[keep], inside[keep]
        along = along[keep].gather(-1, nearest.unsqueeze(-1))
    first = corners[face, nearest, :2]
    second = corners[face, (nearest + 1) % 3, :2]
    squared = (first + along * (second - first) - pairs.position[keep]).square().sum(-1)
    return torch.where(inside, squared, -squared), pairs.pixel[keep]
