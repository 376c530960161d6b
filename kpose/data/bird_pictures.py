"""Rendering of synthetic bird pictures: shape, camera, plumage, light and background put together."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, normalize

from kpose.data.backdrop import random_backdrop
from kpose.data.draws import Draws
from kpose.data.plumage import random_plumage
from kpose.data.scene import random_cameras, random_shapes
from kpose.geometry import project, vertex_normals
from kpose.rendering import HardRenderer, vertex_visibility
from kpose.structures import Mesh, Template

__all__ = ["render_birds"]

_SUPERSAMPLING = 2


def render_birds(
    template: Template, indices: Sequence[int], size: int, *, seed: int = 0, variety: float = 1.0
) -> dict[str, Tensor]:
    """Render synthetic birds, each decided by the seed and its index alone.

    Args:
        template: Bird with CUB's part names.
        indices: Numbers of the pictures, not negative.
        size: Side of the pictures, in pixels.
        seed: Seed of the data set, not negative.
        variety: How much the birds differ in colour, from 0 (one kind of bird) to 1 (any).

    Returns:
        ``image`` (N, 3, size, size) and ``mask`` (N, size, size), 8-bit; ``vertices`` (N, V, 3); ``scale`` (N,),
        ``translation`` (N, 2) and ``rotation`` (N, 3, 3) of the normalised cameras; ``parts`` (N, P, 2) normalised
        and ``parts_visible`` (N, P) by the z-buffer.

    Example:
        >>> from kpose.templates import bird
        >>> render_birds(bird(), [5], 16)["image"].shape
        torch.Size([1, 3, 16, 16])
    """
    shapes = random_shapes(template, Draws(seed, indices, stream=0))
    camera = random_cameras(shapes, Draws(seed, indices, stream=1))
    mesh = Mesh(shapes, template.faces)
    rendering = HardRenderer(cull_back_faces=True).render(mesh, camera, _SUPERSAMPLING * size)
    normals = vertex_normals(shapes, template.faces) @ camera.rotation.mT
    feet = project(shapes, camera).amax(1) * 0.9  # the lowest point; the branch may leave to either side
    feet = torch.stack((camera.translation[:, 0], feet[:, 1]), -1)

    cover = avg_pool2d(rendering.mask[:, None], _SUPERSAMPLING)
    plumage, light = (Draws(seed, indices, stream=stream) for stream in (2, 3))
    backdrop, grain = (Draws(seed, indices, stream=stream) for stream in (4, 5))
    images = []
    for row, (paint, lamp, scenery) in enumerate(zip(plumage.rows(), light.rows(), backdrop.rows(), strict=True)):
        faces = rendering.face_index[row]
        seen = faces >= 0
        corners = template.faces[faces[seen]]
        weights = rendering.barycentrics[row][seen][..., None]
        color = random_plumage((template.vertices[corners] * weights).sum(1), template, paint, variety=variety)
        color = color * _shade((normals[row][corners] * weights).sum(1), lamp)
        canvas = torch.zeros(3, *faces.shape)
        canvas[:, seen] = color.mT
        bird = avg_pool2d(canvas, _SUPERSAMPLING)  # premultiplied by cover
        images.append(bird + (1 - cover[row]) * random_backdrop(size, feet[row], scenery))
    picture = _develop(torch.stack(images), grain)

    parts = project(shapes[:, template.part_vertices], camera)
    visible = vertex_visibility(mesh, camera, size=size)[:, template.part_vertices]
    return {
        "image": (picture * 255).round().to(torch.uint8),
        "mask": (cover[:, 0] >= 0.5).to(torch.uint8),
        "vertices": shapes,
        "scale": camera.scale,
        "translation": camera.translation,
        "rotation": camera.rotation,
        "parts": parts,
        "parts_visible": visible.to(torch.uint8),
    }


def _shade(normals: Float[Tensor, "N 3"], draws: Draws) -> Float[Tensor, "N 3"]:
    """Light a surface (normals in the camera frame): sky light from above and one lamp, half-Lambert."""
    normals = normalize(normals, dim=-1)
    direction = draws.normal(3, sd=0.6)[0] + torch.tensor([0.0, -0.9, -0.8])
    lamp = (normals @ normalize(direction, dim=0) * 0.5 + 0.5).clamp(0, 1).square()
    ambient = draws.uniform(low=0.35, high=0.6)
    sky = 0.15 * (0.5 - 0.5 * normals[:, 1])
    warmth = 1 + draws.normal(3, sd=0.04)
    return (ambient + sky)[:, None] + draws.uniform(low=0.55, high=0.95) * lamp[:, None] * warmth


def _develop(images: Float[Tensor, "batch 3 h w"], draws: Draws) -> Float[Tensor, "batch 3 h w"]:
    """Give pictures the softness, exposure and grain of a photograph."""
    blur = draws.uniform(1, 1, 1, low=0.0, high=0.7)
    kernel = torch.tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(kernel, kernel).expand(3, 1, 3, 3)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    images = torch.lerp(images, conv2d(padded, kernel, groups=3), blur)
    exposure = draws.normal(1, 1, 1, sd=0.08).exp()
    noise = draws.uniform(1, 1, 1, low=0.0, high=0.02) * draws.normal(*images.shape[1:])
    return (images * exposure + noise).clamp(0, 1)
