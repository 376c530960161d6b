"""Rendering of synthetic bird pictures: shape, camera, plumage, light and background put together."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, normalize

from kpose.data.plumage import random_plumage
from kpose.data.scene import Draws, random_cameras, random_shapes
from kpose.geometry import project, vertex_normals
from kpose.rendering import HardRenderer, vertex_visibility
from kpose.structures import Mesh, Template

__all__ = ["random_backdrop", "render_birds"]

Picture = Float[Tensor, "3 h w"]
Plane = Float[Tensor, "h w"]
_SUPERSAMPLING = 2
_TONES = (  # greens, browns, skies, water, snow: means of out-of-focus backgrounds
    (0.30, 0.40, 0.18), (0.45, 0.52, 0.25), (0.18, 0.26, 0.12), (0.55, 0.58, 0.38), (0.42, 0.34, 0.24),
    (0.58, 0.50, 0.38), (0.25, 0.20, 0.15), (0.62, 0.74, 0.86), (0.45, 0.60, 0.78), (0.78, 0.83, 0.88),
    (0.35, 0.45, 0.52), (0.60, 0.60, 0.58), (0.85, 0.86, 0.88), (0.70, 0.66, 0.52),
)  # fmt: skip
_BRANCH_SHARE = 0.5
_FOLIAGE_SHARE = 0.7


def render_birds(
    template: Template, indices: Sequence[int], size: int, *, seed: int = 0, variety: float = 1.0
) -> dict[str, Tensor]:
    """Render synthetic birds, each decided by the seed and its index alone (see `SyntheticBirdsDataset`).

    ``image`` (N, 3, size, size) and ``mask`` (N, size, size) are 8-bit; ``vertices`` (N, V, 3); ``scale`` (N,),
    ``translation`` (N, 2) and ``rotation`` (N, 3, 3) of the normalized cameras; ``parts`` (N, P, 2) normalized and
    ``parts_visible`` (N, P) by the z-buffer.
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
    """Add the softness, exposure and grain of a photograph."""
    blur = draws.uniform(1, 1, 1, low=0.0, high=0.7)
    kernel = torch.tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(kernel, kernel).expand(3, 1, 3, 3)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    images = torch.lerp(images, conv2d(padded, kernel, groups=3), blur)
    exposure = draws.normal(1, 1, 1, sd=0.08).exp()
    noise = draws.uniform(1, 1, 1, low=0.0, high=0.02) * draws.normal(*images.shape[1:])
    return (images * exposure + noise).clamp(0, 1)


def random_backdrop(size: int, feet: Float[Tensor, "2"], draws: Draws, *, count: int = 24) -> Picture:
    """Paint a background of ``size`` pixels with ``count`` leaves where there is foliage, RGB in [0, 1].

    A branch, if there is one, passes through ``feet``, in normalized coordinates.
    """
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    x, y = axis.expand(size, size), axis[:, None].expand(size, size)
    first, second = _tone(draws), _tone(draws)
    angle = float(draws.normal(sd=0.5)) + math.pi / 2
    ramp = ((math.cos(angle) * x + math.sin(angle) * y) / 2 + 0.5).clamp(0, 1)
    image = first + (second - first) * ramp
    for cells, strength in ((3, 0.10), (6, 0.05), (14, 0.025)):
        field = draws.normal(3, cells, cells)
        field = interpolate(field, size=(size, size), mode="bicubic", align_corners=False)[0]
        gray = field.mean(0, keepdim=True)
        image = image + strength * float(draws.uniform(low=0.3, high=1.3)) * (1.2 * gray + 0.18 * field)
    if float(draws.uniform()) < _FOLIAGE_SHARE:
        image = _foliage(image, x, y, count, draws)
    if float(draws.uniform()) < _BRANCH_SHARE:
        image = _branch(image, x, y, feet, draws)
    return image.clamp(0, 1)


def _tone(draws: Draws) -> Float[Tensor, "3 1 1"]:
    """Draw a color near one of the tones."""
    tone = torch.tensor(_TONES)[draws.integers(len(_TONES))[0]]
    return ((tone + draws.normal(3, sd=0.04)[0]) * draws.uniform(low=0.75, high=1.15)).clamp(0, 1)[:, None, None]


def _foliage(image: Picture, x: Plane, y: Plane, count: int, draws: Draws) -> Picture:
    """Draw soft ellipses: leaves out of focus."""
    place = draws.uniform(count, 2, low=-1.2, high=1.2)[0]
    reach = draws.uniform(count, low=0.05, high=0.32)[0]
    slim = draws.uniform(count, low=0.35, high=1.0)[0]
    angle = draws.uniform(count, high=math.pi)[0]
    blur = draws.uniform(low=0.15, high=0.8)
    cover = draws.uniform(count, low=0.15, high=0.7)[0]
    tones = torch.stack([_tone(draws) for _ in range(3)])[draws.integers(3, count)[0]]
    tones = tones * draws.uniform(count, 1, 1, 1, low=0.75, high=1.25)[0]
    dx, dy = x - place[:, 0, None, None], y - place[:, 1, None, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    radius = torch.hypot(cos * dx + sin * dy, (cos * dy - sin * dx) / slim[:, None, None]) / reach[:, None, None]
    alpha = torch.sigmoid((1 - radius) / (0.3 * blur)) * cover[:, None, None]
    for leaf, tone in zip(alpha, tones, strict=True):
        image = torch.lerp(image, tone.expand_as(image), leaf)
    return image


def _branch(image: Picture, x: Plane, y: Plane, feet: Float[Tensor, "2"], draws: Draws) -> Picture:
    """Draw a rounded branch with bark through the bird's feet."""
    angle, bend = draws.normal(sd=0.3)[0], draws.normal(sd=0.08)[0]
    width = draws.uniform(low=0.03, high=0.09)[0]
    along = (x - feet[0]) * angle.cos() + (y - feet[1]) * angle.sin()
    across = (y - feet[1]) * angle.cos() - (x - feet[0]) * angle.sin() - width + bend * along.square()
    bark = interpolate(draws.normal(1, 5, 40), size=x.shape, mode="bicubic", align_corners=False)[0]
    tone = draws.uniform(1, 1, low=0.15, high=0.5)[0] * torch.tensor([1.05, 0.95, 0.8])[:, None, None]
    tone = (tone + draws.normal(3, 1, 1, sd=0.03)[0]) * (1 - 0.45 * across / width) + 0.03 * bark
    alpha = torch.sigmoid((width - across.abs()) * 0.6 * x.shape[-1])
    return torch.lerp(image, tone, alpha)
