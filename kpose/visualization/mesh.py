"""Meshes under a light, from one side or from all."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from kpose.geometry import axis_angle_to_matrix, vertex_normals, viewpoint_to_matrix
from kpose.rendering import HardRenderer, Renderer
from kpose.structures import Camera, Mesh
from kpose.visualization.color import blend

__all__ = ["mesh_views", "shaded_mesh", "turned_views", "turntable"]

CLAY = (0.72, 0.76, 0.80)
# Direction from the object to the light: up, a little left, behind the viewer.
LIGHT = (-0.35, -0.65, -0.75)
AMBIENT = 0.45
SIDE_VIEWS = ((90.0, 0.0), (0.0, 0.0), (90.0, 89.0))
# About the picture's axes to the right and down: none, the viewer to the right, the viewer above.
TURNS = ((0.0, 0.0), (0.0, 90.0), (90.0, 0.0))


def shaded_mesh(
    mesh: Mesh,
    camera: Camera,
    size: int,
    *,
    color: tuple[float, float, float] = CLAY,
    renderer: Renderer | None = None,
) -> tuple[Float[Tensor, "3 {size} {size}"], Float[Tensor, "{size} {size}"]]:
    """Draw a mesh under a light behind the viewer's shoulder.

    Args:
        mesh: One mesh, without leading dimensions.
        camera: Camera in normalised coordinates of the square picture.
        size: Side of the picture, in pixels.
        color: RGB of a mesh that has no colours of its own, in [0, 1].
        renderer: What draws; the z-buffer when not given.

    Returns:
        RGB on black, and the share of each pixel that the mesh covers.

    Example:
        >>> from kpose.templates import bird, template_mesh
        >>> camera = Camera(torch.tensor(0.5), torch.zeros(2), torch.eye(3))
        >>> rgb, mask = shaded_mesh(template_mesh(bird()), camera, 32)
    """
    renderer = HardRenderer() if renderer is None else renderer
    mesh = Mesh(mesh.vertices.detach(), *mesh[1:])
    with torch.no_grad():
        seen = renderer.render(mesh, camera, 2 * size)  # four samples a pixel
        normals = vertex_normals(mesh.vertices, mesh.faces) @ camera.rotation.mT
        corners = normals[mesh.faces[seen.face_index.clamp_min(0)]]
        normal = normalize((seen.barycentrics[..., None] * corners).sum(-2), dim=-1)
        light = normalize(normal.new_tensor(LIGHT), dim=0)
        brightness = AMBIENT + (1 - AMBIENT) * (normal @ light).clamp_min(0)
        surface = normal.new_tensor(color)[:, None, None] if seen.rgb is None else seen.rgb
        covered = (seen.face_index >= 0).to(normal)
        rgb = avg_pool2d((surface * brightness * covered)[None], 2)[0]
        mask = avg_pool2d(covered[None], 2)[0]
    # The average of a pixel at the outline holds black; its colour is that of the covered samples.
    return (rgb / mask.clamp_min(0.25)).clamp(0, 1), mask


def mesh_views(
    mesh: Mesh,
    size: int = 192,
    *,
    viewpoints: Sequence[tuple[float, float]] = SIDE_VIEWS,
    background: float = 1.0,
) -> Float[Tensor, "3 {size} _"]:
    """Draw a mesh from several sides, next to each other, as large as the frame allows.

    Args:
        mesh: One mesh, without leading dimensions, in the object frame of kpose.
        size: Side of each view, in pixels.
        viewpoints: Azimuth and elevation of each view, in degrees (see `viewpoint_to_matrix`); from the side, the
            front and above if not given.
        background: Grey value behind the mesh, in [0, 1].

    Returns:
        Picture of as many squares as there are views, all at the same scale.

    Raises:
        ValueError: If there are no viewpoints.

    Example:
        >>> from kpose.templates import bird, template_mesh
        >>> mesh_views(template_mesh(bird()), 24).shape
        torch.Size([3, 24, 72])
    """
    if not viewpoints:
        raise ValueError("mesh_views needs at least one viewpoint; got none. Give (azimuth, elevation) in degrees.")
    return torch.cat([_view(mesh, size, viewpoint, background) for viewpoint in viewpoints], -1)


def turned_views(
    mesh: Mesh,
    rotation: Float[Tensor, "3 3"],
    size: int = 192,
    *,
    turns: Sequence[tuple[float, float]] = TURNS,
    background: float = 1.0,
) -> Float[Tensor, "views 3 {size} {size}"]:
    """Draw a mesh as a camera sees it, and turned from there, as large as the frame allows.

    Args:
        mesh: One mesh, without leading dimensions.
        rotation: Rotation of the camera.
        size: Side of each view, in pixels.
        turns: For each view, how far what the camera sees is turned about the picture's axis to the right, then
            about that down, in degrees; as seen, from the right and from above if not given.
        background: Grey value behind the mesh, in [0, 1].

    Returns:
        Pictures, all at the same scale.

    Raises:
        ValueError: If there are no turns.

    Example:
        >>> from kpose.templates import bird, template_mesh
        >>> turned_views(template_mesh(bird()), torch.eye(3), 24).shape
        torch.Size([3, 3, 24, 24])
    """
    if not turns:
        raise ValueError("turned_views needs at least one turn; got none. Give (0, 0) for what the camera sees.")
    axes = torch.eye(3).to(rotation)
    rotations = []
    for degrees in turns:
        about_right, about_down = (math.radians(angle) * axis for angle, axis in zip(degrees, axes, strict=False))
        rotations.append(axis_angle_to_matrix(about_down) @ axis_angle_to_matrix(about_right) @ rotation)
    vertices = mesh.vertices.detach()
    spans = [(vertices @ turned.mT)[:, :2].aminmax(dim=0) for turned in rotations]
    reach = torch.stack([(high - low).amax() / 2 for low, high in spans]).amax()
    scale = 0.95 / reach.clamp_min(torch.finfo(reach.dtype).tiny)
    pictures = []
    for turned, (low, high) in zip(rotations, spans, strict=True):
        rgb, mask = shaded_mesh(mesh, Camera(scale, -scale * (low + high) / 2, turned), size)
        pictures.append(blend(torch.full_like(rgb, background), rgb, mask))
    return torch.stack(pictures)


def turntable(
    mesh: Mesh,
    size: int = 256,
    *,
    num_frames: int = 36,
    elevation: float = 15.0,
    background: float = 1.0,
) -> Float[Tensor, "{num_frames} 3 {size} {size}"]:
    """Draw a mesh turning once about its up axis, as `save_animation` writes it.

    Args:
        mesh: One mesh, without leading dimensions, in the object frame of kpose.
        size: Side of each picture, in pixels.
        num_frames: Pictures in a full turn; the first shows the side, and the last is followed by the first.
        elevation: Height of the viewer above the object's horizon, in degrees.
        background: Grey value behind the mesh, in [0, 1].

    Returns:
        Pictures, all at the same scale.

    Raises:
        ValueError: If ``num_frames`` is not positive.

    Example:
        >>> from kpose.templates import bird, template_mesh
        >>> turntable(template_mesh(bird()), 24, num_frames=3).shape
        torch.Size([3, 3, 24, 24])
    """
    if num_frames < 1:
        raise ValueError(f"turntable needs at least one frame; got {num_frames}. Take 36 for steps of 10 degrees.")
    azimuths = [90 + 360 * number / num_frames for number in range(num_frames)]
    return torch.stack([_view(mesh, size, (azimuth, elevation), background) for azimuth in azimuths])


def _view(mesh: Mesh, size: int, viewpoint: tuple[float, float], background: float) -> Tensor:
    """Draw a mesh in the middle, at a scale that fits the frame from everywhere."""
    vertices = mesh.vertices.detach()
    low, high = vertices.amin(-2), vertices.amax(-2)
    centre = (low + high) / 2
    reach = (vertices - centre).norm(dim=-1).amax().clamp_min(torch.finfo(vertices.dtype).tiny)
    azimuth, elevation = (vertices.new_tensor(math.radians(angle)) for angle in viewpoint)
    rotation = viewpoint_to_matrix(azimuth, elevation, torch.zeros_like(azimuth))
    scale = 0.95 / reach
    camera = Camera(scale, -scale * (rotation @ centre)[:2], rotation)
    rgb, mask = shaded_mesh(mesh, camera, size)
    return blend(torch.full_like(rgb, background), rgb, mask)
