"""Exact z-buffer: labels, visibility, hard IoU and pictures."""

from kpose.rendering.rasterize import gather_corners, z_buffer
from kpose.rendering.renderer import Renderer, image_size, to_image
from kpose.rendering.surface import surface
from kpose.structures import Camera, Mesh, Rendering

__all__ = ["HardRenderer"]


class HardRenderer(Renderer):
    """Renderer whose mask is 1 where the pixel's centre lies on a face, and 0 elsewhere.

    The mask has no gradient; depth, barycentrics and colours have those of the nearest face. Of faces at equal
    depth the first is drawn. A texture is interpolated bilinearly.

    Args:
        cull_back_faces: Leave out the faces seen from behind; the mesh must be closed and consistently wound.
        max_pairs: Pairs of a face and a pixel that are held at a time: bounds memory at about 150 bytes each.

    Example:
        >>> import torch
        >>> mesh = Mesh(torch.tensor([[-1.0, -1, 0], [1, -1, 0], [-1, 1, 0]]), torch.tensor([[0, 2, 1]]))
        >>> camera = Camera(torch.tensor(1.0), torch.zeros(2), torch.eye(3))
        >>> HardRenderer().render(mesh, camera, 2).face_index
        tensor([[ 0,  0],
                [ 0, -1]])
    """

    def __init__(self, *, cull_back_faces: bool = False, max_pairs: int = 1 << 22) -> None:
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
        return Rendering((face_index >= 0).to(depth), depth, face_index, weights, rgb)
