"""Textures: uv images decoded from features, without a visible seam."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate, leaky_relu, pad

from kpose._limits import MAX_SIDE
from kpose.recipe import Recorded
from kpose.structures import Features, FeatureSpec, Template

__all__ = ["TextureHead"]

START = (4, 8)
GROUP = 16


class TextureHead(Recorded, nn.Module):
    """Decode a texture image from the coarsest feature map by residual blocks and bilinear upsampling.

    The image is twice as wide as high, since u goes around the object once while v goes half around. Every layer
    takes the last column for the neighbor of the first, so that nothing shows where the texture closes. A template
    whose texture coordinates reach around further than once, into a margin that repeats the other side, gets that
    margin.

    Args:
        spec: What the backbone gives.
        template: Tells how texture coordinates close.
        height: Texture pixels from front to rear, 8 times a power of two; U-CMR's rule, the largest power of two up
            to 6 times the square root of the number of faces, gives 128 for the built-in bird.
        width: Channels of the last block; earlier ones have up to 16 times as many.
        symmetric: Give the left and the right side the same texture.

    Raises:
        ValueError: If ``height`` is none of these, or ``symmetric`` is set and the template's texture coordinates
            of mirrored vertices do not mirror each other.

    Source:
        Goel et al., ECCV 2020 (released code): SPADE's generator without its conditional normalization. Group
        normalization for batch normalization keeps an image's texture apart from its batch.

    Example:
        >>> from kpose.templates import bird
        >>> head = TextureHead(FeatureSpec((8,), (32,)), bird(), height=32, width=4)
        >>> head(Features((torch.zeros(2, 8, 2, 2),))).shape
        torch.Size([2, 3, 32, 64])
    """

    columns: Tensor

    def __init__(
        self,
        spec: FeatureSpec,
        template: Template,
        *,
        height: int = 128,
        width: int = 16,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        steps = round(math.log2(height / START[0])) if height > 0 else 0
        if steps < 1 or height != START[0] * 2**steps or height > MAX_SIDE:
            raise ValueError(
                f"TextureHead needs a height of 8 times a power of two, at most {MAX_SIDE}; got {height}. Take 128."
            )
        if symmetric and not _mirrors(template):
            raise ValueError(
                "TextureHead needs texture coordinates that a mirror turns from (u, v) into (1 - u, v) to be "
                "symmetric; the template's are others. Leave symmetric off, or give it spherical coordinates."
            )
        self.symmetric = symmetric
        self.reduce = nn.Conv2d(spec.channels[-1], 16 * width, 1)
        self.start = nn.ModuleList([ResidualBlock(16 * width, 16 * width)])
        sizes = [min(16, 2 ** (steps - 1 - k)) * width for k in range(steps)]
        sources = [16 * width, *sizes[:-1]]
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in zip(sources, sizes, strict=True))
        self.output = nn.Conv2d(sizes[-1], 3, 3, padding=(1, 0))
        # Where each column of the image lies on the circle; a plain closed texture has every column once.
        period, full = _period(template), 2 * height
        place = ((torch.arange(full) + 0.5) / full - (1 - period) / 2) / period
        self.register_buffer("columns", place.remainder(1.0), persistent=False)
        self.repeats = period < 1

    def forward(self, features: Features) -> Float[Tensor, "batch 3 h w"]:
        """Decode the textures.

        Args:
            features: What the backbone gives.

        Returns:
            RGB in [0, 1].
        """
        x = interpolate(self.reduce(features.maps[-1]), START, mode="bilinear", align_corners=False)
        for block in self.start:
            x = block(x)
        for block in self.blocks:
            x = block(_double(x))
        x = self.output(_wrap(leaky_relu(x, 0.2), 1)).float()
        if self.repeats:
            x = self._repeat(x)
        if self.symmetric:
            x = (x + x.flip(-1)) / 2
        return x.sigmoid()

    def _repeat(self, x: Tensor) -> Tensor:
        """Lay the closed image out over the texture's width, with its margins."""
        height, width = x.shape[-2:]
        # Two more columns on either side: what is asked for always lies between two of them.
        u = (2 * (self.columns * width + 2) / (width + 4) - 1).expand(height, -1)
        v = ((2 * torch.arange(height, device=x.device) + 1) / height - 1)[:, None].expand_as(u)
        grid = torch.stack((u, v), -1).expand(len(x), -1, -1, -1)
        return grid_sample(_wrap(x, 2), grid, mode="bilinear", padding_mode="border", align_corners=False)


class ResidualBlock(nn.Module):
    """Two normalized 3×3 convolutions around a shortcut, closed horizontally."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        middle = min(source, target)
        self.first_norm, self.second_norm = _norm(source), _norm(middle)
        self.first = nn.Conv2d(source, middle, 3, padding=(1, 0))
        self.second = nn.Conv2d(middle, target, 3, padding=(1, 0))
        same = source == target
        self.shortcut = nn.Identity() if same else nn.Conv2d(source, target, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        inner = self.first(_wrap(leaky_relu(self.first_norm(x), 0.2), 1))
        inner = self.second(_wrap(leaky_relu(self.second_norm(inner), 0.2), 1))
        total: Tensor = self.shortcut(x) + inner
        return total


def _norm(channels: int) -> nn.GroupNorm:
    # Groups of many channels: in groups of one an image's mean color would be lost.
    return nn.GroupNorm(math.gcd(max(1, channels // GROUP), channels), channels)


def _wrap(x: Tensor, columns: int) -> Tensor:
    """Repeat columns of the other side on either side."""
    return pad(x, (columns, columns, 0, 0), mode="circular")


def _double(x: Tensor) -> Tensor:
    """Enlarge twofold, the last column being the neighbor of the first."""
    return interpolate(_wrap(x, 1), scale_factor=2, mode="bilinear", align_corners=False)[..., 2:-2]


def _corners(template: Template) -> Tensor:
    """Return vertex, u and v of each row of texture coordinates that is used, in double precision."""
    vertex = template.vertices.new_full((len(template.uv),), -1).long()
    vertex[template.uv_faces.flatten()] = template.faces.flatten()
    rows = torch.cat((vertex[:, None].double(), template.uv.double()), -1)
    return rows[vertex >= 0]


def _period(template: Template) -> float:
    """Return the distance in u after which the texture repeats, 1 unless it has margins."""
    vertex, u, v = _corners(template).unbind(-1)
    same = (vertex[:, None] == vertex) & ((v[:, None] - v).abs() < 1e-6) & (v > 1e-6) & (v < 1 - 1e-6)
    gaps = (u[:, None] - u)[same]
    gaps = gaps[gaps > 0.5]
    if len(gaps) == 0:
        return 1.0
    # A few corners of a face around a pole are moved to fit into the margin.
    middle = float(gaps.median())
    agree = (gaps - middle).abs() < 1e-4
    return round(middle, 6) if agree.float().mean() > 0.75 else 1.0


def _mirrors(template: Template) -> bool:
    """Return whether mirrored vertices have mirrored texture coordinates."""
    corners = _corners(template)
    mirrored = torch.stack((template.mirror[corners[:, 0].long()].double(), 1 - corners[:, 1], corners[:, 2]), -1)
    digits = corners.new_tensor([1.0, 1e4, 1e4])
    # The largest distance decides: rounding might part what is next to each other.
    nearest = torch.cdist(mirrored * digits, corners * digits, p=float("inf")).amin(-1)
    return bool(nearest.max() < 1.0)
