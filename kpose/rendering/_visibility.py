"""What is seen of vertices and at points: by the z-buffer for many, by rays through all faces for few."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kpose.geometry import normalized_to_pixels
from kpose.rendering.rasterize import face_edges, gather_corners, plane_depth, z_buffer
from kpose.rendering.renderer import to_image
from kpose.rendering.scene import Part, Scene
from kpose.structures import Camera, Mesh

__all__ = ["nearest_face", "vertex_visibility"]

# A point this far outside of a face, in image units, is on its edge: rays do not slip through between two faces.
_ON_EDGE = 1e-6
# Distances of points to edges that are held at a time.
_HELD = 1 << 24


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
    pixels = normalized_to_pixels(vertices[..., :2], (height, width)) - 0.5
    image = torch.arange(num_images, device=face.device)[:, None]
    mine = torch.arange(num_vertices, device=face.device)
    seen = torch.zeros(num_images, num_vertices, dtype=torch.bool, device=face.device)
    low = pixels.floor().clamp(-1, max(height, width)).long()
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = (low[..., 0] + right).clamp(0, width - 1), (low[..., 1] + down).clamp(0, height - 1)
        nearest = face[image, row, column]
        own = (mesh.faces[nearest.clamp_min(0)] == mine[:, None]).any(-1)
        seen |= own & (nearest >= 0)
    return (seen & inside).view(*batch, num_vertices)


@torch.no_grad()
def nearest_face(
    mesh: Mesh, camera: Camera, points: Float[Tensor, "batch N 2"]
) -> tuple[Int[Tensor, "batch N"], Float[Tensor, "batch N"]]:
    """Find the nearest face at points of the image, each by the rays through all faces.

    For few points this costs less than a z-buffer, and the host does not wait for the device.

    Args:
        mesh: Meshes in the object frame; entries that are not finite hide nothing.
        camera: Cameras in normalized image coordinates.
        points: Places in the image.

    Returns:
        Number of the face, -1 where there is none, and the depth of its surface, +inf where there is none.

    Example:
        >>> mesh = Mesh(torch.tensor([[[-1.0, -1, 2], [1, -1, 2], [-1, 1, 2]]]), torch.tensor([[0, 2, 1]]))
        >>> camera = Camera(torch.ones(1), torch.zeros(1, 2), torch.eye(3)[None])
        >>> nearest_face(mesh, camera, torch.tensor([[[-0.5, -0.5], [0.5, 0.5]]]))
        (tensor([[ 0, -1]]), tensor([[2., inf]]))
    """
    seen, _ = to_image(mesh._replace(texture=None, vertex_colors=None), camera)
    block = max(1, _HELD // max(1, 4 * len(mesh.faces) * points.shape[1]))
    parts = zip(torch.split(seen, block), torch.split(points.to(seen), block), strict=True)
    with torch.autocast(seen.device.type, enabled=False):
        found = [_nearest_face(vertices, mesh.faces, place) for vertices, place in parts]
    face, depth = (torch.cat(values) for values in zip(*found, strict=True))
    return face, depth


def _nearest_face(vertices: Tensor, faces: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    corners = gather_corners(vertices, faces)
    edges, (z, slope_x, slope_y) = face_edges(corners), plane_depth(corners)
    # Distance of a point (u, v) to the inside of each edge, and depth: all are a + b u + c v.
    across, along = -edges.along_y * edges.inward, edges.along_x * edges.inward
    constant = torch.cat((-(across * edges.x + along * edges.y), z[None]))
    factors = torch.stack((constant, torch.cat((across, slope_x[None])), torch.cat((along, slope_y[None]))))
    factors = torch.unflatten(factors, -1, (len(vertices), len(faces))).permute(2, 1, 3, 0).flatten(1, 2)
    values = torch.unflatten(torch.baddbmm(factors[..., :1], factors[..., 1:], points.mT), 1, (4, len(faces)))
    inside = values[:, :3].amin(1) >= -_ON_EDGE
    depth, face = torch.where(inside, values[:, 3], torch.inf).min(1)
    return torch.where(depth.isfinite(), face, -1), depth


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
