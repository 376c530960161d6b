"""Pictures to Pillow's and back, colors of values, and sheets of many pictures."""

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from kornia.color import ColorMap, ColorMapType
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate, pad

from kpose._precision import widened

__all__ = ["colormap", "from_pillow", "heatmap_image", "image_grid", "to_pillow"]


def to_pillow(image: Float[Tensor, "3 H W"]) -> Image.Image:
    """Convert a picture to Pillow's.

    Args:
        image: RGB; values beyond [0, 1] are clamped and NaN is black.

    Returns:
        Picture of eight bits a color.

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


def colormap(name: ColorMapType, values: Tensor) -> Tensor:
    """Return the colors ``(3, ...)`` of values in [0, 1]; NaN is drawn as 0."""
    colors = ColorMap(name, num_colors=256, device=values.device, dtype=values.dtype).colors
    return colors[:, (255 * values.nan_to_num(0).clamp(0, 1)).round().long()]


def heatmap_image(
    heatmaps: Float[Tensor, "N h w"], size: int | tuple[int, int] | None = None
) -> Float[Tensor, "3 H W"]:
    """Draw the highest value over all heatmaps in the colors of viridis, from 0 to 1.

    Args:
        heatmaps: Maps; values beyond [0, 1] are clamped.
        size: Side, or height and width, of the picture in pixels; the maps' own when not given.

    Returns:
        Picture.

    Example:
        >>> heatmap_image(torch.zeros(4, 8, 8), size=16).shape
        torch.Size([3, 16, 16])
    """
    heat = widened(heatmaps.detach()).amax(0).clamp(0, 1)
    if size is not None:
        shape = (size, size) if isinstance(size, int) else size
        heat = interpolate(heat[None, None], shape, mode="bilinear", align_corners=False)[0, 0]
    return colormap(ColorMapType.viridis, heat)


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
