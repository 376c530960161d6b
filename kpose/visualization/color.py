"""Colours of values, and drawing one picture over another."""

from kornia.color import ColorMap, ColorMapType
from torch import Tensor

__all__: list[str] = []


def colormap(name: ColorMapType, values: Tensor) -> Tensor:
    """Give the colours ``(3, ...)`` of values in [0, 1]; NaN is drawn as 0."""
    colors = ColorMap(name, num_colors=256, device=values.device, dtype=values.dtype).colors
    return colors[:, (255 * values.nan_to_num(0).clamp(0, 1)).round().long()]


def blend(below: Tensor, above: Tensor, share: Tensor) -> Tensor:
    """Mix pictures: the share of what is above, in [0, 1]."""
    return below + share * (above - below)
