"""The colours of a photo on the mesh that lies in it."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from kpose.geometry.camera import project
from kpose.rendering import vertex_visibility
from kpose.structures import Camera, Mesh

__all__ = ["color_by_photo"]


@torch.no_grad()
def color_by_photo(mesh: Mesh, image: Float[Tensor, "3 H W"], camera: Camera) -> Mesh:
    """Give each vertex the colour of the picture where it is seen.

    A vertex that is hidden takes the colour of its mirror partner, the vertex nearest to its reflection in
    ``x = 0``. Where a camera is wrong the colours lie in the wrong places.

    Args:
        mesh: One mesh, without leading dimensions, symmetric about ``x = 0``.
        image: Square picture, RGB in [0, 1].
        camera: Camera in normalised coordinates of the picture.

    Returns:
        Mesh with these vertex colours in place of any appearance; what neither side shows has the mean colour of
        what is seen, and of all vertices where none is.

    Example:
        >>> from kpose.templates import bird, template_mesh
        >>> camera = Camera(torch.tensor(0.5), torch.zeros(2), torch.eye(3))
        >>> color_by_photo(template_mesh(bird()), torch.full((3, 8, 8), 0.25), camera).vertex_colors[0]
        tensor([0.2500, 0.2500, 0.2500])
    """
    plain = Mesh(mesh.vertices.detach(), mesh.faces)
    grid = project(plain.vertices, camera)[None, None].to(image)
    colors = grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0, :, 0].mT
    seen = vertex_visibility(plain, camera)
    mean = colors[seen].mean(0) if seen.any() else colors.mean(0)
    reflected = plain.vertices * plain.vertices.new_tensor([-1.0, 1.0, 1.0])
    partner = torch.cdist(reflected, plain.vertices).argmin(-1)
    other = torch.where(seen[partner][:, None], colors[partner], mean)
    return plain._replace(vertex_colors=torch.where(seen[:, None], colors, other))
