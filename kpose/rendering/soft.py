"""Soft rasterisation in plain torch."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from kpose.rendering.distance import signed_distance
from kpose.rendering.rasterize import find_pairs, gather_corners, z_buffer
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
        corners = gather_corners(vertices, mesh.faces)
        nearest = z_buffer(
            corners.detach(), len(vertices), size, max_pairs=self.max_pairs, cull=self.cull_back_faces
        )
        depth, face_index, weights, rgb = surface(mesh, corners, nearest, batch, size)
        mask = self._alpha(corners, len(vertices), size).view(*batch, *size)
        return Rendering(mask, depth, face_index, weights, rgb)

    def silhouette(
        self, mesh: Mesh, camera: Camera, size: int | tuple[int, int]
    ) -> Float[Tensor, "*batch height width"]:
        """Draw the mask alone; see `Renderer.silhouette`."""
        size = image_size(size)
        vertices, batch = to_image(mesh, camera)
        return self._alpha(gather_corners(vertices, mesh.faces), len(vertices), size).view(*batch, *size)

    def _alpha(self, corners: Tensor, num_images: int, size: tuple[int, int]) -> Tensor:
        radius = math.sqrt(math.log(1e4 - 1) * self.sigma)
        total = corners.new_zeros(num_images * size[0] * size[1])
        with torch.no_grad():
            chunks = list(
                find_pairs(
                    corners, num_images, size, radius=radius, max_pairs=self.max_pairs, cull=self.cull_back_faces
                )
            )
        for pairs in chunks:
            signed = signed_distance(corners, pairs, size[1])
            total = total.scatter_add(0, pairs.pixel, softplus(signed / self.sigma))
        return -torch.expm1(-total)
