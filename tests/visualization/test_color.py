import math

import torch
from kornia.color import ColorMapType

from kpose.visualization.color import colormap


def test_viridis_from_violet_to_yellow_and_nan_as_zero() -> None:
    low, high, nothing = colormap(ColorMapType.viridis, torch.tensor([0.0, 1.0, math.nan])).unbind(-1)
    torch.testing.assert_close(low, torch.tensor([0.267, 0.005, 0.329]), atol=0.01, rtol=0)
    torch.testing.assert_close(high, torch.tensor([0.993, 0.906, 0.144]), atol=0.01, rtol=0)
    assert torch.equal(nothing, low)
