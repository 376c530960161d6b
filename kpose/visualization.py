"""Pictures of what was predicted: silhouettes, meshes and keypoints on photos, heatmaps, sheets of pictures.

Every function returns a float RGB tensor ``(3, H, W)`` in [0, 1] on the device of its input and opens no window.
Positions and cameras are in pixels of the picture that is drawn on (`kpose.geometry.camera` converts).
"""

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from kornia.color import ColorMap, ColorMapType
from kornia.morphology import gradient
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, normalize, pad

from kpose.geometry.camera import box_to_crop, crop_camera
from kpose.geometry.mesh import vertex_normals
from kpose.geometry.rotation import viewpoint_to_matrix
from kpose.rendering import HardRenderer, Renderer
from kpose.structures import Camera, Mesh

__all__ = [
    "draw_keypoints",
    "from_pillow",
    "heatmap_image",
    "image_grid",
    "mesh_views",
    "overlay",
    "overlay_mesh",
    "shaded_mesh",
    "to_pillow",
]

ORANGE = (1.0, 0.5, 0.15)
CLAY = (0.72, 0.76, 0.80)
# Direction from the object to the light: up, a little left, behind the viewer.
LIGHT = (-0.35, -0.65, -0.75)
AMBIENT = 0.45
SIDE_VIEWS = ((90.0, 0.0), (0.0, 0.0), (90.0, 89.0))


def overlay(
    image: Float[Tensor, "3 H W"],
    mask: Float[Tensor, "H W"] | Bool[Tensor, "H W"],
    *,
    color: tuple[float, float, float] = ORANGE,
    opacity: float = 0.4,
) -> Float[Tensor, "3 H W"]:
    """Tint a silhouette on a picture and draw its outline.

    Args:
        image: RGB in [0, 1].
        mask: Silhouette in [0, 1], of the picture's size.
        color: RGB of the tint, in [0, 1].
        opacity: Share of the tint inside the silhouette, in [0, 1]; the outline is opaque.

    Returns:
        Picture.

    Example:
        >>> overlay(torch.zeros(3, 8, 8), torch.ones(8, 8), opacity=0.5)[0, 4, 4]
        tensor(0.5000)
    """
    cover = mask.to(image)
    width = max(3, 2 * round(max(mask.shape) / 400) + 1)
    edge: Tensor = gradient(cover[None, None], torch.ones(width, width).to(image))[0, 0]
    share = torch.maximum(opacity * cover, edge.clamp(0, 1))
    return _blend(image, image.new_tensor(color)[:, None, None], share)


def overlay_mesh(
    image: Float[Tensor, "3 H W"],
    mesh: Mesh,
    camera: Camera,
    *,
    color: tuple[float, float, float] = ORANGE,
    opacity: float = 0.7,
) -> Float[Tensor, "3 H W"]:
    """Draw a shaded mesh on a picture.

    Args:
        image: RGB in [0, 1].
        mesh: One mesh, without leading dimensions.
        camera: Camera in pixels of the picture.
        color: RGB of a mesh that has no colours of its own, in [0, 1].
        opacity: Share of the mesh where it covers the picture, in [0, 1].

    Returns:
        Picture; unchanged where the mesh lies outside it.

    Example:
        >>> from kpose.templates import bird, template_mesh
        >>> camera = Camera(torch.tensor(9.0), torch.tensor([16.0, 8.0]), torch.eye(3))
        >>> overlay_mesh(torch.zeros(3, 16, 32), template_mesh(bird()), camera).shape
        torch.Size([3, 16, 32])
    """
    height, width = image.shape[-2:]
    side = max(height, width)
    # Normalised coordinates have one unit in both directions in a square only.
    square = crop_camera(camera, box_to_crop(camera.translation.new_tensor([0, 0, side, side])))
    rgb, mask = shaded_mesh(mesh, square, side, color=color)
    return _blend(image, rgb[:, :height, :width].to(image), opacity * mask[:height, :width].to(image))


def shaded_mesh(
    mesh: Mesh,
    camera: Camera,
    size: int,
    *,
    color: tuple[float, float, float] = CLAY,
    renderer: Renderer | None = None,
) -> tuple[Float[Tensor, "3 {size} {size}"], Float[Tensor, "{size} {size}"]]:
    """Draw a mesh under a light behind the viewer's shoulder.

    Args:
        mesh: One mesh, without leading dimensions.
        camera: Camera in normalised coordinates of the square picture.
        size: Side of the picture, in pixels.
        color: RGB of a mesh that has no colours of its own, in [0, 1].
        renderer: What draws; the z-buffer when not given.

    Returns:
        RGB on black, and the share of each pixel that the mesh covers.

    Example:
        >>> from kpose.templates import bird, template_mesh
        >>> camera = Camera(torch.tensor(0.5), torch.zeros(2), torch.eye(3))
        >>> rgb, mask = shaded_mesh(template_mesh(bird()), camera, 32)
    """
    renderer = HardRenderer() if renderer is None else renderer
    mesh = Mesh(mesh.vertices.detach(), *mesh[1:])
    with torch.no_grad():
        seen = renderer.render(mesh, camera, 2 * size)  # four samples a pixel
        normals = vertex_normals(mesh.vertices, mesh.faces) @ camera.rotation.mT
        corners = normals[mesh.faces[seen.face_index.clamp_min(0)]]
        normal = normalize((seen.barycentrics[..., None] * corners).sum(-2), dim=-1)
        light = normalize(normal.new_tensor(LIGHT), dim=0)
        brightness = AMBIENT + (1 - AMBIENT) * (normal @ light).clamp_min(0)
        surface = normal.new_tensor(color)[:, None, None] if seen.rgb is None else seen.rgb
        covered = (seen.face_index >= 0).to(normal)
        rgb = avg_pool2d((surface * brightness * covered)[None], 2)[0]
        mask = avg_pool2d(covered[None], 2)[0]
    # The average of a pixel at the outline holds black; its colour is that of the covered samples.
    return (rgb / mask.clamp_min(0.25)).clamp(0, 1), mask


def mesh_views(
    mesh: Mesh,
    size: int = 192,
    *,
    viewpoints: Sequence[tuple[float, float]] = SIDE_VIEWS,
    background: float = 1.0,
) -> Float[Tensor, "3 {size} _"]:
    """Draw a mesh from several sides, next to each other, as large as the frame allows.

    Args:
        mesh: One mesh, without leading dimensions, in the object frame of kpose.
        size: Side of each view, in pixels.
        viewpoints: Azimuth and elevation of each view, in degrees (see `viewpoint_to_matrix`); from the side, the
            front and above if not given.
        background: Grey value behind the mesh, in [0, 1].

    Returns:
        Picture of as many squares as there are views, all at the same scale.

    Raises:
        ValueError: If there are no viewpoints.

    Example:
        >>> from kpose.templates import bird, template_mesh
        >>> mesh_views(template_mesh(bird()), 24).shape
        torch.Size([3, 24, 72])
    """
    if not viewpoints:
        raise ValueError("mesh_views needs at least one viewpoint; got none. Give (azimuth, elevation) in degrees.")
    vertices = mesh.vertices.detach()
    low, high = vertices.amin(-2), vertices.amax(-2)
    centre = (low + high) / 2
    reach = (vertices - centre).norm(dim=-1).amax().clamp_min(torch.finfo(vertices.dtype).tiny)
    pictures = []
    for viewpoint in viewpoints:
        azimuth, elevation = (vertices.new_tensor(math.radians(angle)) for angle in viewpoint)
        rotation = viewpoint_to_matrix(azimuth, elevation, torch.zeros_like(azimuth))
        scale = 0.95 / reach
        camera = Camera(scale, -scale * (rotation @ centre)[:2], rotation)
        rgb, mask = shaded_mesh(mesh, camera, size)
        pictures.append(_blend(torch.full_like(rgb, background), rgb, mask))
    return torch.cat(pictures, -1)


def draw_keypoints(
    image: Float[Tensor, "3 H W"],
    keypoints: Float[Tensor, "N 2"],
    confidence: Float[Tensor, "N"] | None = None,
    *,
    inliers: Bool[Tensor, "N"] | None = None,
    radius: float | None = None,
) -> Float[Tensor, "3 H W"]:
    """Draw keypoints as dots, dark violet where confidence is low and yellow where it is high.

    Args:
        image: RGB in [0, 1].
        keypoints: Positions in pixels; those outside the picture or not finite are left out.
        confidence: Values in [0, 1], all 1 when not given. The highest is drawn last, on top.
        inliers: Those that agree with the camera; the others are drawn as rings.
        radius: Radius of a dot, in pixels; about a hundredth of the picture when not given.

    Returns:
        Picture.

    Example:
        >>> draw_keypoints(torch.zeros(3, 16, 16), torch.tensor([[8.0, 8.0]]))[:, 8, 8]
        tensor([0.9400, 0.9752, 0.1313])
    """
    height, width = image.shape[-2:]
    radius = max(3.0, 0.009 * max(height, width)) if radius is None else radius
    confidence = image.new_ones(len(keypoints)) if confidence is None else confidence.detach().to(image)
    colors = _colormap(ColorMapType.plasma, confidence)
    picture = image.clone()
    for number in confidence.argsort().tolist():
        point = keypoints[number].detach().to(image)
        if not point.isfinite().all():
            continue
        x, y = point.tolist()
        hole = 0.0 if inliers is None or bool(inliers[number]) else 0.55 * radius
        _draw_dot(picture, x, y, radius, hole, colors[:, number])
    return picture


def _draw_dot(picture: Tensor, x: float, y: float, radius: float, hole: float, color: Tensor) -> None:
    """Draw an antialiased disc or ring with a dark rim, in place."""
    height, width = picture.shape[-2:]
    rim = max(1.0, 0.3 * radius)
    reach = radius + rim + 1
    top, bottom = max(math.floor(y - reach), 0), min(math.ceil(y + reach), height)
    left, right = max(math.floor(x - reach), 0), min(math.ceil(x + reach), width)
    if top >= bottom or left >= right:
        return
    rows = torch.arange(top, bottom, device=picture.device)[:, None] + 0.5 - y
    columns = torch.arange(left, right, device=picture.device) + 0.5 - x
    distance = torch.hypot(rows, columns)
    window = picture[:, top:bottom, left:right]
    outside = (distance - hole + 0.5).clamp(0, 1) if hole else torch.ones_like(distance)
    dark = (radius + rim + 0.5 - distance).clamp(0, 1) * outside
    disc = (radius + 0.5 - distance).clamp(0, 1) * outside
    drawn = _blend(_blend(window, window.new_full((3, 1, 1), 0.05), dark), color[:, None, None], disc)
    picture[:, top:bottom, left:right] = drawn


def heatmap_image(
    heatmaps: Float[Tensor, "N h w"], size: int | tuple[int, int] | None = None
) -> Float[Tensor, "3 H W"]:
    """Draw the highest value over all heatmaps in the colours of viridis, from 0 to 1.

    Args:
        heatmaps: Maps; values beyond [0, 1] are clamped.
        size: Side, or height and width, of the picture in pixels; the maps' own when not given.

    Returns:
        Picture.

    Example:
        >>> heatmap_image(torch.zeros(4, 8, 8), size=16).shape
        torch.Size([3, 16, 16])
    """
    heat = heatmaps.detach().to(torch.promote_types(heatmaps.dtype, torch.float32)).amax(0).clamp(0, 1)
    if size is not None:
        shape = (size, size) if isinstance(size, int) else size
        heat = interpolate(heat[None, None], shape, mode="bilinear", align_corners=False)[0, 0]
    return _colormap(ColorMapType.viridis, heat)


def image_grid(
    images: Sequence[Float[Tensor, "3 _ _"]],
    labels: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    gap: int = 6,
) -> Float[Tensor, "3 H W"]:
    """Lay pictures out on a white sheet, each in the middle of its cell, with its label underneath.

    Args:
        images: Pictures of any sizes, RGB in [0, 1].
        labels: One line of text for each; too long ones are cut.
        columns: Pictures in a row; about as many as there are rows when not given.
        gap: White pixels around each picture.

    Returns:
        Sheet.

    Raises:
        ValueError: If there are no pictures, or not as many labels.

    Example:
        >>> image_grid([torch.zeros(3, 10, 10), torch.ones(3, 10, 10)], columns=2, gap=0).shape
        torch.Size([3, 10, 20])
    """
    if len(images) == 0 or (labels is not None and len(labels) != len(images)):
        given = "no" if labels is None else len(labels)
        raise ValueError(
            f"image_grid needs pictures and as many labels, or none; got {len(images)} pictures and {given} labels."
        )
    columns = min(len(images), columns or math.ceil(math.sqrt(len(images))))
    height = max(image.shape[-2] for image in images)
    width = max(image.shape[-1] for image in images)
    text = 0 if labels is None else 18
    cells = []
    for number, image in enumerate(images):
        down, right = height - image.shape[-2], width - image.shape[-1]
        border = (right // 2, right - right // 2, down // 2, down - down // 2)
        cell = pad(image.detach().clamp(0, 1), border, value=1.0)
        if labels is not None:
            cell = torch.cat((cell, _text(labels[number], text, width).to(cell)), -2)
        cells.append(pad(cell, (gap, gap, gap, gap), value=1.0))
    cells += [torch.ones_like(cells[0])] * (-len(cells) % columns)
    return rearrange(torch.stack(cells), "(row column) c h w -> c (row h) (column w)", column=columns)


def _text(line: str, height: int, width: int) -> Tensor:
    """Draw one line of dark text on white, in the middle."""
    canvas = Image.new("RGB", (width, height), "white")
    drawing = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(13)
    while len(line) > 1 and drawing.textlength(line, font) > width:
        line = line.rstrip("…")[:-1] + "…"
    drawing.text((width / 2, height / 2), line, fill=(40, 40, 40), font=font, anchor="mm")
    return from_pillow(canvas)


def to_pillow(image: Float[Tensor, "3 H W"]) -> Image.Image:
    """Convert a picture to Pillow's.

    Args:
        image: RGB; values beyond [0, 1] are clamped and NaN is black.

    Returns:
        Picture of eight bits a colour.

    Example:
        >>> to_pillow(torch.ones(3, 2, 4)).size
        (4, 2)
    """
    pixels = (255 * image.detach().float().nan_to_num(0).clamp(0, 1)).round().to(torch.uint8)
    return Image.fromarray(rearrange(pixels, "c h w -> h w c").contiguous().cpu().numpy())


def from_pillow(picture: Image.Image) -> Float[Tensor, "3 H W"]:
    """Convert Pillow's picture to a tensor.

    Args:
        picture: Picture of any mode.

    Returns:
        RGB in [0, 1].

    Example:
        >>> from_pillow(Image.new("L", (4, 2), 255)).shape
        torch.Size([3, 2, 4])
    """
    pixels = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
    return rearrange(pixels, "(h w c) -> c h w", w=picture.width, c=3).float() / 255


def _colormap(name: ColorMapType, values: Tensor) -> Tensor:
    """Give the colours ``(3, ...)`` of values in [0, 1]; NaN is drawn as 0."""
    colors = ColorMap(name, num_colors=256, device=values.device, dtype=values.dtype).colors
    return colors[:, (255 * values.nan_to_num(0).clamp(0, 1)).round().long()]


def _blend(below: Tensor, above: Tensor, share: Tensor) -> Tensor:
    return below + share * (above - below)
