import numpy as np
import pytest
import torch
from PIL import Image

from kpose._cropping import crop_image, square_box


def ramp(width: int, height: int) -> Image.Image:
    """A picture whose gray value is 4 x + 2 y at the pixel center (x, y)."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return Image.fromarray((4 * x + 2 * y).astype(np.float32))


def test_square_box_holds_the_box_and_keeps_its_center():
    box = torch.tensor([[3.0, 5.0, 13.0, 8.0], [0.0, 0.0, 2.0, 6.0]])
    square = square_box(box, 0.05)
    assert torch.allclose(square[:, 2] - square[:, 0], torch.tensor([11.0, 6.6]))
    assert torch.allclose(square[:, 3] - square[:, 1], torch.tensor([11.0, 6.6]))
    assert torch.allclose(square[:, :2] + square[:, 2:], box[:, :2] + box[:, 2:])


@pytest.mark.parametrize("size", [7, 16, 40])
def test_crop_meets_positions_to_a_fraction_of_a_pixel(size):
    left, top, side = 6.3, 4.6, 15.7
    crop = np.asarray(crop_image(ramp(40, 30), (left, top, left + side, top + side), size))
    center = (np.arange(size) + 0.5) / size * side
    expected = 4 * (left + center)[None] + 2 * (top + center)[:, None]
    inner = slice(2, -2)  # at the border the filter is cut off by the crop's own edge
    assert np.abs(crop - expected)[inner, inner].max() < 0.25  # 0.06 of a pixel


@pytest.mark.parametrize("box", [(0.0, 0.0, 0.0, 0.0), (5.0, 5.0, 1.0, 1.0), (0.0, 0.0, float("nan"), 1.0)])
def test_a_box_without_area_is_refused(box):
    with pytest.raises(ValueError, match="box with an area"):
        crop_image(Image.new("L", (4, 4)), box, 2)
