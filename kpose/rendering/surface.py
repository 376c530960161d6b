"""What is seen of the nearest face: depth, barycentrics and colour, with gradients."""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from kpose.rendering.rasterize import ZBuffer, barycentrics
from kpose.rendering.renderer import full_precision
from kpose.structures import Mesh

__all__: list[str] = []


def pixel_centres(size: tuple[int, int], like: Tensor) -> Tensor:
    """Give the pixels' centres ``(height, width, 2)`` in normalised coordinates."""
    height, width = size
    row = (2 * torch.arange(height, device=like.device, dtype=like.dtype) + 1) / height - 1
    column = (2 * torch.arange(width, device=like.device, dtype=like.dtype) + 1) / width - 1
    return torch.stack(torch.meshgrid(column, row, indexing="xy"), -1)


def surface(
    mesh: Mesh, corners: Tensor, nearest: ZBuffer, batch: tuple[int, ...], size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Give depth, face index, barycentrics and colour of the nearest faces, shaped as images."""
    num_faces = max(len(mesh.faces), 1)
    covered = nearest.face >= 0
    index = nearest.face.clamp_min(0)
    if corners.shape[-1] == 0:
        corners = corners.new_zeros(3, 3, 1)
    mine = corners.flatten(0, 1).gather(1, index.expand(9, -1)).view(3, 3, -1)
    centres = pixel_centres(size, corners).view(-1, 2)
    centres = centres.repeat(len(index) // len(centres), 1)
    weights = barycentrics(mine, centres[:, 0], centres[:, 1]) * covered
    depth = torch.where(covered, (weights * mine[2]).sum(0), torch.inf).view(*batch, *size)
    weights = weights.T.reshape(*batch, *size, 3)
    covered = covered.view(*batch, *size)
    index = torch.where(covered, index.view(covered.shape) % num_faces, -1)
    rgb = appearance(mesh, index, weights)
    if rgb is not None:
        rgb = rgb * covered.unsqueeze(-3)
    return depth, index, weights, rgb


def appearance(mesh: Mesh, index: Tensor, weights: Tensor) -> Tensor | None:
    """Give the colours ``(*batch 3 h w)`` at barycentrics of faces, anything where the index is -1."""
    index = index.clamp_min(0)
    if mesh.vertex_colors is not None:
        colors = full_precision(mesh.vertex_colors)
        batch, size = index.shape[:-2], index.shape[-2:]
        colors = colors.expand(*batch, *colors.shape[-2:])
        which = mesh.faces[index].flatten(-3)
        mine = colors.gather(-2, which.unsqueeze(-1).expand(*which.shape, 3)).view(*batch, *size, 3, 3)
        return (weights.unsqueeze(-1) * mine).sum(-2).movedim(-1, -3)
    if mesh.texture is None:
        return None
    if mesh.uv is None or mesh.uv_faces is None:
        raise ValueError("Rendering a texture needs the mesh's uv and uv_faces; got None. Add them to the mesh.")
    uv = (weights.unsqueeze(-1) * full_precision(mesh.uv)[mesh.uv_faces[index]]).sum(-2)
    return sample_texture(full_precision(mesh.texture), uv)


def sample_texture(texture: Tensor, uv: Tensor) -> Tensor:
    """Sample textures ``(*batch 3 h w)`` bilinearly at ``(*batch H W 2)``; u wraps around, v does not."""
    batch = uv.shape[:-3]
    width = texture.shape[-1]
    # One column of the other side on each side, so that interpolation across the seam finds its neighbour.
    images = pad(texture.reshape(-1, *texture.shape[-3:]), (1, 1, 0, 0), mode="circular")
    images = images.view(*texture.shape[:-1], width + 2).expand(*batch, -1, -1, -1).flatten(0, -4)
    u = uv[..., 0] - uv[..., 0].detach().floor()
    grid = torch.stack(((2 * (u * width + 1)) / (width + 2) - 1, 2 * uv[..., 1] - 1), -1)
    sampled = grid_sample(images, grid.reshape(-1, *grid.shape[-3:]), padding_mode="border", align_corners=False)
    return sampled.view(*batch, *sampled.shape[-3:])
