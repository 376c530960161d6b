"""Exact z-buffer: labels, visibility, hard IoU and pictures."""

from torch import Tensor

from kpose.rendering.renderer import Renderer
from kpose.rendering.scene import Part, Scene
from kpose.structures import Camera, Mesh, Rendering

__all__ = ["HardRenderer"]


class HardRenderer(Renderer):
    """Renderer whose mask is 1 where the pixel's center lies on a face, and 0 elsewhere.

    The mask has no gradient; depth, barycentrics and colors have those of the nearest face. Of faces at equal
    depth the first is drawn. Faces share their edges exactly: there are no cracks between them.

    Args:
        cull_back_faces: Leave out the faces seen from behind; the mesh must be closed and consistently wound.
        max_pairs: Bound of memory: pairs of a face and a pixel in its box, and pixels, that are held at a time, at
            about 50 bytes each. What exceeds it is drawn in groups of meshes, and computed again backwards.

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
        scene = Scene(mesh, camera, size, radius=0.0, cull=self.cull_back_faces, max_pairs=self.max_pairs)

        def draw(part: Part) -> tuple[Tensor, ...]:
            depth, face, weights, *rgb = scene.surface(part)
            return (face >= 0).to(depth), depth, face, weights, *rgb

        return scene.rendering(*scene.draw(draw))
