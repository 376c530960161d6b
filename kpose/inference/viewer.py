"""Meshes to turn by the mouse, in a page of their own or in a notebook, without a network."""

import html

import numpy as np
import trimesh
from kornia.color import linear_rgb_to_rgb
from trimesh.transformations import rotation_matrix
from trimesh.viewer.notebook import scene_to_html

from kpose.inference.export import to_trimesh
from kpose.structures import Mesh

__all__ = ["MeshViewer"]

# From the object's left side, somewhat from the front and above.
VIEW_DEG = (-17.0, 62.0, 0.0)
FIELD_DEG = 30.0
LIGHT = 1.75


class MeshViewer:
    """A page on which a mesh is turned by the mouse, and which a notebook shows.

    The page holds mesh and viewer, three.js as trimesh packs it (MIT license), and reads no other file.

    Args:
        mesh: One mesh, without leading dimensions.
        height: Height in a notebook, in pixels.

    Attributes:
        page: The page, in HTML.

    Example:
        >>> from kpose.templates import bird, template_mesh
        >>> MeshViewer(template_mesh(bird())).page[:15]
        '<!DOCTYPE html>'
    """

    def __init__(self, mesh: Mesh, *, height: int = 360) -> None:
        # The viewer decodes textures to linear values and shows these as they are, under a light of 1.75.
        if mesh.texture is not None:
            mesh = mesh._replace(texture=linear_rgb_to_rgb(mesh.texture / LIGHT))
        elif mesh.vertex_colors is not None:
            mesh = mesh._replace(vertex_colors=mesh.vertex_colors / LIGHT)
        solid = to_trimesh(mesh)
        solid.apply_transform(rotation_matrix(-np.pi / 2, [1, 0, 0]))  # the viewer has +y up
        scene = trimesh.Scene(solid)
        distance = scene.scale / 2 / np.sin(np.radians(FIELD_DEG / 2))  # at which the whole of it is seen
        scene.set_camera(np.radians(VIEW_DEG), distance, scene.centroid, fov=(FIELD_DEG, FIELD_DEG))
        self.page: str = scene_to_html(scene)
        self.height = height

    def _repr_html_(self) -> str:
        """Show the page in a notebook."""
        style = f"width: 100%; height: {self.height}px; border: 0"
        return f'<iframe srcdoc="{html.escape(self.page)}" style="{style}"></iframe>'
