"""Drawing meshes: an interface, a hard z-buffer, soft rasterization with gradients, and visibility."""

from kpose.rendering._visibility import vertex_visibility
from kpose.rendering.hard import HardRenderer
from kpose.rendering.pytorch3d import PyTorch3DRenderer
from kpose.rendering.renderer import Renderer
from kpose.rendering.soft import CompositeRenderer, SoftRenderer
from kpose.rendering.warp import WarpRenderer, fast_renderer

__all__ = [
    "CompositeRenderer",
    "HardRenderer",
    "PyTorch3DRenderer",
    "Renderer",
    "SoftRenderer",
    "WarpRenderer",
    "fast_renderer",
    "vertex_visibility",
]
