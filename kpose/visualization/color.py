"""Colors of values."""

from kornia.color import ColorMap, ColorMapType
from torch import Tensor


def colormap(name: ColorMapType, values: Tensor) -> Tensor:
    """Return the colors ``(3, ...)`` of values in [0, 1]; NaN is drawn as 0."""
    colors = ColorMap(name, num_colors=256, device=values.device, dtype=values.dtype).colors
    return colors[:, (255 * values.nan_to_num(0).clamp(0, 1)).round().long()]
