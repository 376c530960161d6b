import math

import pytest
import torch
from kornia.color import ColorMapType
from PIL import Image
from visualization.checks import is_picture

from kpose.visualization import from_pillow, heatmap_image, image_grid, to_pillow
from kpose.visualization.pictures import colormap


def test_pillow_round_trip() -> None:
    picture = Image.effect_noise((7, 5), 90).convert("RGB")
    assert to_pillow(from_pillow(picture)).tobytes() == picture.tobytes()
    assert to_pillow(torch.full((3, 2, 2), math.nan)).getpixel((0, 0)) == (0, 0, 0)
    assert to_pillow(torch.full((3, 2, 2), 7.0)).getpixel((0, 0)) == (255, 255, 255)


def test_viridis_from_violet_to_yellow_and_nan_as_zero() -> None:
    low, high, nothing = colormap(ColorMapType.viridis, torch.tensor([0.0, 1.0, math.nan])).unbind(-1)
    torch.testing.assert_close(low, torch.tensor([0.267, 0.005, 0.329]), atol=0.01, rtol=0)
    torch.testing.assert_close(high, torch.tensor([0.993, 0.906, 0.144]), atol=0.01, rtol=0)
    assert torch.equal(nothing, low)


def test_heatmaps_keep_their_place() -> None:
    maps = torch.zeros(3, 16, 16)
    maps[1, 4, 12] = 2.0
    maps[2, 9, 2] = -1.0
    picture = heatmap_image(maps, size=(64, 96))
    assert is_picture(picture, 64, 96)
    brightest = picture.sum(0).argmax().item()
    assert (brightest // 96) // 4 == 4
    assert (brightest % 96) // 6 == 12
    assert heatmap_image(maps).shape == (3, 16, 16)


def test_grid_puts_pictures_in_rows() -> None:
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 10, 20)
    blue = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand(3, 10, 20)
    sheet = image_grid([red, blue, blue], columns=2, gap=2)
    assert is_picture(sheet, 28, 48)
    assert sheet[:, 7, 12].equal(red[:, 0, 0])
    assert sheet[:, 7, 36].equal(blue[:, 0, 0])
    assert sheet[:, 21, 36].equal(torch.ones(3))


def test_grid_labels_are_cut_to_the_cell() -> None:
    images = [torch.zeros(3, 12, 40), torch.zeros(3, 8, 30)]
    sheet = image_grid(images, ["short", "a label that does not fit under its picture"], columns=2, gap=0)
    assert is_picture(sheet, 30, 80)
    assert sheet[:, 12:].min() < 0.5  # text


@pytest.mark.parametrize(("images", "labels"), [([], None), ([torch.zeros(3, 4, 4)], ["a", "b"])])
def test_grid_needs_a_label_for_each_picture(images: list, labels: list | None) -> None:
    with pytest.raises(ValueError, match="image_grid needs pictures"):
        image_grid(images, labels)
