"""Meshes of templates."""

from jaxtyping import Float
from torch import Tensor

from kpose.structures import Mesh, Template

__all__ = ["template_mesh"]


def template_mesh(
    template: Template,
    vertices: Float[Tensor, "*batch V 3"] | None = None,
    texture: Float[Tensor, "*batch 3 h w"] | None = None,
    vertex_colors: Float[Tensor, "*batch V 3"] | None = None,
) -> Mesh:
    """Make a mesh with a template's faces and texture coordinates.

    Args:
        template: Template.
        vertices: Positions in the template's vertex order, the template's own if not given.
        texture: RGB texture in [0, 1].
        vertex_colors: RGB colors in [0, 1]; exclusive with ``texture``.

    Returns:
        Mesh; tensors are shared, not copied.

    Raises:
        ValueError: If texture and vertex colors are both given, or if the number of vertices differs.

    Example:
        >>> from kpose.templates import bird
        >>> template_mesh(bird()).vertex_colors is None
        True
    """
    if texture is not None and vertex_colors is not None:
        raise ValueError("template_mesh needs a texture or vertex colors; got both. Leave one out.")
    vertices = template.vertices if vertices is None else vertices
    if vertices.shape[-2] != len(template.vertices):
        raise ValueError(
            f"template_mesh needs {len(template.vertices)} vertices, as the template has; got {vertices.shape[-2]}."
        )
    return Mesh(vertices, template.faces, template.uv, template.uv_faces, texture, vertex_colors)
