"""The renderer interface on PyTorch3D: the only file that knows its frame.

PyTorch3D's image has +x to the left and +y up, its textures have v up, and it counts faces through the batch. It is
not on PyPI and is built against the installed torch, so it is looked for only when a `PyTorch3DRenderer` is made.
"""

from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from kpose.rendering.blend import blur_radius
from kpose.rendering.renderer import Renderer, check_appearance, image_size, to_image
from kpose.structures import Camera, Mesh, Rendering

if TYPE_CHECKING:
    from pytorch3d.structures import Meshes

__all__ = ["PyTorch3DRenderer"]

_INSTALL = (
    "pip install iopath && pip install --no-build-isolation git+https://github.com/facebookresearch/pytorch3d.git"
)


class PyTorch3DRenderer(Renderer):
    """Renderer that gives what `kpose.rendering.CompositeRenderer` gives, by PyTorch3D.

    Only the nearest ``faces_per_pixel`` faces of a pixel count: where more cover it, mask and gradient differ from
    those of `CompositeRenderer`, which counts them all. In an oblong image the blur is measured in units of the
    shorter side.

    Args:
        sigma: Blur of the outline in squared normalized units. It reaches ``3 sqrt(sigma)`` to either side.
        faces_per_pixel: Faces that count at a pixel of the mask.
        cull_back_faces: Leave out the faces seen from behind; the mesh must be closed and consistently wound.

    Raises:
        ImportError: If PyTorch3D is not installed.

    Source:
        Ravi et al., Accelerating 3D Deep Learning with PyTorch3D, 2020.

    Example:
        Where PyTorch3D is installed::

            PyTorch3DRenderer(sigma=1e-4).silhouette(mesh, camera, 64)  # (64, 64)
    """

    def __init__(self, sigma: float = 1e-5, *, faces_per_pixel: int = 50, cull_back_faces: bool = False) -> None:
        self._renderer, self._structures = _pytorch3d()
        self.sigma = sigma
        self.faces_per_pixel = faces_per_pixel
        self.cull_back_faces = cull_back_faces

    def render(self, mesh: Mesh, camera: Camera, size: int | tuple[int, int]) -> Rendering:
        """Draw meshes; see `Renderer.render`."""
        height, width = image_size(size)
        vertices, batch = to_image(mesh, camera)
        meshes, offset = self._meshes(vertices, mesh, batch, (height, width))
        nearest = self._rasterize(meshes, (height, width), 0.0, 1)
        face = nearest.pix_to_face[..., 0]
        covered = face >= 0
        depth = torch.where(covered, nearest.zbuf[..., 0] - offset, torch.inf).view(*batch, height, width)
        weights = (nearest.bary_coords[..., 0, :] * covered.unsqueeze(-1)).view(*batch, height, width, 3)
        index = torch.where(covered, face % max(len(mesh.faces), 1), -1).view(*batch, height, width)
        mask = self._mask(meshes, (height, width)).view(*batch, height, width)
        if meshes.textures is None:
            return Rendering(mask, depth, index, weights)
        rgb = (meshes.sample_textures(nearest)[..., 0, :] * covered.unsqueeze(-1)).movedim(-1, 1)
        return Rendering(mask, depth, index, weights, mask.unsqueeze(-3) * rgb.reshape(*batch, 3, height, width))

    def silhouette(
        self, mesh: Mesh, camera: Camera, size: int | tuple[int, int]
    ) -> Float[Tensor, "*batch height width"]:
        """Draw the mask alone; see `Renderer.silhouette`."""
        height, width = image_size(size)
        vertices, batch = to_image(mesh, camera)
        bare = mesh._replace(texture=None, vertex_colors=None)
        meshes, _ = self._meshes(vertices, bare, batch, (height, width))
        return self._mask(meshes, (height, width)).view(*batch, height, width)

    def _meshes(
        self, vertices: Tensor, mesh: Mesh, batch: tuple[int, ...], size: tuple[int, int]
    ) -> tuple["Meshes", Tensor]:
        """Meshes in PyTorch3D's frame, and what was added to their depth."""
        if not vertices.isfinite().all():
            raise ValueError(
                "Rendering needs finite vertices and cameras; got NaN or infinity. Look for its origin."
            )
        height, width = size
        # The shorter side spans ±1, the longer more; depth must be positive or the face is behind the camera.
        short = min(height, width)
        depth = vertices.detach()[..., 2]
        offset = 1 - (depth.amin() if depth.numel() else depth.sum())
        turned = torch.stack(
            (-vertices[..., 0] * (width / short), -vertices[..., 1] * (height / short), vertices[..., 2] + offset),
            -1,
        )
        faces = mesh.faces.long().expand(len(vertices), -1, -1)
        return self._structures.Meshes(turned, faces, self._textures(mesh, batch)), offset

    def _textures(self, mesh: Mesh, batch: tuple[int, ...]) -> Any:  # noqa: ANN401 - PyTorch3D has no types
        check_appearance(mesh)
        if mesh.vertex_colors is not None:
            colors = mesh.vertex_colors.expand(*batch, *mesh.vertex_colors.shape[-2:])
            return self._renderer.TexturesVertex(colors.reshape(-1, *colors.shape[-2:]))
        if mesh.texture is None or mesh.uv is None or mesh.uv_faces is None:
            return None
        # Three copies side by side, so that u in [-1, 2] wraps around.
        maps = torch.cat([mesh.texture] * 3, -1).movedim(-3, -1)
        maps = maps.expand(*batch, *maps.shape[-3:])
        maps = maps.reshape(-1, *maps.shape[-3:])
        uv = torch.stack(((mesh.uv[:, 0] + 1) / 3, 1 - mesh.uv[:, 1]), -1)
        uv_faces = mesh.uv_faces.long().expand(len(maps), -1, -1)
        return self._renderer.TexturesUV(
            maps, uv_faces, uv.expand(len(maps), -1, -1), padding_mode="border", align_corners=False
        )

    def _mask(self, meshes: "Meshes", size: tuple[int, int]) -> Tensor:
        fragments = self._rasterize(meshes, size, blur_radius(self.sigma) ** 2, self.faces_per_pixel)
        blend = self._renderer.BlendParams(sigma=self.sigma)
        colors = fragments.zbuf.new_zeros(*fragments.zbuf.shape, 3)
        mask: Tensor = self._renderer.sigmoid_alpha_blend(colors, fragments, blend)[..., 3]
        return mask

    def _rasterize(self, meshes: "Meshes", size: tuple[int, int], blur: float, faces_per_pixel: int) -> Any:  # noqa: ANN401 - PyTorch3D has no types
        settings = self._renderer.RasterizationSettings(
            image_size=size,
            blur_radius=blur,
            faces_per_pixel=faces_per_pixel,
            perspective_correct=False,
            clip_barycentric_coords=blur > 0,
            cull_backfaces=self.cull_back_faces,
        )
        # The vertices have been projected: this camera leaves them where they are.
        cameras = self._renderer.OrthographicCameras(device=meshes.device)
        return self._renderer.MeshRasterizer(cameras, settings)(meshes)


def _pytorch3d() -> tuple[ModuleType, ModuleType]:
    try:
        import pytorch3d.renderer
        import pytorch3d.structures
    except ImportError as error:
        raise ImportError(
            f"PyTorch3DRenderer needs PyTorch3D; it cannot be imported ({error}). Install it, which takes a C++ "
            f"compiler and about 20 minutes: {_INSTALL}"
        ) from error
    return pytorch3d.renderer, pytorch3d.structures
