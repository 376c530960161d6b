"""Which vertices are seen, by the z-buffer."""

import torch
from jaxtyping import Bool
from torch import Tensor

from kpose.rendering.rasterize import z_buffer
from kpose.rendering.renderer import to_image
from kpose.rendering.scene import Part, Scene
from kpose.structures import Camera, Mesh

__all__ = ["vertex_visibility"]


@torch.no_grad()
def vertex_visibility(
    mesh: Mesh, camera: Camera, size: int | tuple[int, int] = 128, *, max_pairs: int = 1 << 22
) -> Bool[Tensor, "*batch V"]:
    """Report which vertices a camera sees: inside the image and not behind a face.

    A vertex is seen when a face that it belongs to is the nearest one at one of the four pixels around it. The
    z-buffer is spread over the object, not over the image, so that an object that is small in the image is judged
    as finely as a large one; ``size`` should give a face two pixels or more.

    Args:
        mesh: Meshes in the object frame.
        camera: Cameras in normalized image coordinates; leading dimensions broadcast with those of the mesh.
        size: Side, or height and width, of the z-buffer in pixels: the object's longer side just fits into it.
        max_pairs: Pairs of a face and a pixel that are held at a time.

    Returns:
        True for each vertex that is seen.

    Raises:
        ValueError: If a vertex of a face is not finite, or farther than 1e6 image units.

    Example:
        >>> triangles = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [-1, 1, 0],
        ...     [-.5, -.5, 1], [0, -.5, 1], [-.5, 0, 1]])
        >>> mesh = Mesh(triangles, torch.tensor([[0, 2, 1], [3, 5, 4]]))
        >>> vertex_visibility(mesh, Camera(torch.tensor(1.0), torch.zeros(2), torch.eye(3)))
        tensor([ True,  True,  True, False, False, False])
    """
    mesh = mesh._replace(texture=None, vertex_colors=None)
    seen_by, batch = to_image(mesh, camera)
    inside = (seen_by[..., :2].abs() <= 1).all(-1)
    scene = Scene(mesh, _fit(seen_by, camera, batch), size, radius=0.0, cull=False, max_pairs=max_pairs)
    height, width = scene.size
    vertices = scene.vertices
    num_images, num_vertices = vertices.shape[:2]
    (face,) = scene.draw(lambda part: (_faces(part, scene),))
    face = face.view(num_images, height, width)
    pixels = (vertices[..., :2] + 1) / 2 * vertices.new_tensor([width, height]) - 0.5
    limit = torch.tensor([width - 1, height - 1], device=face.device)
    image = torch.arange(num_images, device=face.device)[:, None]
    mine = torch.arange(num_vertices, device=face.device)
    seen = torch.zeros(num_images, num_vertices, dtype=torch.bool, device=face.device)
    low = pixels.floor().clamp(-1, max(height, width)).long()
    for shift in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = torch.minimum(low + low.new_tensor(shift), limit).clamp_min(0).unbind(-1)
        nearest = face[image, row, column]
        own = (mesh.faces[nearest.clamp_min(0)] == mine[:, None]).any(-1)
        seen |= own & (nearest >= 0)
    return (seen & inside).view(*batch, num_vertices)


def _fit(vertices: Tensor, camera: Camera, batch: tuple[int, ...]) -> Camera:
    """Move and scale cameras so that each object fits into the image."""
    if not vertices.numel():
        return camera
    low, high = vertices[..., :2].aminmax(dim=1)
    scale = 2 / (high - low).amax(-1).clamp_min(torch.finfo(low.dtype).tiny)
    scale, center = scale.view(batch), ((low + high) / 2).view(*batch, 2)
    return Camera(camera.scale * scale, (camera.translation - center) * scale.unsqueeze(-1), camera.rotation)


def _faces(part: Part, scene: Scene) -> Tensor:
    """Nearest face of each pixel, counted within its mesh."""
    face = z_buffer(part.corners, part.boxes, scene.size, max_pairs=scene.max_pairs).face
    return torch.where(face >= 0, face % max(part.boxes.num_faces, 1), -1)
