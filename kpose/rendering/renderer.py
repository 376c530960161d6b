"""Interface of all renderers, and what they share: checks, broadcasting, precision."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.geometry import to_image_frame
from kpose.recipe import Recorded
from kpose.structures import Camera, Mesh, Rendering

__all__ = ["Renderer"]


class Renderer(Recorded, ABC):
    """Interface of renderers, which draw meshes as weak-perspective cameras see them.

    The image is a crop in normalized coordinates: its corners are at ±1, and the center of pixel ``(i, j)`` of an
    image of height ``h`` and width ``w`` is at ``((2j + 1) / w - 1, (2i + 1) / h - 1)``. Leading dimensions of
    the mesh's tensors and of the camera broadcast: cameras ``(B, P)`` see vertices ``(B, 1, V, 3)`` each P times.

    Example:
        >>> from kpose.rendering import HardRenderer
        >>> mesh = Mesh(torch.tensor([[-1.0, -1, 0], [1, -1, 0], [-1, 1, 0]]), torch.tensor([[0, 2, 1]]))
        >>> camera = Camera(torch.tensor(1.0), torch.zeros(2), torch.eye(3))
        >>> HardRenderer().render(mesh, camera, 2).mask
        tensor([[1., 1.],
                [1., 0.]])
    """

    @abstractmethod
    def render(self, mesh: Mesh, camera: Camera, size: int | tuple[int, int]) -> Rendering:
        """Draw meshes.

        Args:
            mesh: Meshes in the object frame, with a texture, vertex colors or neither.
            camera: Cameras in normalized image coordinates.
            size: Side, or height and width, of the image in pixels.

        Returns:
            Images with the broadcast leading dimensions of mesh and camera. A mesh outside the image gives an
            empty one, as does a face without area.

        Raises:
            ValueError: If a vertex of a face is not finite or farther than 1e6 image units, or texture and vertex
                colors are both given.
        """

    def silhouette(
        self, mesh: Mesh, camera: Camera, size: int | tuple[int, int]
    ) -> Float[Tensor, "*batch height width"]:
        """Draw the silhouette alone, which may cost less than `render`.

        Args:
            mesh: Meshes in the object frame.
            camera: Cameras in normalized image coordinates.
            size: Side, or height and width, of the image in pixels.

        Returns:
            The mask that `render` gives.

        Raises:
            ValueError: If a vertex of a face is not finite, or farther than 1e6 image units.
        """
        return self.render(mesh, camera, size).mask


def image_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width, checked."""
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(
            f"Rendering needs an image of at least 1 x 1 pixels; got {height} x {width}. Enlarge size."
        )
    return height, width


def check_appearance(mesh: Mesh) -> None:
    """Raise where a mesh has two appearances, or a texture and no coordinates."""
    if mesh.vertex_colors is not None and mesh.texture is not None:
        raise ValueError("Rendering needs texture or vertex colors; got both. Leave one out of the mesh.")
    if mesh.texture is not None and (mesh.uv is None or mesh.uv_faces is None):
        raise ValueError("Rendering a texture needs the mesh's uv and uv_faces; got None. Add them to the mesh.")


def to_image(mesh: Mesh, camera: Camera) -> tuple[Tensor, tuple[int, ...]]:
    """Vertices in the image frame, flattened to one leading dimension, and the leading dimensions."""
    batch: torch.Size = torch.broadcast_shapes(  # type: ignore[no-untyped-call]
        mesh.vertices.shape[:-2], camera.scale.shape
    )
    seen = to_image_frame(mesh.vertices.expand(*batch, *mesh.vertices.shape[-2:]), camera)
    return seen.reshape(-1, *seen.shape[-2:]), tuple(batch)
