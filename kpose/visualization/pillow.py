"""Pictures to Pillow's and back."""

import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

__all__ = ["from_pillow", "to_pillow"]


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
