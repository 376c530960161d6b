"""Appearance of meshes, read point by point: vertex colors or a texture."""

from typing import NamedTuple

import torch
from torch import Tensor

from kpose.rendering.rasterize import select
from kpose.rendering.renderer import check_appearance
from kpose.structures import Mesh


class Paint(NamedTuple):
    """Appearance of a batch of meshes, in a form that is read point by point."""

    table: Tensor
    """Colors ``(3, K)`` of vertices or texels."""
    owner: Tensor
    """For each mesh of the batch, its appearance among those in the table, ``(B,)``."""
    faces: Tensor
    """Vertex indices of the faces ``(3, F)``."""
    uv: Tensor | None
    """Texture coordinates of the faces' corners ``(2, 3, F)``, None for vertex colors."""
    size: tuple[int, int]
    """Height and width of the texture; 1 and the number of vertices for vertex colors."""

    def at(self, image: Tensor, face: Tensor, weights: Tensor) -> Tensor:
        """Colors ``(3, P)`` of points: image, face within the mesh, and barycentrics ``(3, P)``."""
        start = self.owner.index_select(0, image) * (self.size[0] * self.size[1])
        if self.uv is None:
            return self._mix([start + corner for corner in select(self.faces, face)], list(weights))
        u, v = ((select(part, face) * weights).sum(0) for part in self.uv)
        return self._mix(*self._texels(start, u, v))

    def _texels(self, start: Tensor, u: Tensor, v: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The four texels around each point and their weights; u wraps around, v stops at the border.

        `grid_sample` cannot wrap around, and needs a copy of the texture for every camera that sees it.
        """
        height, width = self.size
        x, y = u * width - 0.5, (v * height - 0.5).clamp(0, height - 1)
        left, top = x.detach().floor(), y.detach().floor()
        across, down = (1 - (x - left), x - left), (1 - (y - top), y - top)
        left, top = left.long(), top.long()
        columns, rows = (left % width, (left + 1) % width), (top, (top + 1).clamp_max(height - 1))
        corners = [(i, j) for i in (0, 1) for j in (0, 1)]
        return [start + rows[i] * width + columns[j] for i, j in corners], [down[i] * across[j] for i, j in corners]

    def _mix(self, index: list[Tensor], weights: list[Tensor]) -> Tensor:
        mixed = select(self.table, index[0]) * weights[0]
        for part, weight in zip(index[1:], weights[1:], strict=True):
            mixed = torch.addcmul(mixed, select(self.table, part), weight)
        return mixed


def paint_of(mesh: Mesh, batch: tuple[int, ...], like: Tensor) -> Paint | None:
    """Appearance of meshes that are seen with the leading dimensions ``batch``, None if they have none."""
    check_appearance(mesh)
    if mesh.vertex_colors is not None:
        values, uv = mesh.vertex_colors.movedim(-1, 0).unsqueeze(-2), None
    elif mesh.texture is not None:
        assert mesh.uv is not None
        assert mesh.uv_faces is not None
        values, uv = mesh.texture.movedim(-3, 0), mesh.uv[mesh.uv_faces].movedim((0, 1, 2), (2, 1, 0)).to(like)
    else:
        return None
    own = values.shape[1:-2]
    owner = torch.arange(own.numel(), device=like.device).view(own).expand(batch).flatten()
    return Paint(values.reshape(3, -1).to(like), owner, mesh.faces.T, uv, (values.shape[-2], values.shape[-1]))
