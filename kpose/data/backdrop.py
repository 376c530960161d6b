"""Random backgrounds for synthetic pictures: sky or meadow gradients, blurred noise, foliage and branches."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from kpose.data.draws import Draws

__all__ = ["random_backdrop"]

_TONES = (  # greens, browns, skies, water, snow: means of out-of-focus backgrounds
    (0.30, 0.40, 0.18),
    (0.45, 0.52, 0.25),
    (0.18, 0.26, 0.12),
    (0.55, 0.58, 0.38),
    (0.42, 0.34, 0.24),
    (0.58, 0.50, 0.38),
    (0.25, 0.20, 0.15),
    (0.62, 0.74, 0.86),
    (0.45, 0.60, 0.78),
    (0.78, 0.83, 0.88),
    (0.35, 0.45, 0.52),
    (0.60, 0.60, 0.58),
    (0.85, 0.86, 0.88),
    (0.70, 0.66, 0.52),
)
_BRANCH_SHARE = 0.5
_FOLIAGE_SHARE = 0.7


def random_backdrop(
    size: int, feet: Float[Tensor, "2"], draws: Draws, *, count: int = 24
) -> Float[Tensor, "3 size size"]:
    """Paint a background.

    Args:
        size: Side of the picture, in pixels.
        feet: Where the bird stands, in normalised coordinates: a branch, if there is one, passes there.
        draws: Random numbers of one row.
        count: Number of leaves where there is foliage.

    Returns:
        RGB in [0, 1].

    Example:
        >>> random_backdrop(8, torch.zeros(2), Draws(0, [0])).shape
        torch.Size([3, 8, 8])
    """
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    x, y = axis.expand(size, size), axis[:, None].expand(size, size)
    first, second = _tone(draws), _tone(draws)
    angle = float(draws.normal(sd=0.5)) + math.pi / 2
    ramp = ((math.cos(angle) * x + math.sin(angle) * y) / 2 + 0.5).clamp(0, 1)
    image = first + (second - first) * ramp
    for cells, strength in ((3, 0.10), (6, 0.05), (14, 0.025)):
        field = interpolate(draws.normal(3, cells, cells), size=(size, size), mode="bicubic", align_corners=False)[
            0
        ]
        grey = field.mean(0, keepdim=True)
        image = image + strength * float(draws.uniform(low=0.3, high=1.3)) * (1.2 * grey + 0.18 * field)
    if float(draws.uniform()) < _FOLIAGE_SHARE:
        image = _foliage(image, x, y, count, draws)
    if float(draws.uniform()) < _BRANCH_SHARE:
        image = _branch(image, x, y, feet, draws)
    return image.clamp(0, 1)


def _tone(draws: Draws) -> Float[Tensor, "3 1 1"]:
    """Draw a colour near one of the tones."""
    tone = torch.tensor(_TONES)[draws.integers(len(_TONES))[0]]
    return ((tone + draws.normal(3, sd=0.04)[0]) * draws.uniform(low=0.75, high=1.15)).clamp(0, 1)[:, None, None]


def _foliage(
    image: Float[Tensor, "3 h w"],
    x: Float[Tensor, "h w"],
    y: Float[Tensor, "h w"],
    count: int,
    draws: Draws,
) -> Float[Tensor, "3 h w"]:
    """Lay soft ellipses over the image: leaves out of focus."""
    place = draws.uniform(count, 2, low=-1.2, high=1.2)[0]
    reach = draws.uniform(count, low=0.05, high=0.32)[0]
    slim = draws.uniform(count, low=0.35, high=1.0)[0]
    angle = draws.uniform(count, high=math.pi)[0]
    blur = draws.uniform(low=0.15, high=0.8)
    cover = draws.uniform(count, low=0.15, high=0.7)[0]
    tones = torch.stack([_tone(draws) for _ in range(3)])[draws.integers(3, count)[0]]
    tones = tones * draws.uniform(count, 1, 1, 1, low=0.75, high=1.25)[0]
    dx, dy = x - place[:, 0, None, None], y - place[:, 1, None, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    radius = torch.hypot(cos * dx + sin * dy, (cos * dy - sin * dx) / slim[:, None, None]) / reach[:, None, None]
    alpha = torch.sigmoid((1 - radius) / (0.3 * blur)) * cover[:, None, None]
    for leaf, tone in zip(alpha, tones, strict=True):
        image = torch.lerp(image, tone.expand_as(image), leaf)
    return image


def _branch(
    image: Float[Tensor, "3 h w"],
    x: Float[Tensor, "h w"],
    y: Float[Tensor, "h w"],
    feet: Float[Tensor, "2"],
    draws: Draws,
) -> Float[Tensor, "3 h w"]:
    """Draw a rounded branch with bark through the bird's feet."""
    angle, bend = draws.normal(sd=0.3)[0], draws.normal(sd=0.08)[0]
    width = draws.uniform(low=0.03, high=0.09)[0]
    along = (x - feet[0]) * angle.cos() + (y - feet[1]) * angle.sin()
    across = (y - feet[1]) * angle.cos() - (x - feet[0]) * angle.sin() - width + bend * along.square()
    bark = interpolate(draws.normal(1, 5, 40), size=x.shape, mode="bicubic", align_corners=False)[0]
    tone = draws.uniform(1, 1, low=0.15, high=0.5)[0] * torch.tensor([1.05, 0.95, 0.8])[:, None, None]
    tone = (tone + draws.normal(3, 1, 1, sd=0.03)[0]) * (1 - 0.45 * across / width) + 0.03 * bark
    alpha = torch.sigmoid((width - across.abs()) * 0.6 * x.shape[-1])
    return torch.lerp(image, tone, alpha)
