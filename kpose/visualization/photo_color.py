"""The colors of a photo on the mesh that lies in it."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate

from kpose.geometry import to_image_frame
from kpose.rendering import HardRenderer
from kpose.structures import Camera, Mesh

__all__ = ["paint_by_photo"]

SIDE = 256  # of the z-buffer that tells what is hidden
WHOLLY = 0.998  # of a pixel, but for rounding to eight bits
NEARNESS = 0.03  # behind the nearest surface, in image units, that is still that surface


@torch.no_grad()
def paint_by_photo(
    mesh: Mesh,
    image: Float[Tensor, "3 H W"],
    camera: Camera,
    *,
    mask: Float[Tensor, "H W"] | None = None,
    size: tuple[int, int] = (128, 256),
) -> Mesh:
    """Texture a mesh from a photo.

    A hidden texel takes the color of its mirror partner across ``x = 0``; what neither side shows is filled with
    the colors around it. Where the camera is wrong, the colors are in the wrong places.

    Args:
        mesh: One mesh with texture coordinates, without leading dimensions, symmetric about ``x = 0``.
        image: Square picture, RGB in [0, 1].
        camera: Camera in normalized coordinates of the picture.
        mask: Share of each pixel that the object covers; pixels that it does not cover wholly give no color.
        size: Height and width of the texture.

    Returns:
        Mesh with this texture in place of any appearance; gray where none of it is in the picture.

    Raises:
        ValueError: If the mesh has no texture coordinates.

    Example:
        >>> from kpose.templates import bird, template_mesh
        >>> mesh = template_mesh(bird())
        >>> camera = Camera(torch.tensor(0.5), torch.zeros(2), torch.eye(3))
        >>> paint_by_photo(mesh, torch.full((3, 8, 8), 0.25), camera).texture[0, 60, 60]
        tensor(0.2500)
    """
    if mesh.uv is None or mesh.uv_faces is None:
        raise ValueError("paint_by_photo needs a mesh with uv and uv_faces; got None. Add them to the mesh.")
    plain = mesh.detach().to(torch.float32)._replace(texture=None, vertex_colors=None)
    image, camera = image.to(torch.float32), camera.to(torch.float32)
    covered, places = _texels(plain, size)
    depth = HardRenderer().render(Mesh(plain.vertices, plain.faces), camera, SIDE).depth
    shown = torch.ones_like(image[:1]) if mask is None else mask[None].to(image)
    picture = torch.cat((image, shown))
    colors, seen = _look(places, picture, camera, depth)
    mirrored, mirror_seen = _look(places * places.new_tensor([-1.0, 1.0, 1.0]), picture, camera, depth)
    texture, known = colors.new_full((3, *size), 0.5), torch.zeros_like(covered)
    texture[:, covered] = torch.where(seen[:, None], colors, mirrored).mT
    known[covered] = seen | mirror_seen
    return plain._replace(texture=_filled(texture, known).clamp(0, 1))


def _texels(mesh: Mesh, size: tuple[int, int]) -> tuple[Bool[Tensor, "h w"], Float[Tensor, "texels 3"]]:
    """Find the places on the mesh of the texels that belong to it."""
    assert mesh.uv is not None
    assert mesh.uv_faces is not None
    flat = torch.nn.functional.pad(2 * mesh.uv - 1, (0, 1))
    straight = Camera(flat.new_tensor(1.0), flat.new_zeros(2), torch.eye(3).to(flat))
    chart = HardRenderer().render(Mesh(flat, mesh.uv_faces), straight, size)
    covered = chart.face_index >= 0
    corners = mesh.vertices[mesh.faces[chart.face_index[covered]]]
    return covered, (chart.barycentrics[covered][..., None] * corners).sum(-2)


def _look(
    places: Float[Tensor, "texels 3"],
    picture: Float[Tensor, "4 H W"],
    camera: Camera,
    depth: Float[Tensor, "side side"],
) -> tuple[Float[Tensor, "texels 3"], Bool[Tensor, "texels"]]:
    """Colors of a picture with its mask at places on the mesh, and which of them it shows."""
    found = to_image_frame(places, camera)
    grid = found[None, None, :, :2]
    colors = grid_sample(picture[None].to(grid), grid, padding_mode="border", align_corners=False)[0, :, 0].mT
    nearest = grid_sample(depth[None, None], grid, mode="nearest", align_corners=False)[0, 0, 0]
    inside = (found[:, :2].abs() < 1).all(-1) & nearest.isfinite() & (colors[:, 3] > WHOLLY)
    return colors[:, :3], inside & (found[:, 2] < nearest + NEARNESS)


def _filled(texture: Float[Tensor, "3 h w"], known: Bool[Tensor, "h w"]) -> Float[Tensor, "3 h w"]:
    """Fill what is not known smoothly from around it, by coarser and coarser pictures; gray if nothing is known."""
    if not known.any():
        return torch.full_like(texture, 0.5)
    weights, pictures = [known.to(texture)[None, None]], [texture[None] * known]
    while not weights[-1].all():
        share = avg_pool2d(weights[-1], 2, ceil_mode=True)
        pictures.append(avg_pool2d(pictures[-1], 2, ceil_mode=True) / share.clamp_min(1e-6))
        weights.append((share > 0).to(texture))
    filled = pictures.pop()
    for picture, weight in zip(reversed(pictures), reversed(weights[:-1]), strict=True):
        coarse = interpolate(filled, picture.shape[-2:], mode="bilinear", align_corners=False)
        filled = torch.where(weight > 0, picture, coarse)
    return filled[0]
