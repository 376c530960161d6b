"""Meshes under a light, from one side or from all."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from kpose._limits import check_side
from kpose._precision import widened
from kpose.geometry import vertex_normals, viewpoint_to_matrix
from kpose.rendering import HardRenderer, Renderer
from kpose.structures import Camera, Mesh

__all__ = ["mesh_views", "shaded_mesh", "turntable"]

CLAY = (0.72, 0.76, 0.80)
# Direction from the object to the light: up, a little left, behind the viewer.
LIGHT = (-0.35, -0.65, -0.75)
AMBIENT = 0.45


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
        camera: Camera in normalized coordinates of the square picture.
        size: Side of the picture, in pixels.
        color: RGB of a mesh that has no colors of its own, in [0, 1].
        renderer: What draws; the z-buffer when not given.

    Returns:
        RGB on black, and the share of each pixel that the mesh covers.

    Example:
        >>> from kpose.templates import bird, template_mesh
        >>> camera = Camera(torch.tensor(0.5), torch.zeros(2), torch.eye(3))
        >>> rgb, mask = shaded_mesh(template_mesh(bird()), camera, 32)
    """
    renderer = HardRenderer() if renderer is None else renderer
    mesh, camera = mesh.detach().to(torch.float32), camera.to(torch.float32)
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
    # The average of a pixel at the outline holds black; its color is that of the covered samples.
    return (rgb / mask.clamp_min(0.25)).clamp(0, 1), mask


def mesh_views(
    mesh: Mesh,
    size: int = 192,
    *,
    rotations: Float[Tensor, "views 3 3"] | None = None,
    background: float = 1.0,
) -> Float[Tensor, "views 3 {size} {size}"]:
    """Draw a mesh from several sides, as large as the frame allows.

    Args:
        mesh: One mesh, without leading dimensions, in the object frame of kpose.
        size: Side of each view, in pixels.
        rotations: Rotation of the camera of each view (see `viewpoint_to_matrix`); from the side, the front and
            above if not given.
        background: Gray value behind the mesh, in [0, 1].

    Returns:
        Pictures, all at the same scale, the middle of the mesh in the middle of each.

    Raises:
        ValueError: If there are no rotations, or ``size`` is not from 1 to 4,096.

    Example:
        >>> from kpose.templates import bird, template_mesh
        >>> mesh_views(template_mesh(bird()), 24).shape
        torch.Size([3, 3, 24, 24])
    """
    check_side(size, "mesh_views", "size")
    vertices = widened(mesh.vertices.detach())
    if rotations is None:
        quarter = math.pi / 2
        azimuth, elevation = vertices.new_tensor([[quarter, 0.0, quarter], [0.0, 0.0, 0.99 * quarter]])
        rotations = viewpoint_to_matrix(azimuth, elevation, torch.zeros_like(azimuth))
    if not len(rotations):
        raise ValueError("mesh_views needs at least one rotation; got none. See viewpoint_to_matrix.")
    center = (vertices.amin(-2) + vertices.amax(-2)) / 2
    reach = ((vertices - center) @ rotations.mT)[..., :2].abs().amax()
    scale = 0.95 / reach.clamp_min(torch.finfo(reach.dtype).tiny)
    pictures = []
    for rotation in rotations:
        rgb, mask = shaded_mesh(mesh, Camera(scale, -scale * (rotation @ center)[:2], rotation), size)
        pictures.append(torch.full_like(rgb, background).lerp(rgb, mask))
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
        background: Gray value behind the mesh, in [0, 1].

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
    azimuth = math.pi / 2 + 2 * math.pi * torch.arange(num_frames).to(widened(mesh.vertices)) / num_frames
    lift = torch.full_like(azimuth, math.radians(elevation))
    rotations = viewpoint_to_matrix(azimuth, lift, torch.zeros_like(azimuth))
    return mesh_views(mesh, size, rotations=rotations, background=background)
